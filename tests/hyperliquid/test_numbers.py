"""The text of a number is exact and plain."""

import math
import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mei_pipeline.hyperliquid.numbers import text_of


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_read_back_from_its_text(number: float) -> None:
    text = text_of(number)
    assert float(text) == number
    assert re.fullmatch(r"-?\d+\.\d+", text)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30))
def test_a_decimal_is_read_back_from_its_text(number: Decimal) -> None:
    text = text_of(number)
    assert Decimal(text) == number
    assert re.fullmatch(r"-?\d+(\.\d+)?", text)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (5.0, "5.0"), (-0.0, "0.0"), (0.1, "0.1"), (1e-7, "0.0000001"), (1.25e-5, "0.0000125"),
        (1e22, "1" + "0" * 22 + ".0"), (Decimal("0E+3"), "0"),
        (Decimal("1.50"), "1.50"), (Decimal("-0.00"), "0.00"), (Decimal("1E-7"), "0.0000001"), (Decimal("2E3"), "2000"),
    ],
)  # fmt: skip
def test_text_is_plain(number: Decimal | float, text: str) -> None:
    assert text_of(number) == text


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, Decimal("NaN"), Decimal("-Infinity")])
def test_a_number_without_a_value_has_no_text(number: Decimal | float) -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        text_of(number)
