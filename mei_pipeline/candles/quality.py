"""Quality rules of candles: names, severities, and the checks that find the rows that break them.

- `refuse`: the row is not stored.
- `repair`: the row is repaired without loss (sorted, or an exact copy dropped) and counted.
- `warn`: the row is stored as the venue gave it, because markets crash and venues go down. Users of the bars decide by
  the name of the rule.
- `mark`: the row is stored too, but its symbol is not traded until the bar is revised or a person confirms it
  (`confirm`).

A flat bar without volume breaks no rule: nobody traded, or the venue was down.

Rules that warn or mark compare a bar with its neighbours, which may be in other files of the lake. So these rules are
applied to bars read across files, and their results are not stored.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import polars as pl

from mei_pipeline.candles.intervals import HOUR_MS, interval_ms
from mei_pipeline.candles.spikes import SpikeBounds, spikes

Severity = Literal["refuse", "repair", "warn", "mark"]
PRICES = ("open", "high", "low", "close")
SAMPLES = 3
_COUNT_MISSING = ("gap", "short")


@dataclass(frozen=True)
class Limits:
    """Thresholds of the rules that warn.

    Attributes:
        jump_frac: A close that differs from the previous one by more than this fraction is a jump.
        open_frac: An open that differs from the close right before it by more than this fraction is an open jump. The
            largest of a perpetual future in the crash of 2025-10-10 was 0.009.
        stale_after_ms: A symbol whose last bar ended longer ago than this is stale.
        min_coverage_frac: A symbol with a smaller fraction of the bars of the window is short.
        from_ms: Start of the window; the earliest bar of the frame when None.
        spikes: Bounds of the rule that marks.
    """

    jump_frac: float = 0.5
    open_frac: float = 0.05
    stale_after_ms: int = 3 * HOUR_MS
    min_coverage_frac: float = 0.98
    from_ms: int | None = None
    spikes: SpikeBounds = field(default_factory=SpikeBounds)


@dataclass(frozen=True)
class Rule:
    """A quality rule.

    Attributes:
        name: Name of the rule, as in reports and asset checks.
        severity: Consequence for a row that breaks the rule.
        doc: Description of a row that breaks the rule.
    """

    name: str
    severity: Severity
    doc: str


RULES: dict[str, Rule] = {
    rule.name: rule
    for rule in (
        Rule("null", "refuse", "symbol, time, a price or the volume is missing"),
        Rule("non_finite", "refuse", "a price or the volume is NaN or infinite"),
        Rule("non_positive", "refuse", "a price is zero or negative, or the volume or number of trades is negative"),
        Rule("inconsistent", "refuse", "high is below low, or open or close is outside [low, high]"),
        Rule("off_grid", "refuse", "the open time is not a multiple of the interval"),
        Rule("future", "refuse", "the bar opens after the time of the check"),
        Rule("still_open", "refuse", "the bar had not closed at the time of the check, or its source says so"),
        Rule("other_interval", "refuse", "the source says that the bar is of another interval than the one ingested"),
        Rule("conflict", "refuse", "one input holds several bars of one symbol and time with different values"),
        Rule("duplicate", "repair", "one input holds a bar more than once; one copy is kept"),
        Rule("unsorted", "repair", "a bar comes after a later bar of its symbol; bars are sorted"),
        Rule("spike", "mark", "the bar leaves the prices of both neighbours and returns, as no market does"),
        Rule("jump", "warn", "the close differs from the previous close by more than the limit"),
        Rule(
            "open_jump", "warn", "the open is far from the close right before it, as where prices of two sources meet"
        ),
        Rule("gap_jump", "warn", "bars are missing, and the close after them differs by more than the limit"),
        Rule("gap", "warn", "bars are missing since the previous bar; each missing bar counts"),
        Rule("stale", "warn", "the last bar of the symbol ended too long before the time of the check"),
        Rule("short", "warn", "the symbol has too few of the window's bars; each missing bar counts"),
    )
}


@dataclass(frozen=True)
class QualityFinding:
    """A rule that one symbol breaks.

    Attributes:
        rule: Name of the rule.
        severity: Severity of the rule.
        symbol: The symbol; empty if the rows have none.
        count: Number of rows that break the rule; number of missing bars for `gap` and `short`.
        sample: The first of these rows, as records of JSON values; the longest gaps for `gap`.
        rows: Number of rows; the number of gaps for `gap`. Equal to `count` for most rules.
    """

    rule: str
    severity: Severity
    symbol: str
    count: int
    sample: tuple[dict[str, Any], ...]
    rows: int = 0


@dataclass(frozen=True)
class Findings:
    """All findings of one check, by rule in the order of `RULES`, then symbol."""

    items: tuple[QualityFinding, ...] = ()

    def of(self, rule: str) -> tuple[QualityFinding, ...]:
        """Return the findings of one rule."""
        return tuple(item for item in self.items if item.rule == rule)

    def counts(self, *severities: Severity) -> dict[str, dict[str, int]]:
        """Return rule to symbol to count, of the given severities or of all."""
        table: dict[str, dict[str, int]] = {}
        for item in self.items:
            if not severities or item.severity in severities:
                table.setdefault(item.rule, {})[item.symbol] = item.count
        return table

    def __add__(self, other: "Findings") -> "Findings":
        """Return the findings of both; counts of one rule and symbol are summed."""
        merged: dict[tuple[str, str], QualityFinding] = {}
        for item in (*self.items, *other.items):
            earlier = merged.get((item.rule, item.symbol))
            merged[item.rule, item.symbol] = (
                item
                if earlier is None
                else QualityFinding(
                    item.rule,
                    item.severity,
                    item.symbol,
                    earlier.count + item.count,
                    _samples(earlier.sample + item.sample),
                    earlier.rows + item.rows,
                )
            )
        rank = {name: number for number, name in enumerate(RULES)}
        return Findings(tuple(sorted(merged.values(), key=lambda item: (rank.get(item.rule, len(rank)), item.symbol))))


@dataclass(frozen=True)
class FilteredRows:
    """A frame after the rules that refuse and repair.

    Attributes:
        accepted: The rows that may be stored: sorted by symbol and time, one per key.
        refused: Rows refused per symbol; a row that breaks several rules counts once.
        repaired: Exact copies dropped per symbol.
        findings: Findings about the rows that were refused or repaired.
    """

    accepted: pl.DataFrame
    refused: dict[str, int]
    repaired: dict[str, int]
    findings: Findings


def filter_rows(frame: pl.DataFrame, interval: str, as_of_ms: int) -> FilteredRows:
    """Split candles of one venue and interval into rows that may be stored and findings about the other rows."""
    step = interval_ms(interval)
    tests = row_tests(step, as_of_ms)
    # A test is null where a value is missing; the rule `null` refuses such a row, so the others need not.
    tested = frame.with_columns(**{f"_{name}": test.fill_null(value=False) for name, test in tests.items()})
    broken = [name for name in tests if tested[f"_{name}"].any()]
    findings = [finding for name in broken for finding in group_findings(tested.filter(pl.col(f"_{name}")), name)]
    refusing = [f"_{name}" for name in broken if RULES[name].severity == "refuse"]
    bad = tested.filter(pl.any_horizontal(refusing)) if refusing else tested.clear()
    rest = frame if bad.is_empty() else frame.filter(~tested.select(pl.any_horizontal(refusing)).to_series())
    rest = rest.sort("symbol", "open_ms", maintain_order=True)
    # Only rows that passed every test can conflict: a refused copy must not take a sound bar with it.
    accepted, conflicts, copies = unique_bars(rest)
    findings += [*group_findings(conflicts, "conflict"), *group_findings(copies, "duplicate")]
    refused = count_by_symbol(pl.concat([bad.select("symbol"), conflicts.select("symbol")]))
    return FilteredRows(accepted, refused, count_by_symbol(copies), Findings() + Findings(tuple(findings)))


def row_tests(step_ms: int, as_of_ms: int) -> dict[str, pl.Expr]:
    """Return the rules about single rows, as expressions that are true where a row breaks them."""
    numbers = [*PRICES, "volume"]
    price = [pl.col(name) for name in PRICES]
    return {
        "null": pl.any_horizontal(
            [pl.col(name).is_null() for name in ("symbol", "open_ms", *numbers)] + [pl.col("symbol") == ""]
        ),
        "non_finite": pl.any_horizontal([~pl.col(name).is_finite() for name in numbers]),
        "non_positive": pl.any_horizontal(
            [(column <= 0) for column in price] + [pl.col("volume") < 0, (pl.col("trades") < 0).fill_null(value=False)]
        ),
        "inconsistent": (pl.col("high") < pl.max_horizontal("open", "close", "low"))
        | (pl.col("low") > pl.min_horizontal("open", "close")),
        "off_grid": pl.col("open_ms") % step_ms != 0,
        "future": pl.col("open_ms") >= as_of_ms,
        "still_open": (pl.col("open_ms") < as_of_ms) & (pl.col("open_ms") > as_of_ms - step_ms),
        "unsorted": pl.col("open_ms") < pl.col("open_ms").shift(1).over("symbol"),
    }


def unique_bars(frame: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Split a sorted frame into one bar per key, conflicting bars, and exact copies.

    If only one copy has a number of trades, there is no conflict and that copy is kept.
    """
    key = ["symbol", "open_ms"]
    same = (pl.col("symbol") == pl.col("symbol").shift(1)) & (pl.col("open_ms") == pl.col("open_ms").shift(1))
    repeated = frame.filter(same).select(key).unique()
    if repeated.is_empty():
        return frame, frame.clear(), frame.clear()
    groups = frame.join(repeated, on=key, how="semi")
    kinds = groups.group_by(key).agg(
        (pl.struct(*PRICES, "volume").n_unique() == 1).alias("_agree"),
        (pl.col("trades").drop_nulls().n_unique() <= 1).alias("_agree_trades"),
    )
    agreeing = kinds.filter(pl.col("_agree") & pl.col("_agree_trades")).select(key)
    conflicts = groups.join(agreeing, on=key, how="anti", maintain_order="left")
    alike = groups.join(agreeing, on=key, how="semi", maintain_order="left").sort(
        *key, "trades", "source", nulls_last=True, maintain_order=True
    )
    first = alike.select(~same.fill_null(value=False)).to_series()
    kept, copies = alike.filter(first), alike.filter(~first)
    single = frame.join(repeated, on=key, how="anti", maintain_order="left")
    return pl.concat([single, kept]).sort(key), conflicts, copies


