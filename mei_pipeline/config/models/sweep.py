"""Model of sweeps/*.yaml."""

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
"""Most combos of `tpe`, which keeps 8 bytes in memory for each."""

MAX_SEED = 2**32 - 1
_CHUNK = _BATCH = 4096
_BATCHES, _FEWEST_BATCHES = 50, 10  # default number, and the fewest from which `tpe` can learn
_UNUSED_KEYS = {
    "grid": ("budget", "seed", "objective", "min_trades", "batch", "lag"),
    "random": ("objective", "min_trades", "batch", "lag"),
    "tpe": (),
}
"""Keys without effect, by method."""

_REMEDIES = {
    "budget": ", which runs every combo; remove it, or choose method random or tpe",
    "seed": ", which runs every combo; remove it",
    **dict.fromkeys(("objective", "min_trades", "batch", "lag"), "; remove it, or choose method tpe"),
}


class AxisRange(FileModel):
    """Evenly spaced values of an axis."""

    from_: Annotated[Number, Field(alias="from")]
    """First value."""
    to: Number
    """Upper bound; a value of the axis if a step meets it."""
    step: Annotated[float | int, Field(gt=0), WithJsonSchema({"type": "number", "exclusiveMinimum": 0})]
    """Distance between values."""
    when: Values = Field(default_factory=dict)
    """Condition: values that other parameters must have for this axis to vary. If it fails, the axis has its value of
    `params` or its default."""

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
        # In binary fractions 3 steps of 0.1 are not 0.3, and the last value could be lost.
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
    """Return the form of an axis; a mapping has the form that matches more of its keys."""
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
    """Add the conditions of each method on other keys to the JSON schema of a sweep."""
    conditions: list[dict[str, Any]] = []
    schema["allOf"] = conditions
    for method, keys in _UNUSED_KEYS.items():
        defaults = {key: {"const": schema["properties"][key]["default"]} for key in keys}
        budget: dict[str, Any] = (
            {} if "budget" in keys else {"required": ["budget"], "properties": {"budget": {"type": "integer"}}}
        )
        required: list[str] = [] if method == "grid" else ["method"]
        condition = {"properties": {"method": {"const": method}}, "required": required}
        then = {**budget, "properties": {**defaults, **budget.get("properties", {})}}
        conditions.append({"if": condition, "then": then})


