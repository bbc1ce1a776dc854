"""sweeps/*.yaml."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from mei_pipeline.candles.intervals import Intervals, interval_problems
from mei_pipeline.config.base import (
    FileModel,
    Interval,
    MarketValues,
    Name,
    Scalar,
    Symbol,
    SymbolValues,
    Values,
    Venue,
    flaws,
)

MAX_AXIS_VALUES = 10_000


class Range(FileModel):
    """Evenly spaced values of an axis."""

    from_: Annotated[float | int, Field(alias="from")]
    """First value."""
    to: float | int
    """Last value at most; included when a step meets it."""
    step: Annotated[float | int, Field(gt=0)]
    """Distance between values."""
    when: Values = Field(default_factory=dict)
    """Values that other parameters must have for this axis to vary; elsewhere it has its value of `params` or its
    default."""

    @model_validator(mode="after")
    def _ascending(self) -> "Range":
        if self.to < self.from_:
            raise flaws({"to": f"{self.to:g} is below `from`, {self.from_:g}; the range is empty"})
        if (self.to - self.from_) / self.step >= MAX_AXIS_VALUES:
            raise flaws({"step": f"{self.step:g} makes more than {MAX_AXIS_VALUES:,} values; take a larger one"})
        return self

    @property
    def values(self) -> tuple[float | int, ...]:
        """The values; decimal steps do not drift."""
        first, last, step = (Decimal(str(value)) for value in (self.from_, self.to, self.step))
        kind = int if all(isinstance(value, int) for value in (self.from_, self.step)) else float
        return tuple(kind(first + index * step) for index in range(int((last - first) / step) + 1))


AxisValues = Annotated[tuple[Scalar, ...], Field(min_length=1, max_length=MAX_AXIS_VALUES)]


class Listed(FileModel):
    """Listed values of an axis."""

    values: AxisValues
    """Values of the axis."""
    when: Values = Field(default_factory=dict)
    """As for a range."""


def _axis_shape(value: object) -> str:
    """Which form of an axis was meant: of the two mappings the one that has more of the keys."""
    if isinstance(value, Range | Listed):
        return "range" if isinstance(value, Range) else "listed"
    if not isinstance(value, Mapping):
        return "list"
    return "range" if len({"from", "from_", "to", "step"} & value.keys()) > ("values" in value) else "listed"


Axis = Annotated[
    Annotated[AxisValues, Tag("list")] | Annotated[Range, Tag("range")] | Annotated[Listed, Tag("listed")],
    Discriminator(_axis_shape),
]


class SweepSpec(FileModel):
    """sweeps/<name>.yaml: one search."""

    strategy: Name
    """Strategy to search: a module of kernels/strategies."""
    venue: Venue | None = None
    """Venue whose bars are used; when left out, the one of pipeline.yaml."""
    interval: Interval
    """Length of the bars that features are made of and that the strategy decides on."""
    entry_interval: Interval | None = None
    """Shorter bars at whose closes entries are decided; it divides `interval`. When left out: `interval`."""
    exit_interval: Interval | None = None
    """Shorter bars at whose closes exits are decided; it divides `interval`, and the shorter of both divides the other.
    When left out: `interval`."""
    initial_balance_usd: Annotated[float, Field(gt=0, le=1e12)] = 10_000.0
    """Equity at the start of every combo."""
    method: Literal["grid"] = "grid"
    """How the axes are searched: `grid` runs every combination."""
    market: MarketValues = Field(default_factory=dict)
    """Market parameters, written without the leading `market.`: fees, slippage and how orders fill. They are part of
    what is assumed, never of what is searched."""
    params: Values = Field(default_factory=dict)
    """Parameters that are the same for every combo, where they differ from their defaults."""
    symbol_params: dict[Symbol, SymbolValues] = Field(default_factory=dict)
    """Parameters of single symbols; they win over `params` and `axes`. A symbol that sits out is passed over."""
    axes: Annotated[dict[str, Axis], Field(min_length=1, json_schema_extra={"slot": "axes"})]
    """Parameters that are searched: each a list of values, `{values: [...]}` or `{from, to, step}`, the last two also
    with `when: {path: value}`. Feature windows are always listed."""
    chunk_combos: Annotated[int, Field(ge=1, le=1_000_000)] = 4096
    """Combos per result file; a sweep that was killed goes on at the next file."""

    @model_validator(mode="after")
    def _dividing(self) -> "SweepSpec":
        if found := interval_problems(self.interval, self.entry_interval or "", self.exit_interval or ""):
            raise flaws(found)
        return self

    @field_validator("axes")
    @classmethod
    def _distinct(cls, axes: dict[str, Any]) -> dict[str, Any]:
        found = {}
        for path, axis in axes.items():
            values = axis if isinstance(axis, tuple) else axis.values if isinstance(axis, Listed) else ()
            twice = next((value for index, value in enumerate(values) if value in values[:index]), None)
            if twice is not None:
                found[f"{path}.values" if isinstance(axis, Listed) else path] = f"{twice} is listed twice"
        if found:
            raise flaws(found)
        return axes

    @property
    def intervals(self) -> Intervals:
        """The intervals together."""
        return Intervals(self.interval, self.entry_interval or "", self.exit_interval or "")

    def axis_values(self, path: str) -> tuple[Scalar, ...]:
        """Values of one axis, in the order of the file."""
        axis = self.axes[path]
        return axis if isinstance(axis, tuple) else axis.values

    def when(self, path: str) -> dict[str, Scalar]:
        """Values that other parameters must have for an axis to vary."""
        axis = self.axes[path]
        return {} if isinstance(axis, tuple) else axis.when
