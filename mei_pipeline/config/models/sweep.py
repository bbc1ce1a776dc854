"""sweeps/*.yaml."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, WithJsonSchema, field_validator, model_validator

from mei_pipeline.candles.intervals import Intervals, interval_problems
from mei_pipeline.config.fields import (
    FileModel,
    Interval,
    MarketValues,
    Number,
    Scalar,
    StrategyName,
    Symbol,
    SymbolValues,
    Values,
    Venue,
    flaws,
)

MAX_AXIS_VALUES = 10_000
MAX_BUDGET = 2**31 - 1
MAX_TPE_BUDGET = 10_000_000
"""`tpe` keeps the number of every combo that it has run in memory, 8 bytes each."""

MAX_SEED = 2**32 - 1
_CHUNK = _BATCH = 4096
_BATCHES, _FEWEST_BATCHES = 50, 10
_SAYS_NOTHING = {
    "grid": ("budget", "seed", "objective", "min_trades", "batch", "lag"),
    "random": ("objective", "min_trades", "batch", "lag"),
    "tpe": (),
}
"""Keys that mean nothing to each method."""

_TAKE = {
    "budget": ", which runs every combo; leave it out, or choose method random or tpe",
    "seed": ", which runs every combo; leave it out",
    **dict.fromkeys(("objective", "min_trades", "batch", "lag"), "; leave it out, or choose method tpe"),
}


class AxisRange(FileModel):
    """Evenly spaced values of an axis."""

    from_: Annotated[Number, Field(alias="from")]
    """First value."""
    to: Number
    """Last value at most; included when a step meets it."""
    step: Annotated[float | int, Field(gt=0), WithJsonSchema({"type": "number", "exclusiveMinimum": 0})]
    """Distance between values."""
    when: Values = Field(default_factory=dict)
    """Values that other parameters must have for this axis to vary; elsewhere it has its value of `params` or its
    default."""

    @model_validator(mode="after")
    def _ascending(self) -> "AxisRange":
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


class AxisList(FileModel):
    """Listed values of an axis."""

    values: AxisValues
    """Values of the axis."""
    when: Values = Field(default_factory=dict)
    """As for a range."""


def _axis_shape(value: object) -> str:
    """Which form of an axis was meant: of the two mappings the one that has more of the keys."""
    if isinstance(value, AxisRange | AxisList):
        return "range" if isinstance(value, AxisRange) else "listed"
    if not isinstance(value, Mapping):
        return "list"
    return "range" if len({"from", "from_", "to", "step"} & value.keys()) > ("values" in value) else "listed"


Axis = Annotated[
    Annotated[AxisValues, Tag("list")] | Annotated[AxisRange, Tag("range")] | Annotated[AxisList, Tag("listed")],
    Discriminator(_axis_shape),
]


def _add_methods(schema: dict[str, Any]) -> None:
    """Add to the JSON schema of a sweep what each method asks of the other keys."""
    conditions: list[dict[str, Any]] = []
    schema["allOf"] = conditions
    for method, keys in _SAYS_NOTHING.items():
        defaults = {key: {"const": schema["properties"][key]["default"]} for key in keys}
        wanted: dict[str, Any] = (
            {} if "budget" in keys else {"required": ["budget"], "properties": {"budget": {"type": "integer"}}}
        )
        required: list[str] = [] if method == "grid" else ["method"]
        meant = {"properties": {"method": {"const": method}}, "required": required}
        then = {**wanted, "properties": {**defaults, **wanted.get("properties", {})}}
        conditions.append({"if": meant, "then": then})


class SweepSpec(FileModel):
    """sweeps/<name>.yaml: one search."""

    model_config = ConfigDict(json_schema_extra=_add_methods)

    strategy: StrategyName
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
    method: Literal["grid", "random", "tpe"] = "grid"
    """Which combinations of the axes are run: `grid` every one, `random` a sample of them, `tpe` those that look best
    after what came of the ones before."""
    budget: Annotated[int, Field(ge=1, le=MAX_BUDGET)] | None = None
    """How many combos `random` and `tpe` run, at most as many as there are. `tpe` takes up to 10,000,000. It belongs to
    these methods alone, and they need it."""
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    """Which sample `random` draws, and where `tpe` starts. Equal seeds draw equal samples of equal axes."""
    objective: Literal["sharpe", "return_pct", "profit_factor"] = "sharpe"
    """Metric that `tpe` makes as great as it can."""
    min_trades: Annotated[int, Field(ge=0, le=1_000_000)] = 100
    """To `tpe`, a combo with fewer closed trades is worse than every one that has them, and the worse the fewer."""
    batch: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Combos that `tpe` proposes at a time; it needs at least 10 batches. A larger batch fills a GPU better and learns
    later. Results depend on it, whatever runs them. When left out: a fiftieth of the budget, at most 4096."""
    lag: Annotated[int, Field(ge=1, le=1000)] = 2
    """`tpe` proposes a batch from all batches but the last `lag` - 1 before it, so `lag` of them may be at work. 2 runs
    one while the next is proposed; more is for many machines, and learns later. Results do not depend on how many
    are."""
    benchmark: Symbol = "auto"
    """Symbol whose trend gives the others context, for strategies that read one; `auto`: Bitcoin in any notation, such
    as BTC, BTC/USDT:USDT, BTC-USDT-SWAP or XBTUSD. A search that reads one and has none does not start."""
    market: MarketValues = Field(default_factory=dict)
    """Market parameters, written without the leading `market.`: fees, slippage and how orders fill. They are part of
    what is assumed, never of what is searched."""
    params: Values = Field(default_factory=dict)
    """Parameters that are the same for every combo, where they differ from their defaults."""
    symbol_params: dict[Symbol, SymbolValues] = Field(default_factory=dict)
    """Parameters of single symbols; they win over `params` and `axes`. A symbol that sits out is passed over."""
    axes: Annotated[dict[str, Axis], Field(min_length=1, json_schema_extra={"x-parameters": "axes"})]
    """Parameters that are searched: each a list of values, `{values: [...]}` or `{from, to, step}`, the last two also
    with `when: {path: value}`. Feature windows are always listed."""
    chunk_combos: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Combos per result file; a sweep that was killed goes on at the next file. A batch of `tpe` begins a new file.
    Results do not depend on it, nor does how many combos a GPU runs at a time. When left out: 4096."""

    @model_validator(mode="after")
    def _dividing(self) -> "SweepSpec":
        if found := interval_problems(self.interval, self.entry_interval or "", self.exit_interval or ""):
            raise flaws(found)
        return self

    @model_validator(mode="after")
    def _method_fits(self) -> "SweepSpec":
        if found := dict(_method_problems(self)):
            raise flaws(found)
        return self

    @field_validator("axes")
    @classmethod
    def _distinct(cls, axes: dict[str, Any]) -> dict[str, Any]:
        found = {}
        for path, axis in axes.items():
            values = axis if isinstance(axis, tuple) else axis.values if isinstance(axis, AxisList) else ()
            twice = next((value for index, value in enumerate(values) if value in values[:index]), None)
            if twice is not None:
                found[f"{path}.values" if isinstance(axis, AxisList) else path] = f"{twice} is listed twice"
        if found:
            raise flaws(found)
        return axes

    @property
    def intervals(self) -> Intervals:
        """The intervals together."""
        return Intervals(self.interval, self.entry_interval or "", self.exit_interval or "")

    @property
    def chunk(self) -> int:
        """Combos per result file, whether the file says so or not."""
        return self.chunk_combos or _CHUNK

    @property
    def batch_combos(self) -> int:
        """Combos that `tpe` proposes at a time, whether the file says so or not."""
        return self.batch or min(_BATCH, max(1, (self.budget or 0) // _BATCHES))

    def axis_values(self, path: str) -> tuple[Scalar, ...]:
        """Values of one axis, in the order of the file."""
        axis = self.axes[path]
        return axis if isinstance(axis, tuple) else axis.values

    def when(self, path: str) -> dict[str, Scalar]:
        """Values that other parameters must have for an axis to vary."""
        axis = self.axes[path]
        return {} if isinstance(axis, tuple) else axis.when


def _method_problems(spec: SweepSpec) -> Iterator[tuple[str, str]]:
    """What the method asks of the other keys, by key."""
    fields = SweepSpec.model_fields
    for key in _SAYS_NOTHING[spec.method]:
        if getattr(spec, key) != fields[key].default:
            yield key, f"means nothing to method {spec.method}{_TAKE[key]}"
    if spec.method == "grid":
        return
    if spec.budget is None:
        yield "budget", f"missing; method {spec.method} needs to know how many combos to run"
    elif spec.method == "tpe":
        yield from _tpe_problems(spec, spec.budget)


def _tpe_problems(spec: SweepSpec, budget: int) -> Iterator[tuple[str, str]]:
    batches = -(-budget // spec.batch_combos)
    if budget > MAX_TPE_BUDGET:
        yield "budget", f"{budget:,} is not allowed; at most {MAX_TPE_BUDGET:,} for tpe, random takes more"
    elif spec.batch_combos > 1 and batches < _FEWEST_BATCHES:
        least = max(1, budget // _FEWEST_BATCHES)
        yield "batch", f"{spec.batch_combos:,} leaves tpe {batches} batches to learn from; at most {least:,}"
    elif spec.lag > 1 and 2 * spec.lag > batches:
        yield "lag", f"{spec.lag} of {batches} batches would be proposed from nothing; at most {max(1, batches // 2)}"