class SweepSpec(FileModel):
    """sweeps/<name>.yaml: one sweep."""

    model_config = ConfigDict(json_schema_extra=_add_methods)

    strategy: StrategyName
    """Strategy of the combos: a module of kernels/strategies."""
    venue: Venue | None = None
    """Venue of the bars. Default: the venue of pipeline.yaml."""
    interval: Interval
    """Length of the bars that features are computed from and at whose closes the strategy decides."""
    entry_interval: Interval | None = None
    """Shorter bars at whose closes the strategy decides entries; it divides `interval`. Default: `interval`."""
    exit_interval: Interval | None = None
    """Shorter bars at whose closes the strategy decides exits. It divides `interval`, and the shorter of both divides
    the other. Default: `interval`."""
    initial_balance_usd: Annotated[float, Field(gt=0, le=1e12)] = 10_000.0
    """Initial equity of every combo."""
    method: Literal["grid", "random", "tpe"] = "grid"
    """Combos to run: `grid` runs all, `random` a random sample, `tpe` the most promising ones after the results of
    earlier combos."""
    budget: Annotated[int, Field(ge=1, le=MAX_BUDGET)] | None = None
    """Number of combos of `random` and `tpe`, at most the size of the grid. `tpe` allows up to 10,000,000. These
    methods require it; `grid` does not allow it."""
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    """Seed of `random` and `tpe`. Equal seeds draw equal samples of equal axes."""
    objective: Literal["sharpe", "return_pct", "profit_factor"] = "sharpe"
    """Metric that `tpe` maximises."""
    min_trades: Annotated[int, Field(ge=0, le=1_000_000)] = 100
    """Fewest closed trades of a good combo: `tpe` ranks a combo with fewer below all others, and fewer trades are
    worse."""
    batch: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Combos that `tpe` proposes at a time; it needs at least 10 batches. A larger batch fills a GPU better but learns
    later. Results depend on it, but not on the device. Default: a fiftieth of the budget, at most 4096."""
    lag: Annotated[int, Field(ge=1, le=1000)] = 2
    """`tpe` proposes a batch from all earlier batches except the last `lag` - 1, so that up to `lag` batches run at a
    time. With 2, one batch runs while `tpe` proposes the next one. Higher values are for many machines and learn later.
    Results depend on `lag`, but not on the number of machines."""
    benchmark: Symbol = "auto"
    """Benchmark symbol of strategies that read one. `auto`: Bitcoin in any notation, such as BTC, BTC/USDT:USDT,
    BTC-USDT-SWAP or XBTUSD. A sweep that reads a benchmark symbol and has none does not start."""
    market: MarketValues = Field(default_factory=dict)
    """Market parameters, without the leading `market.`: fees, slippage and how orders fill. They are assumptions, so
    they have no axes."""
    params: Values = Field(default_factory=dict)
    """Parameters with the same value in every combo, if they differ from their defaults."""
    symbol_params: dict[Symbol, SymbolValues] = Field(default_factory=dict)
    """Parameters of single symbols; they override `params` and `axes`. A sweep ignores symbols that are not in its
    book."""
    axes: Annotated[dict[str, Axis], Field(min_length=1, json_schema_extra={"x-parameters": "axes"})]
    """Parameters that vary: each a list of values, `{values: [...]}` or `{from, to, step}`. The last two allow a
    condition, `when: {path: value}`. Feature windows must be lists."""
    chunk_combos: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Combos per result file; a sweep that was killed resumes at the next file. A batch of `tpe` starts a new file.
    Results do not depend on it, nor on the number of combos that a GPU runs at a time. Default: 4096."""

    @model_validator(mode="after")
    def _dividing(self) -> "SweepSpec":
        if problems := interval_problems(self.interval, self.entry_interval or "", self.exit_interval or ""):
            raise flaws(problems)
        return self

    @model_validator(mode="after")
    def _method_fits(self) -> "SweepSpec":
        if problems := dict(_method_problems(self)):
            raise flaws(problems)
        return self

    @field_validator("axes")
    @classmethod
    def _distinct(cls, axes: dict[str, Any]) -> dict[str, Any]:
        problems = {}
        for path, axis in axes.items():
            values = axis if isinstance(axis, tuple) else axis.values if isinstance(axis, AxisList) else ()
            repeated = next((value for index, value in enumerate(values) if value in values[:index]), None)
            if repeated is not None:
                problems[f"{path}.values" if isinstance(axis, AxisList) else path] = f"{repeated} is listed twice"
        if problems:
            raise flaws(problems)
        return axes

    @property
    def intervals(self) -> Intervals:
        """The three intervals."""
        return Intervals(self.interval, self.entry_interval or "", self.exit_interval or "")

    @property
    def chunk(self) -> int:
        """Combos per result file, including the default."""
        return self.chunk_combos or _CHUNK

    @property
    def batch_combos(self) -> int:
        """Combos that `tpe` proposes at a time, including the default."""
        return self.batch or min(_BATCH, max(1, (self.budget or 0) // _BATCHES))

    def axis_values(self, path: str) -> tuple[Scalar, ...]:
        """Return the values of one axis, in the order of the file."""
        axis = self.axes[path]
        return axis if isinstance(axis, tuple) else axis.values

    def when(self, path: str) -> dict[str, Scalar]:
        """Return the condition of one axis."""
        axis = self.axes[path]
        return {} if isinstance(axis, tuple) else axis.when


def _method_problems(spec: SweepSpec) -> Iterator[tuple[str, str]]:
    """Yield the problems of keys that the method does not allow or requires, by key."""
    fields = SweepSpec.model_fields
    for key in _UNUSED_KEYS[spec.method]:
        if getattr(spec, key) != fields[key].default:
            yield key, f"has no effect with method {spec.method}{_REMEDIES[key]}"
    if spec.method == "grid":
        return
    if spec.budget is None:
        yield "budget", f"missing; method {spec.method} needs the number of combos to run"
    elif spec.method == "tpe":
        yield from _tpe_problems(spec, spec.budget)


def _tpe_problems(spec: SweepSpec, budget: int) -> Iterator[tuple[str, str]]:
    batches = -(-budget // spec.batch_combos)
    if budget > MAX_TPE_BUDGET:
        yield "budget", f"{budget:,} is not allowed; at most {MAX_TPE_BUDGET:,} for tpe, random takes more"
    elif spec.batch_combos > 1 and batches < _FEWEST_BATCHES:
        most_combos = max(1, budget // _FEWEST_BATCHES)
        yield "batch", f"{spec.batch_combos:,} gives tpe only {batches} batches to learn from; at most {most_combos:,}"
    elif spec.lag > 1 and 2 * spec.lag > batches:
        yield (
            "lag",
            f"{spec.lag} of {batches} batches would have no results to learn from; at most {max(1, batches // 2)}",
        )
