"""Numbers as a reader may quote them: means and deviations, significant digits, the decimals of a publication."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

NOT_FINITE = "not finite"
MOST_DECIMALS = 6
SMALLEST = 1e-4  # what is smaller, or not below LARGEST, is written with an exponent
LARGEST = 1e7


def as_number(value: Any) -> float:
    """Returns a finite number, or nan for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return math.nan


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Returns the mean and the sample standard deviation (n - 1), None for one value."""
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, None
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def needs_exponent(value: float) -> bool:
    return value != 0 and not SMALLEST <= abs(value) < LARGEST


def decimals_for(value: float, digits: int) -> int:
    """Returns how many decimals show that many significant digits of a number; none for 0."""
    if value == 0:
        return 0
    return min(max(digits - 1 - math.floor(math.log10(abs(value))), 0), MOST_DECIMALS)


def decimals_of(value: float, std: float | None = None, printed: int = 0) -> int:
    """Returns the decimals of a number of ours: as `printed` beside it, as long as that hides nothing.

    It hides something where fewer than two significant digits of the value, or nothing of the deviation, are left.
    Then, and without a printed number, there are two digits of the deviation, or four of a number that has none.
    """
    enough = value == 0 or abs(value) >= 10 ** (1 - printed)
    if printed and enough and not (std and std < 0.5 * 10**-printed):
        return printed
    return decimals_for(std, 2) if std else decimals_for(value, 4)


def format_number(value: float, std: float | None = None, printed: int = 0) -> str:
    """Returns "12.35 ± 0.21", with the decimals of `decimals_of`."""
    if not math.isfinite(value):
        return NOT_FINITE
    std = std if std is not None and math.isfinite(std) else None
    if needs_exponent(max(abs(value), std or 0)):
        return f"{value:.3e}" + (f" ± {std:.1e}" if std is not None else "")
    if isinstance(value, int):
        return f"{value:,}"
    decimals = decimals_of(value, std, printed)
    return f"{value:.{decimals}f}" + (f" ± {std:.{decimals}f}" if std is not None else "")


def format_count(value: float) -> str:
    """Returns "494,350", or four digits of a mean of counts that is no whole number."""
    return f"{value:,.0f}" if value == int(value) else format_number(value)


def printed_decimals(values: Iterable[float | None]) -> int:
    """Returns the decimals that a publication used for a column: the most that any of its plain numbers needs."""
    texts = [repr(float(v)) for v in values if v is not None]
    return max((len(t.split(".")[1]) for t in texts if "e" not in t and not t.endswith(".0")), default=0)


def format_printed(value: float, std: float | None, decimals: int) -> str:
    """Returns a published number with its column's decimals, trailing zeros included; tiny ones with an exponent."""
    if needs_exponent(value) or (value != 0 and abs(value) < 0.5 * 10**-decimals):
        return f"{value:g}"
    return f"{value:,.{decimals}f}" + (f" ± {std:.{decimals}f}" if std is not None else "")


def format_difference(value: float, decimals: int) -> str:
    """Returns "+0.27" or "−2.27"; two significant digits where the decimals would hide the difference."""
    if value and abs(value) < 0.5 * 10**-decimals:
        decimals = decimals_for(value, 2)
    text = f"{abs(value):.{decimals}f}"
    return ("−" if value < 0 and float(text) else "+" if value > 0 and float(text) else "±") + text
