"""Parameters of strategies and of the market model: the source of validation, sweep axes and reference pages."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np

ParameterKind = Literal["float", "int", "bool", "choice"]
Role = Literal["feature", "entry", "exit", "sizing", "market"]
Value = float | int | bool | str

SIGNAL_ROLES = frozenset({"feature", "entry"})
"""Roles of parameters that shape signals; combos that agree in them form a signal group."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a strategy or of the market model.

    Attributes:
        path: Dotted path, as in YAML and as a sweep axis.
        kind: Type of the value. A kernel stores a choice as the index of its value in `choices`.
        default: Default value.
        low: Smallest allowed value, inclusive; ignored for bool and choice.
        high: Largest allowed value, inclusive; ignored for bool and choice.
        unit: Unit of the value for people: bars, atr, bps, frac, …
        role: Part of the strategy that the parameter shapes. Market parameters are never search axes.
        doc: Description in one sentence.
        choices: Allowed values of a choice.
        per_symbol: True if symbols may have values of their own; False for values of the whole book.
        only: The allowed values, if a strategy allows fewer than the parameter does; else empty.
        because: Reason for `only`.
    """

    path: str
    kind: ParameterKind
    default: Value
    low: float
    high: float
    unit: str
    role: Role
    doc: str
    choices: tuple[str, ...] = ()
    per_symbol: bool = True
    only: tuple[Value, ...] = ()
    because: str = ""

    @property
    def name(self) -> str:
        """Last part of the path, which is the parameter's field in a record."""
        return self.path.rpartition(".")[2]

    @property
    def allowed(self) -> str:
        """Description of the allowed values."""
        if self.only:
            return f"{' or '.join(map(str, self.only))}: {self.because}"
        if self.kind == "bool":
            return "true or false"
        if self.kind == "choice":
            return f"one of {', '.join(self.choices)}"
        noun = "a whole number" if self.kind == "int" else "a number"
        return f"{noun} from {self.low:g} to {self.high:g} {self.unit}".rstrip()

    def problem(self, value: object) -> str | None:
        """Return the problem with `value`, or None."""
        if self.kind == "bool":
            valid = isinstance(value, bool)
        elif self.kind == "choice":
            valid = isinstance(value, str) and value in self.choices
        elif isinstance(value, bool) or not isinstance(value, int | float):
            valid = False
        else:
            # The bounds are tested first: NaN, infinities and integers beyond the range of floats fail them.
            valid = self.low <= value <= self.high and (self.kind == "float" or float(value).is_integer())
        valid = valid and (not self.only or value in self.only)
        return None if valid else f"{value!r} is not allowed; {self.allowed}"

    def encode(self, value: Value) -> float:
        """Return the float64 that stands for `value` in a kernel."""
        return float(self.choices.index(str(value))) if self.kind == "choice" else float(value)


def record_of(parameters: Iterable[Parameter]) -> "np.dtype[Any]":
    """Return the dtype of a combo's encoded values: a float64 field per parameter, named after it, in their order."""
    from kernels.records import record  # noqa: PLC0415 - imports numpy, which readers of configuration do not need

    fields: np.dtype[Any] = record(parameter.name for parameter in parameters)
    return fields
