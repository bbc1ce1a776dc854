"""Comparison of a value with a threshold, as a gate with an explanation."""

import math

from mei_pipeline.registry.records import Gate


def at_least(name: str, value: float | None, threshold: float, label: str, without: str = "it has no value") -> Gate:
    """Return a gate that passes if `value` reaches `threshold`; `without` is the reason of a value that is missing."""
    if value is None or math.isnan(value):
        return Gate(name, None, threshold, "no evidence", f"{label}: {without}")
    passed = value >= threshold
    word = "reaches" if passed else "is below"
    return Gate(name, value, threshold, "pass" if passed else "fail", f"{label} {value:.4g} {word} {threshold:.4g}")


def at_most(name: str, value: float | None, threshold: float, label: str, without: str = "it has no value") -> Gate:
    """Return a gate that passes if `value` does not exceed `threshold`; `without` is as of `at_least`."""
    if value is None or math.isnan(value):
        return Gate(name, None, threshold, "no evidence", f"{label}: {without}")
    passed = value <= threshold
    word = "stays within" if passed else "exceeds"
    return Gate(name, value, threshold, "pass" if passed else "fail", f"{label} {value:.4g} {word} {threshold:.4g}")
