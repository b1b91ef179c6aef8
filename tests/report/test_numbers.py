"""Numbers and names as a reader sees them."""

import pytest

from jaxrepro.report.numbers import format_difference, format_number, format_printed, printed_decimals
from jaxrepro.report.text import duration, readable


@pytest.mark.parametrize(
    ("value", "std", "text"),
    [
        (12.3456, 0.21, "12.35 ± 0.21"),
        (14.7, 0.2, "14.70 ± 0.20"),
        (2551.2, 35.0, "2551 ± 35"),
        (0.12345, None, "0.1235"),
        (0.192, None, "0.1920"),
        (2.0, None, "2.000"),
        (0.0, None, "0"),
        (494350, None, "494,350"),
        (-1234.5678, None, "-1235"),
        (1e-7, None, "1.000e-07"),
        (94.7, 0.0, "94.70 ± 0.00"),
        (float("nan"), None, "not finite"),
    ],
)
def test_numbers_show_their_meaningful_digits(value, std, text):
    assert format_number(value, std) == text


@pytest.mark.parametrize(
    ("value", "std", "printed", "text"),
    [
        (96.3838, 0.0092, 2, "96.38 ± 0.01"),
        (99.081, 0.003, 2, "99.0810 ± 0.0030"),  # not ± 0.00
        (0.192, None, 0, "0.1920"),
        (0.0213, None, 2, "0.02130"),  # not 0.02
        (0.0, 0.0, 2, "0.00 ± 0.00"),
        (1.32, 1.234, 2, "1.32 ± 1.23"),
    ],
)
def test_ours_has_the_decimals_printed_beside_it_unless_they_hide_something(value, std, printed, text):
    assert format_number(value, std, printed) == text


def test_a_column_is_printed_with_the_decimals_of_its_publication_and_trailing_zeros():
    assert printed_decimals([14.7, 0.2, 72.69, None]) == 2
    assert format_printed(14.7, 0.2, 2) == "14.70 ± 0.20"
    assert format_printed(94.7, 0.0, 2) == "94.70 ± 0.00"
    assert format_printed(495_000, None, 0) == "495,000"


def test_a_number_in_scientific_notation_says_nothing_of_decimals():
    assert printed_decimals([1.4002e-11, 3.0]) == 0
    assert format_printed(1.4002e-11, None, 4) == "1.4002e-11"
    assert format_printed(0.0034, None, 2) == "0.0034"


@pytest.mark.parametrize(
    ("value", "decimals", "text"), [(0.27, 2, "+0.27"), (-2.274, 2, "−2.27"), (-0.003, 0, "−0.0030"), (0.0, 2, "±0.00")]
)
def test_a_difference_has_its_sign_and_is_never_rounded_to_nothing(value, decimals, text):
    assert format_difference(value, decimals) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.26, "4.3 s"), (48.2, "48 s"), (59.7, "1 min"), (119.7, "2 min"), (7500, "2 h 5 min"), (273600, "3 d 4 h")],
)
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text


def test_names_become_words():
    names = ("table2", "figure 1a", "loss_mean", "kl", "num_params")
    assert [readable(n) for n in names] == ["Table 2", "Figure 1a", "loss mean", "KL", "number of parameters"]
