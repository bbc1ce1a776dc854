"""Choose finalists on the days of the search, judge them on the days after it."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

import polars as pl
from pydantic import Field, TypeAdapter, ValidationError

from kernels.params import Value
from mei_pipeline import files
from mei_pipeline.errors import DataError
from mei_pipeline.features import FeatureSet
from mei_pipeline.market import Bars
from mei_pipeline.night import NightPlan, holdout_window, night_folder
from mei_pipeline.params.identity import Resolved, config_id, make_resolved
from mei_pipeline.params.table import read_catalog
from mei_pipeline.progress import Progress, silent
from mei_pipeline.registry.records import Gate
from mei_pipeline.replay.run import replay_window
from mei_pipeline.selection.holdout import judge
from mei_pipeline.settings import Settings
from mei_pipeline.sweep.plan import SweepPlan
from mei_pipeline.sweep.results import Results, metric_columns, top


@dataclass(frozen=True)
class Finalist:
    """A combo that was judged out of sample.

    Attributes:
        combo: Its number in the sweep.
        config_id: Id of the resolved config.
        params: Every parameter by path; single symbols may have others, see the search.
        in_sample: Metrics over the days of the search.
        out_of_sample: Metrics over the holdout.
        gates: Every gate.
    """

    combo: int
    config_id: str
    params: Annotated[Mapping[str, Value], Field(json_schema_extra={"slot": "all params"})]
    in_sample: Mapping[str, float | None]
    out_of_sample: Mapping[str, float | None]
    gates: tuple[Gate, ...]

    @property
    def passed(self) -> bool:
        """Whether it passed every gate."""
        return all(gate.verdict == "pass" for gate in self.gates)

    @property
    def reason(self) -> str:
        """Why it fell, or that it did not."""
        failed = [gate for gate in self.gates if gate.verdict != "pass"]
        return "; ".join(f"{gate.name}: {gate.explanation}" for gate in failed) or "passed every gate"


@dataclass(frozen=True)
class Candidates:
    """What a night chose.

    Attributes:
        night: Id of the night.
        combos: How many combos the search had.
        fell: How many combos fell before the holdout, by reason.
        finalists: Those judged, best in sample first.
    """

    night: str
    combos: int
    fell: Mapping[str, int]
    finalists: tuple[Finalist, ...]


CANDIDATES = TypeAdapter(Candidates)
"""The form of candidates.json."""


def shortlist(rows: Iterable[pl.DataFrame], min_trades: int, count: int) -> tuple[pl.DataFrame, dict[str, int]]:
    """The `count` combos with the best in-sample Sharpe ratio among those fit to be judged, and why the others fell.

    Args:
        rows: All rows of a sweep, in frames of any size; no more than one of them is held at a time.
        min_trades: Fewest closed trades.
        count: How many to keep.
    """
    reasons = (
        pl.when(pl.col("liquidations") > 0)
        .then(pl.lit("liquidated in sample"))
        .when(pl.col("trades") < min_trades)
        .then(pl.lit("fewer closed trades in sample than min_trades"))
        .when(pl.col("net_pnl_usd") <= 0)
        .then(pl.lit("no profit in sample"))
    )
    counts: Counter[str] = Counter()
    kept, fit = pl.DataFrame(), 0
    for frame in rows:
        marked = frame.with_columns(fell=reasons)
        counts.update(dict(marked.filter(pl.col("fell").is_not_null()).group_by("fell").len().iter_rows()))
        standing = marked.filter(pl.col("fell").is_null()).drop("fell")
        fit += standing.height
        kept = top(pl.concat([kept, standing]) if kept.width else standing, count)
    fell = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    if fit > kept.height:
        fell["not among the finalists by Sharpe ratio in sample"] = fit - kept.height
    return kept, fell


def resolved_combo(plan: SweepPlan, params: Mapping[str, Value]) -> Resolved:
    """The config that a combo of the sweep is."""
    return make_resolved(
        read_catalog(),
        strategy=plan.strategy,
        venue=plan.venue,
        interval=plan.interval,
        symbols=plan.symbols,
        initial_balance_usd=plan.initial_balance_usd,
        params=params,
        market=plan.market,
        symbol_params=plan.symbol_params,
        entry_interval=plan.entry_interval,
        exit_interval=plan.exit_interval,
    )


def choose(
    settings: Settings,
    plan: NightPlan,
    bars: Bars,
    features: FeatureSet,
    results: Results,
    progress: Progress = silent,
) -> Candidates:
    """Shortlist the rows of the night's sweep, replay the finalists over the holdout from flat, and judge them.

    Args:
        settings: Where compiled kernels are.
        plan: The night.
        bars: Its bars.
        features: Its columns.
        results: Rows of its sweep.
        progress: Told of each finalist.
    """
    policy = plan.selection
    rows = results.frames(("combo", *metric_columns()))
    kept, fell = shortlist(rows, policy.min_trades, policy.finalists)
    cut = holdout_window(plan, bars)
    finalists = []
    for row in kept.iter_rows(named=True):
        params = plan.sweep.combo(row["combo"])
        resolved = resolved_combo(plan.sweep, params)
        run = replay_window(settings, bars, cut, features, resolved)
        in_sample = {name: row[name] for name in metric_columns()}
        gates = judge(in_sample, run.metrics, run.outcome.days[:, :, 0], kept.height, policy)
        finalists.append(
            Finalist(
                combo=row["combo"],
                config_id=config_id(resolved),
                params=params,
                in_sample=in_sample,
                out_of_sample={name: None if math.isnan(value) else value for name, value in run.metrics.items()},
                gates=gates,
            )
        )
        progress(len(finalists), kept.height, "finalists")
    return Candidates(plan.id, plan.sweep.combos, fell, tuple(finalists))


def write_candidates(settings: Settings, plan: NightPlan, candidates: Candidates) -> None:
    """Store what the night chose in its folder."""
    path = night_folder(settings, plan) / "candidates.json"
    files.write_bytes(path, CANDIDATES.dump_json(candidates, indent=2) + b"\n")


def read_candidates(settings: Settings, plan: NightPlan) -> Candidates:
    """What the night chose.

    Raises:
        DataError: It has not chosen yet, or the file is damaged.
    """
    path = night_folder(settings, plan) / "candidates.json"
    try:
        return CANDIDATES.validate_json(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: the night has no candidates yet; materialise `candidates`") from None
    except ValidationError as error:
        raise DataError(f"{path}: damaged ({error.error_count()} problems); materialise `candidates` again") from None


def candidates_frame(candidates: Candidates) -> pl.DataFrame:
    """One row per finalist for people: combo, config, passed, figures in and out of sample, reason."""
    return pl.DataFrame(
        [
            {
                "combo": f.combo,
                "config": f.config_id[:12],
                "passed": f.passed,
                "sharpe in": f.in_sample["sharpe"],
                "sharpe out": f.out_of_sample["sharpe"],
                "return out %": f.out_of_sample["return_pct"],
                "drawdown out %": f.out_of_sample["max_drawdown_pct"],
                "trades out": f.out_of_sample["trades"],
                "reason": f.reason,
            }
            for f in candidates.finalists
        ],
        schema={
            "combo": pl.Int64,
            "config": pl.String,
            "passed": pl.Boolean,
            "sharpe in": pl.Float64,
            "sharpe out": pl.Float64,
            "return out %": pl.Float64,
            "drawdown out %": pl.Float64,
            "trades out": pl.Float64,
            "reason": pl.String,
        },
    )
