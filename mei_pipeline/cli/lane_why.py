"""`mei lane why`: the gates behind a decision of a lane, and the verdict that its journal recorded."""

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from mei_pipeline.cli import output
from mei_pipeline.cli.days import utc_ms
from mei_pipeline.cli.journals import journal_of
from mei_pipeline.cli.moves import SHORT
from mei_pipeline.cli.options import result_options
from mei_pipeline.cli.why import MOMENTS, show_gates, signal_text

if TYPE_CHECKING:
    from mei_pipeline.execution.events import ConfigOffered
    from mei_pipeline.settings import Settings

_OFFER = """SELECT body FROM v_events WHERE event = 'ConfigOffered' AND json_extract(body, '$.config_id') = ?
ORDER BY seq DESC LIMIT 1"""
_OPENED = (
    "SELECT config_id FROM v_config_changes WHERE change = 'opened' AND time_ms <= ? ORDER BY time_ms DESC LIMIT 1"
)
_STEPS = "SELECT step_ms FROM v_events WHERE event = 'StepClosed' ORDER BY seq {} LIMIT 1"
_DECISIONS = "SELECT config_id, verdict, signal, note FROM v_decisions WHERE step_ms = ? AND symbol = ?"
_ORDERS = (
    "SELECT purpose, size, state, filled_size, reason FROM v_orders WHERE origin = ? AND symbol = ? ORDER BY cloid"
)


@click.command("why")
@click.argument("name", metavar="LANE")
@click.argument("symbol")
@click.argument("moment", metavar="[TIME]", type=click.DateTime(MOMENTS), required=False)
@result_options
def why(name: str, symbol: str, moment: Any, as_json: bool) -> None:
    """Explain the decision of LANE on SYMBOL at one bar: gates with values, signal, verdict and orders.

    TIME is the UTC time at which the bar opens, such as 2026-05-01T13:00; by default that of the last step. Gates are
    computed from the bars that the lake has now, by the config that was in force. Verdict and orders are those of the
    lane's journal.
    """
    from mei_pipeline.settings import read_settings

    explanation = explain(read_settings(), name, symbol, None if moment is None else utc_ms(moment))
    if as_json:
        output.print_json(explanation)
        return
    show_gates(explanation)
    lines = [
        ("config", explanation["config_id"][:SHORT]),
        ("signal", signal_text(explanation["signal"])),
        *((f"verdict of {each['config_id'][:SHORT]}", _verdict_text(each)) for each in explanation["decisions"]),
    ]
    if not explanation["decisions"]:
        lines.append(("verdict", explanation["verdict"]))
    lines += [("order", _order_text(order)) for order in explanation["orders"]]
    lines += [("note", note) for note in explanation["notes"]]
    output.table("Decision", ("part", "value"), lines)


def explain(settings: "Settings", lane: str, symbol: str, open_ms: int | None) -> dict[str, Any]:
    """Return what decided what a lane did with a symbol at a step.

    Args:
        settings: Settings of the home.
        lane: The lane.
        symbol: The symbol.
        open_ms: Open time of the step, UTC milliseconds; None for the last step.

    Returns:
        The keys of `replay.why.explain_signal`; `decisions` of the journal, one per book with a signal, position or
        order; the `verdict`; the `orders` that the step caused; and `notes` about bars that have changed.

    Raises:
        ConfigError: The lane or the symbol is unknown.
        DataError: The lane never ran, did not take the step, or the lake lacks the bar.
    """
    from mei_pipeline.execution.journal.failures import translated
    from mei_pipeline.execution.journal.reader import connect_read_only

    path = journal_of(settings, lane)
    with closing(connect_read_only(path)) as journal, translated(path):
        step_ms = _step_of(journal, lane, open_ms)
        journal.row_factory = sqlite3.Row
        decisions = [dict(row) for row in journal.execute(_DECISIONS, (step_ms, symbol))]
        orders = [dict(row) for row in journal.execute(_ORDERS, (f"step:{step_ms}", symbol))]
        config_id = journal.execute(_OPENED, (step_ms,)).fetchone()["config_id"]
        deciding = [each["config_id"] for each in decisions]
        # A symbol of a draining config alone is not one of the config in force.
        offer = _offer_of(journal, config_id if config_id in deciding or not deciding else deciding[-1])
    explanation = _explain_signal(settings, offer, symbol, step_ms)
    newest = next((each for each in decisions if each["config_id"] == offer.config_id), None)
    code = explanation["signal"]["code"] if explanation["signal"] else 0
    notes = []
    if code != (newest["signal"] if newest else 0):
        notes.append(
            f"the lane saw signal {newest['signal'] if newest else 0}, the bars of the lake give {code}: "
            "the bars have changed since, or the lane saw others"
        )
    return {
        **explanation,
        "lane": lane,
        "decisions": decisions,
        "verdict": newest["verdict"] if newest else "no signal",
        "orders": orders,
        "notes": notes,
    }


def _step_of(journal: sqlite3.Connection, lane: str, open_ms: int | None) -> int:
    """Return the open time of a step that the lane took; by default of its last one."""
    from mei_pipeline.candles.intervals import iso
    from mei_pipeline.errors import DataError

    first, last = (journal.execute(_STEPS.format(order)).fetchone() for order in ("", "DESC"))
    if first is None:
        raise DataError(f"lane {lane}: it has taken no step yet")
    if open_ms is None:
        return int(last[0])
    if not first[0] <= open_ms <= last[0]:
        raise DataError(
            f"lane {lane}: it took no step that opens {iso(open_ms)}; its steps open from {iso(first[0])} to "
            f"{iso(last[0])}"
        )
    return open_ms


def _offer_of(journal: sqlite3.Connection, config_id: str) -> "ConfigOffered":
    import msgspec

    from mei_pipeline.execution.events import ConfigOffered

    return msgspec.json.decode(journal.execute(_OFFER, (config_id,)).fetchone()["body"], type=ConfigOffered)


def _explain_signal(settings: "Settings", offer: "ConfigOffered", symbol: str, step_ms: int) -> dict[str, Any]:
    """Return gates and signal from the bars of the lake, from the anchor of the config's features on."""
    from mei_pipeline.candles.intervals import DAY_MS
    from mei_pipeline.candles.lake import Lake
    from mei_pipeline.errors import ConfigError
    from mei_pipeline.registry.records import from_dict
    from mei_pipeline.replay.why import explain_signal, signal_inputs
    from mei_pipeline.simulation.extents import stored_extent_ms
    from mei_pipeline.simulation.loading import load_bars

    resolved = from_dict(offer.config, offer.config_id)
    if symbol not in resolved.symbols:
        raise ConfigError(f"SYMBOL {symbol}: the config in force trades {', '.join(resolved.symbols)}")
    lake = Lake(settings.lake)
    ends = min(stored_extent_ms(lake, resolved.venue, interval)[1] for interval in resolved.intervals.read)
    to_ms = -(-ends // DAY_MS) * DAY_MS
    bars = load_bars(lake, resolved.venue, resolved.intervals, resolved.symbols, offer.anchor_ms, to_ms)
    return explain_signal(settings, signal_inputs(settings, bars, resolved), symbol, step_ms)


def _verdict_text(decision: dict[str, Any]) -> str:
    return f"{decision['verdict']}{': ' if decision['note'] else ''}{decision['note']}"


def _order_text(order: dict[str, Any]) -> str:
    reason = f", {order['reason']}" if order["reason"] else ""
    return f"{order['purpose']} {order['size']:g}: {order['state']}, filled {order['filled_size']:g}{reason}"