def check(
    frame: pl.DataFrame,
    interval: str,
    as_of_ms: int,
    limits: Limits | None = None,
    confirmed: pl.DataFrame | None = None,
) -> Findings:
    """Apply every rule to candles of one venue and interval.

    Args:
        frame: Candles, in the order in which they came; they may begin before the window.
        interval: Interval of the candles.
        as_of_ms: Time of the check: a bar that ends later is not closed.
        limits: Thresholds of the warnings.
        confirmed: Bars that a person confirmed (`confirm.confirmed_bars`).
    """
    limits = limits or Limits()
    filtered = filter_rows(frame, interval, as_of_ms)
    inside = pl.col("open_ms") >= (0 if limits.from_ms is None else limits.from_ms)
    items: list[QualityFinding] = []
    for rule, rows in check_neighbours(filtered.accepted, interval, limits, confirmed).items():
        # A spike before the window counts too, because the features of the window are computed from it.
        items += group_findings(rows if rule == "spike" else rows.filter(inside), rule)
    window = filtered.accepted.filter(inside)
    if not window.is_empty():
        items += _check_window(window, interval_ms(interval), as_of_ms, limits)
    return filtered.findings + Findings(tuple(items))


def check_neighbours(
    frame: pl.DataFrame, interval: str, limits: Limits | None = None, confirmed: pl.DataFrame | None = None
) -> dict[str, pl.DataFrame]:
    """Find the bars that break a rule about a bar and its neighbours.

    Args:
        frame: Bars of one venue and interval, sorted by symbol and open_ms, one per key.
        interval: Interval of the bars.
        limits: Thresholds.
        confirmed: Bars that a person confirmed; they are not spikes.

    Returns:
        Rule to the bars that break it. `_from_ms` and `_to_ms` are the open times of the neighbours that a bar was
        compared with. `missing` counts the bars missing before it, for `gap` and `gap_jump`.
    """
    limits = limits or Limits()
    step = interval_ms(interval)
    same = pl.col("symbol") == pl.col("symbol").shift(1)
    missing = (pl.col("open_ms") - pl.col("open_ms").shift(1)) // step - 1
    change = pl.col("close") / pl.col("close").shift(1) - 1
    jumped = change.abs() > limits.jump_frac
    opened = (pl.col("open") / pl.col("close").shift(1) - 1).abs() > limits.open_frac
    # Few bars break a rule, so the further columns are computed for these bars only.
    rows = frame.select(same & (jumped | opened | (missing > 0))).to_series().arg_true()
    previous = frame.select("open_ms", "close")[rows - 1]
    suspects = frame[rows].with_columns(
        _from_ms=previous["open_ms"],
        _to_ms=pl.col("open_ms"),
        previous_close=previous["close"],
        change_frac=pl.col("close") / previous["close"] - 1,
        missing=(pl.col("open_ms") - previous["open_ms"]) // step - 1,
    )
    gaps, adjacent = suspects.filter(pl.col("missing") > 0), suspects.filter(pl.col("missing") == 0).drop("missing")
    jumps = adjacent.filter(pl.col("change_frac").abs() > limits.jump_frac)
    # A bar is a jump or an open jump, not both: one wrong price would otherwise count twice.
    opens = adjacent.filter(pl.col("change_frac").abs() <= limits.jump_frac).with_columns(
        change_frac=pl.col("open") / pl.col("previous_close") - 1
    )
    unconfirmed = spikes(frame, step, limits.spikes)
    if confirmed is not None and unconfirmed.height:
        key = ["symbol", "open_ms", *PRICES]
        unconfirmed = unconfirmed.join(confirmed, on=key, how="anti", maintain_order="left")
    return {
        "spike": unconfirmed,
        "jump": jumps,
        "open_jump": opens.filter(pl.col("change_frac").abs() > limits.open_frac),
        "gap_jump": gaps.filter(pl.col("change_frac").abs() > limits.jump_frac),
        "gap": gaps.drop("previous_close", "change_frac"),
    }


