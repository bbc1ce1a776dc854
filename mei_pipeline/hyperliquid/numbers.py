"""Text of numbers as the venue writes them: plain notation, without an exponent."""

from decimal import Decimal


def text_of(number: Decimal | float) -> str:
    """Return the exact text of a number in plain notation.

    The text of a float is the shortest one that is read back as the same float, and has a decimal point as the venue's
    numbers have: `5.0`, `0.0000125`. The text of a Decimal has all its digits, with zeros at the end: `1.50`. Zero has
    no sign.

    Raises:
        ValueError: The number is NaN or infinite.
    """
    exact = number if isinstance(number, Decimal) else Decimal(repr(float(number)))
    if not exact.is_finite():
        raise ValueError(f"a number for the venue is NaN or infinite: {number}")
    text = f"{abs(exact) if exact.is_zero() else exact:f}"
    return f"{text}.0" if isinstance(number, float) and "." not in text else text
