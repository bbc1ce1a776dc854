"""A value held to a threshold, as a gate with its verdict in words."""

import math

from mei_pipeline.registry.records import Gate


def at_least(name: str, value: float | None, threshold: float, what: str, without: str = "it has no value") -> Gate:
    """Pass when `value` reaches `threshold`; `without` says why there is none."""
    if value is None or math.isnan(value):
        return Gate(name, None, threshold, "no evidence", f"{what}: {without}")
    passed = value >= threshold
    word = "reaches" if passed else "is below"
    return Gate(name, value, threshold, "pass" if passed else "fail", f"{what} {value:.4g} {word} {threshold:.4g}")


def at_most(name: str, value: float | None, threshold: float, what: str, without: str = "it has no value") -> Gate:
    """Pass when `value` does not exceed `threshold`; `without` says why there is none."""
    if value is None or math.isnan(value):
        return Gate(name, None, threshold, "no evidence", f"{what}: {without}")
    passed = value <= threshold
    word = "stays within" if passed else "exceeds"
    return Gate(name, value, threshold, "pass" if passed else "fail", f"{what} {value:.4g} {word} {threshold:.4g}")
