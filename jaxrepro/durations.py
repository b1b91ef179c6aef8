"""Durations: "1200 steps", "100 epochs", "10%" of the run, or "end"; one string, so exactly one unit.

num_steps("100 epochs", steps_per_epoch=390.6)  # 39060
"""

import math

from jaxrepro.errors import UserError

MOST_STEPS = 2**31 - 1  # steps are int32
UNITS = ("steps", "epochs", "%")


def split_duration(text: str) -> tuple[float, str]:
    """Returns (number, unit) of "100 steps", "1.2e6 steps", "3 epochs" or "10%".

    Raises:
      ValueError: the text is not a positive number with one of the units.
    """
    text = str(text).strip().lower().replace("percent", "%").replace("_", "")
    for unit in UNITS:
        for spelling in (unit, unit.removesuffix("s")):
            if spelling and text.endswith(spelling):
                number = float(text.removesuffix(spelling))
                if not (number > 0 and math.isfinite(number)):
                    raise ValueError(text)
                return number, unit
    raise ValueError(text)


def check_duration(field: str, text: str, units: tuple[str, ...] = UNITS) -> None:
    """Raises UserError unless `text` is a duration in one of the units (or "end" where percent is allowed)."""
    if text == "end" and "%" in units:
        return
    try:
        if split_duration(text)[1] in units:
            return
    except ValueError:
        pass
    examples = {"steps": "'1000 steps'", "epochs": "'5 epochs'", "%": "'10%'"}
    raise UserError(
        f"{field} is {text!r}; write {', '.join(examples[u] for u in units)}" + (" or 'end'" * ("%" in units))
    )


def num_steps(text: str, *, steps_per_epoch: float, total: int | None = None) -> int:
    """Returns the steps of a duration, at least 1; percent and "end" are of `total`."""
    if text == "end":
        return total
    number, unit = split_duration(text)
    factor = {"steps": 1.0, "epochs": steps_per_epoch, "%": (total or 0) / 100}[unit]
    steps = number * factor
    if steps > MOST_STEPS:
        raise UserError(f"{text!r} is {steps:.3g} steps; at most {MOST_STEPS:,} can be counted")
    return max(1, round(steps))