def _check_window(frame: pl.DataFrame, step: int, as_of_ms: int, limits: Limits) -> list[QualityFinding]:
    last = frame.group_by("symbol", maintain_order=True).last()
    stale = last.filter(pl.col("open_ms") + step < as_of_ms - limits.stale_after_ms)
    start = int(frame["open_ms"].min()) if limits.from_ms is None else limits.from_ms  # pyrefly: ignore[bad-argument-type]  # of integers it is one
    expected = max(0, as_of_ms // step - -(-start // step))
    inside = frame.filter((pl.col("open_ms") >= start) & (pl.col("open_ms") + step <= as_of_ms))
    counts = frame.select("symbol").unique().join(inside.group_by("symbol").len(), on="symbol", how="left")
    short = (
        frame.group_by("symbol", maintain_order=True)
        .first()
        .join(counts.with_columns(pl.col("len").fill_null(0)), on="symbol")
        .filter(pl.col("len") < limits.min_coverage_frac * expected)
        .with_columns((expected - pl.col("len").cast(pl.Int64)).alias("missing"))
    )
    return [*group_findings(stale, "stale"), *group_findings(short, "short")]


def group_findings(rows: pl.DataFrame, rule: str) -> list[QualityFinding]:
    """Return one finding per symbol about `rows` that break `rule`."""
    if rows.is_empty():
        return []
    rows = rows.select(~pl.selectors.starts_with("_")).with_columns(pl.col("symbol").fill_null(""))
    severity = RULES[rule].severity
    items = []
    for (symbol,), group in rows.group_by("symbol", maintain_order=True):
        count = int(group["missing"].sum()) if rule in _COUNT_MISSING else group.height
        ordered = group.sort("missing", descending=True, maintain_order=True) if rule == "gap" else group
        sample = tuple(_json_values(row) for row in ordered.head(SAMPLES).iter_rows(named=True))
        items.append(QualityFinding(rule, severity, str(symbol), count, sample, group.height))
    return items


def _samples(rows: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    """Return the first sample rows of two findings, or those with the longest gaps."""
    return tuple(sorted(rows, key=lambda row: -row.get("missing", 0))[:SAMPLES])


def _json_values(row: dict[str, Any]) -> dict[str, Any]:
    # JSON has no NaN and no infinity.
    return {
        name: str(value) if isinstance(value, float) and not float("-inf") < value < float("inf") else value
        for name, value in row.items()
    }


def count_by_symbol(rows: pl.DataFrame) -> dict[str, int]:
    """Return the number of rows per symbol."""
    if rows.is_empty():
        return {}
    counts = rows.select(pl.col("symbol").fill_null("")).group_by("symbol").len().sort("symbol")
    return dict(zip(counts["symbol"].to_list(), counts["len"].to_list(), strict=True))
