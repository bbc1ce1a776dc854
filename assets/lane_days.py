"""Asset of repeated days: the proof, for each day and lane, that what traded is what was measured."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import dagster as dg
import polars as pl

from assets import run_context
from assets.lanes import GROUP, OWNERS, lane_key
from assets.metadata import Metadata, Result, artefact_metadata, declared, entries, materialized, records
from mei_pipeline import files
from mei_pipeline.candles.intervals import iso
from mei_pipeline.config.load import Configuration
from mei_pipeline.execution.day_check.check import check_day, days_of, result_path, unproven_days
from mei_pipeline.execution.day_check.differences import DayCheck, worst_verdict
from mei_pipeline.execution.journal.opening import journal_path
from mei_pipeline.settings import Settings

CHECK = "replay_equivalence"
DAY, LANE = "day", "lane"
DIFFERENCE = {
    "class": pl.String(),
    "step_utc": pl.String(),
    "config_id": pl.String(),
    "symbol": pl.String(),
    "what": pl.String(),
    "recorded": pl.String(),
    "replayed": pl.String(),
    "reason": pl.String(),
}
DIFFERENCE_DOCS = {
    "class": "Cause: logic, data revision, config, fill or degraded.",
    "step_utc": "Open time of the step.",
    "config_id": "Id of the config; empty for market data.",
    "symbol": "Symbol; empty for the whole book.",
    "what": "Name of what differs.",
    "recorded": "Value in the lane's journal.",
    "replayed": "Value of the repetition, or of the lake.",
    "reason": "Reason in words.",
}
_SHOWN = 50


def lane_day_asset(config: Configuration) -> dg.AssetsDefinition:
    """Return the asset `lane_day`, with a partition for each UTC day and lane of a configuration."""

    @dg.asset(
        group_name=GROUP,
        owners=OWNERS,
        kinds={"json", "numba"},
        deps=[
            dg.AssetDep("candles", partition_mapping=dg.AllPartitionMapping()),
            *(lane_key(name) for name in sorted(config.lanes)),
        ],
        partitions_def=dg.MultiPartitionsDefinition(
            {
                DAY: dg.DailyPartitionsDefinition(f"{config.pipeline.start}-01", end_offset=1),
                LANE: dg.StaticPartitionsDefinition(sorted(config.lanes)),
            }
        ),
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=[
            dg.AssetCheckSpec(
                CHECK,
                asset="lane_day",
                description="No difference of class logic: the same rules with the same inputs gave the same decisions "
                "and fills. A day without steps passes: it is no evidence, and no failure.",
            )
        ],
        metadata=declared(DIFFERENCE, DIFFERENCE_DOCS),
    )
    def lane_day(context: dg.AssetExecutionContext) -> Result:
        """A day of a lane, repeated from its journal, with a cause for each difference.

        Decisions are repeated with the features that a sweep computes over the bars that the lane saw, fills with the
        fill model, and the bars are compared with the lake. Only a difference of class logic fails the check. The day
        is a UTC day on the lane's clock, which is in the past for a lane that follows a replay of the lake.
        """
        settings, now = run_context.read_all()
        wanted = [(keys[LANE], _day_ms(keys[DAY])) for keys in map(_dimensions, context.partition_keys)]
        if len(wanted) > 1:  # a backfill of all days, of which most have no step
            ran = {lane: days_of(settings, lane) for lane in {lane for lane, _ in wanted} if _has_run(settings, lane)}
            wanted = [(lane, day_ms) for lane, day_ms in wanted if day_ms in ran.get(lane, ())]
        checks = [
            check_day(settings, lane, now.lanes[lane], day_ms)
            if _has_run(settings, lane)
            else DayCheck(lane, day_ms, 0, 0, 0, (), ("the lane has not run yet",))
            for lane, day_ms in wanted
        ]
        return _result(settings, checks)

    return lane_day


def _has_run(settings: Settings, lane: str) -> bool:
    return journal_path(settings.lanes, lane).exists()


def _dimensions(key: object) -> dict[str, str]:
    if not isinstance(key, dg.MultiPartitionKey):
        raise dg.DagsterInvariantViolationError(f"partition {key}: no day and lane")
    return dict(key.keys_by_dimension)


def _day_ms(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * 1000


def _result(settings: Settings, checks: Sequence[DayCheck]) -> Result:
    """Write each result into the folder of its lane, and return them with the check of all."""
    paths = [result_path(settings, check.lane, check.day_ms) for check in checks]
    for path, check in zip(paths, checks, strict=True):
        files.write_json(path, check.as_dict())
    worst = worst_verdict(checks)
    found = [difference for check in checks for difference in check.differences]
    counts = Counter(difference.kind for difference in found)
    shown = next((check for check in checks if check.verdict == worst), None)
    result = dg.AssetCheckResult(
        check_name=CHECK,
        passed=worst != "failed",
        description="\n".join(map(str, checks[-_SHOWN:])) or "no lane has run on these days",
        metadata={} if shown is None else _first_of(shown),
    )
    return materialized(
        metadata={
            **entries(
                verdict=worst,
                days=len(checks),
                steps=sum(check.steps for check in checks),
                decisions=sum(check.decisions for check in checks),
                fills=sum(check.fills for check in checks),
                unchecked="; ".join(dict.fromkeys(text for check in checks for text in check.unchecked)) or None,
                **{kind.replace(" ", "_"): count for kind, count in counts.items()},
            ),
            "differences": records([_row(each.as_dict()) for each in found[:_SHOWN]]),
            **artefact_metadata(paths[0] if len(paths) == 1 else settings.lanes, rows=len(found)),
        },
        check_results=[result],
    )


def _first_of(check: DayCheck) -> Metadata:
    """Return bar, gate and value of the first difference."""
    first = check.first
    if first is None:
        return {}
    gate = first.gate
    return entries(
        bar=iso(first.step_ms),
        symbol=first.symbol or None,
        what=first.what,
        recorded=first.recorded,
        replayed=first.replayed,
        reason=first.reason or None,
        gate=None if gate is None else gate.name,
        gate_value=None if gate is None else gate.replayed,
        gate_threshold=None if gate is None else gate.threshold,
    )


def _row(difference: dict[str, object]) -> dict[str, str]:
    return {name: str(difference[name]) for name in DIFFERENCE}


def partition_of(lane: str, day: str) -> str:
    """Return the partition of a lane and a UTC day such as 2026-07-01."""
    return str(dg.MultiPartitionKey({DAY: day, LANE: lane}))


def partitions_to_repeat(settings: Settings, config: Configuration) -> dict[str, list[str]]:
    """Return the days of each lane that are to be repeated, as partitions, oldest first.

    A partition that is materialised says nothing: a lane on a replay may reach its day only later.

    Args:
        settings: Settings of the home.
        config: The configuration.
    """
    first = f"{config.pipeline.start}-01"
    found = {
        lane: [partition_of(lane, iso(day_ms)[:10]) for day_ms in unproven_days(settings, lane) if iso(day_ms) >= first]
        for lane in sorted(config.lanes)
        if _has_run(settings, lane)
    }
    return {lane: keys for lane, keys in found.items() if keys}
