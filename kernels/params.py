"""The shape of one entry of the parameter table: the single source of validation, sweep axes and reference pages."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np

ParameterKind = Literal["float", "int", "bool", "choice"]
Role = Literal["feature", "entry", "exit", "sizing", "market"]
Value = float | int | bool | str

SIGNAL_ROLES = frozenset({"feature", "entry"})
"""Roles of parameters that shape signals: combos that agree in them share theirs."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a strategy or of the market model.

    Attributes:
        path: Dotted path, as in YAML and as a sweep axis.
        kind: Type of the value; a choice is stored in the kernel as the index of its value in `choices`.
        default: Value when nobody says otherwise.
        low: Least value allowed, inclusive; ignored for bool and choice.
        high: Greatest value allowed, inclusive; ignored for bool and choice.
        unit: Unit of the value for people: bars, atr, bps, frac, …
        role: What the parameter shapes. Market parameters are never search axes.
        doc: One sentence that says what it does.
        choices: Allowed values of a choice.
        per_symbol: Whether a symbol may have a value of its own; False for values of the whole book.
        only: The values that are left where a strategy allows fewer than the parameter does; empty where it does not.
        because: Why only those.
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
        """Last part of the path: the parameter's field in a record."""
        return self.path.rpartition(".")[2]

    @property
    def allowed(self) -> str:
        """What values are allowed, in words."""
        if self.only:
            return f"{' or '.join(map(str, self.only))}: {self.because}"
        if self.kind == "bool":
            return "true or false"
        if self.kind == "choice":
            return f"one of {', '.join(self.choices)}"
        noun = "a whole number" if self.kind == "int" else "a number"
        return f"{noun} from {self.low:g} to {self.high:g} {self.unit}".rstrip()

    def problem(self, value: object) -> str | None:
        """Say what is wrong with `value`, or None."""
        if self.kind == "bool":
            fine = isinstance(value, bool)
        elif self.kind == "choice":
            fine = isinstance(value, str) and value in self.choices
        elif isinstance(value, bool) or not isinstance(value, int | float):
            fine = False
        else:
            # The bounds come first: they refuse NaN, infinities, and integers that no float can hold.
            fine = self.low <= value <= self.high and (self.kind == "float" or float(value).is_integer())
        fine = fine and (not self.only or value in self.only)
        return None if fine else f"{value!r} is not allowed; {self.allowed}"

    def encode(self, value: Value) -> float:
        """The float64 that the kernel sees for `value`."""
        return float(self.choices.index(str(value))) if self.kind == "choice" else float(value)


def record_of(parameters: Iterable[Parameter]) -> "np.dtype[Any]":
    """The record of one combo's encoded values: a float64 field per parameter, by its name, in their order."""
    from kernels.records import record  # noqa: PLC0415 - brings numpy, which readers of configuration do without

    fields: np.dtype[Any] = record(parameter.name for parameter in parameters)
    return fields
