"""Events that report a lane on its asset: its state in words, figures and tables, and a picture of its equity."""

from contextlib import closing
from pathlib import Path

import dagster as dg
import numpy as np

from assets.lanes import CHECK, lane_key
from assets.metadata import Metadata, entries, picture, records, short
from assets.plots import line_plot
from mei_pipeline.candles.intervals import HOUR_MS, iso
from mei_pipeline.execution.journal.curve import EquityCurve, equity_curve
from mei_pipeline.execution.journal.opening import journal_path
from mei_pipeline.execution.journal.reader import connect_read_only
from mei_pipeline.registry.lanes import ExecutorStatus


def read_curve(lanes_folder: Path, lane: str) -> EquityCurve | None:
    """Return the equity of a lane from its journal; None for a lane that never ran.

    Raises:
        MeiError: The journal can't be read.
    """
    path = journal_path(lanes_folder, lane)
    if not path.exists():
        return None
    with closing(connect_read_only(path)) as connection:
        return equity_curve(connection)


def report_event(lane: str, status: ExecutorStatus, curve: EquityCurve | None) -> dg.AssetMaterialization:
    """Return the event that reports the status of a lane.

    Args:
        lane: The lane.
        status: The status that its executor wrote.
        curve: Its equity; None if there is none, or if its journal can't be read.
    """
    description = f"{state_in_words(status)}; written {iso(status.written_ms // 60_000 * 60_000)}"
    return dg.AssetMaterialization(lane_key(lane), description=description, metadata=_metadata(lane, status, curve))


def check_event(lane: str, words: str, *, passed: bool) -> dg.AssetCheckEvaluation:
    """Return the event with the result of the check of a lane."""
    return dg.AssetCheckEvaluation(
        asset_key=lane_key(lane),
        check_name=CHECK,
        passed=passed,
        severity=dg.AssetCheckSeverity.WARN,
        description=words,
    )


def fingerprint(status: ExecutorStatus | None) -> str:
    """Return a text that changes with what is worth a report, and with the hour of the status.

    Equity, sizes and the last step are left out: they change at almost every step.
    """
    if status is None:
        return ""
    limits = (status.excluded, status.size_multiplier)
    sides = {symbol: size > 0.0 for symbol, size in sorted(status.positions.items())}
    holds = {name: (hold.effect, hold.symbol) for name, hold in sorted(status.holds.items())}
    return repr(
        (
            (status.config_id, status.generation, status.since_bar_ms, status.draining),
            status.offered and (status.offered.generation, status.offered.config_id, status.offered.reason),
            (status.health, status.detail, holds, limits, sorted(status.stale)),
            (sides, bool(status.unknown_orders), status.last_error),
            (status.mode, status.feed, status.kernel_hash, status.written_ms // HOUR_MS),
        )
    )


def state_in_words(status: ExecutorStatus) -> str:
    """Return the state of a lane in words: config in force, other configs, holds, limits and health."""
    parts = [_config_in_words(status)]
    if status.draining:
        parts.append(f"{', '.join(short(config) for config in status.draining)} is draining")
    if status.offered is not None:
        parts.append(_offer_in_words(status))
    parts += [
        f"on hold {name}, {hold.effect}{f' of {hold.symbol}' if hold.symbol else ''}: {hold.reason} ({hold.owner})"
        for name, hold in status.holds.items()
    ]
    if status.excluded:
        parts.append(f"entries of {', '.join(status.excluded)} are excluded")
    if status.size_multiplier is not None and status.size_multiplier != 1.0:
        parts.append(f"sizes times {status.size_multiplier:g}")
    if status.health != "ok" and not status.holds:
        parts.append(f"{status.health}: {status.detail}" if status.detail else status.health)
    return "; ".join(parts)


def _config_in_words(status: ExecutorStatus) -> str:
    if status.config_id is None:
        return "no config is in force"
    since = "no bar yet" if status.since_bar_ms is None else f"since {iso(status.since_bar_ms)}"
    return f"generation {status.generation} of {short(status.config_id)} is in force, {since}"


def _offer_in_words(status: ExecutorStatus) -> str:
    offered = status.offered
    if offered is None:
        return ""
    if offered.config_id is None:
        return f"the offered config is not followed: {offered.reason}"
    return f"generation {offered.generation} of {short(offered.config_id)} is offered: {offered.reason}"


def _metadata(lane: str, status: ExecutorStatus, curve: EquityCurve | None) -> Metadata:
    plots = {} if curve is None else {"equity": picture(equity_plot(lane, curve))}
    holds = [
        {"hold": name, "effect": hold.effect, "symbol": hold.symbol, "owner": hold.owner, "reason": hold.reason}
        for name, hold in status.holds.items()
    ]
    return plots | entries(
        state=state_in_words(status),
        config=status.config_id,
        generation=status.generation,
        in_force_since_bar=_time(status.since_bar_ms),
        offered=_offer_in_words(status) or "none",
        draining=", ".join(short(config) for config in status.draining) or "none",
        health=status.health,
        detail=status.detail,
        holds=records(holds),
        excluded=", ".join(status.excluded) or "none",
        size_multiplier=status.size_multiplier,
        equity_usd=status.equity_usd,
        pnl_usd=status.pnl_usd,
        pnl_today_usd=status.pnl_today_usd,
        positions=records([{"symbol": symbol, "size": size} for symbol, size in status.positions.items()]),
        open_orders=status.open_orders,
        unknown_orders=status.unknown_orders,
        mode=status.mode,
        feed=status.feed,
        stale=records([{"symbol": symbol, "streams": ", ".join(each)} for symbol, each in status.stale.items()]),
        last_step=_time(status.last_step_ms),
        last_error=status.last_error,
        written=_time(status.written_ms),
    )


def _time(time_ms: int | None) -> dg.TimestampMetadataValue | None:
    return None if time_ms is None else dg.MetadataValue.timestamp(time_ms / 1000)


def equity_plot(lane: str, curve: EquityCurve) -> str:
    """Return a plot of the equity of a lane below its highest value so far; the gap between them is the drawdown."""
    peak = np.maximum.accumulate(curve.equity_usd)
    last = f"{curve.equity_usd[-1]:,.2f} USD; " if curve.equity_usd.size else ""
    return line_plot(
        f"Equity of {lane}",
        f"{last}maximum drawdown {curve.drawdown_usd:,.2f} USD",
        curve.step_ms,
        {"highest so far": peak, "equity": curve.equity_usd},
    )
