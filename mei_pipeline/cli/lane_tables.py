"""`mei lane status`, `positions`, `orders` and `trades`: what a lane does, from its status and its journal.

They work while the lane runs and while it does not, and need no registry.
"""

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from mei_pipeline.cli import output
from mei_pipeline.cli.journals import journal_of
from mei_pipeline.cli.lane_following import is_running
from mei_pipeline.cli.lane_holds import hold_table
from mei_pipeline.cli.moves import SHORT
from mei_pipeline.cli.options import result_options
from mei_pipeline.cli.symbols import check_option

if TYPE_CHECKING:
    from mei_pipeline.settings import Settings

OWNER = "executor"  # of the holds that an executor sets itself

_LANE = click.argument("name", metavar="LANE")
_SYMBOL = click.option("--symbol", callback=check_option, help="Only this symbol.")
_LAST = click.option(
    "--last", type=click.IntRange(min=1), default=20, show_default=True, help="How many of the latest to show."
)
_OPEN_ORDERS = "state NOT IN ('FILLED', 'CANCELLED', 'REJECTED', 'EXPIRED')"


@click.command()
@_LANE
@result_options
def status(name: str, as_json: bool) -> None:
    """Show the state of LANE: config in force, health, holds, positions, equity, orders without an answer."""
    from mei_pipeline.settings import read_settings

    values = lane_status(read_settings(), name)
    if as_json:
        output.print_json(values)
        return
    output.table(f"Lane {name}", ("", "value"), list(_status_rows(values)))
    hold_table("Holds", values["holds"])
    if values["positions"]:
        _print_positions(values["positions"])


def lane_status(settings: "Settings", name: str) -> dict[str, Any]:
    """Return the state of a lane from its status, its files of holds and its journal.

    Raises:
        ConfigError: The lane is unknown.
        DataError: The lane never ran, or its status or its journal is damaged.
    """
    from mei_pipeline.errors import DataError
    from mei_pipeline.registry.lanes import read_status

    path = journal_of(settings, name)
    found = read_status(settings.lanes, name)
    if found is None and not path.exists():
        raise DataError(f"lane {name}: it never ran in this home; start it with `python -m live.run --lane {name}`")
    now_ms = time.time_ns() // 1_000_000
    reported = None if found is None else found.model_dump()
    return {
        "lane": name,
        "running": is_running(settings, name),
        "status": reported,
        "age_ms": None if reported is None else max(now_ms - reported["written_ms"], 0),
        "holds": _holds(settings, name, reported, now_ms),
        **(_journal_values(settings, name) if path.exists() else {"positions": [], "last_step": None, "orders": []}),
    }


def _journal_values(settings: "Settings", name: str) -> dict[str, Any]:
    (last,) = _rows(settings, name, "SELECT max(step_ms) AS step_ms, max(step_utc) AS step_utc FROM v_equity")
    return {
        "positions": _rows(settings, name, "SELECT * FROM v_positions ORDER BY config_id, symbol"),
        "last_step": last["step_utc"],
        "orders": _rows(settings, name, f"SELECT * FROM v_orders WHERE {_OPEN_ORDERS} ORDER BY created_ms"),  # noqa: S608 - our own
    }


def _holds(
    settings: "Settings", name: str, reported: Mapping[str, Any] | None, now_ms: int
) -> dict[str, dict[str, Any]]:
    """Return the holds that the lane reports, and those of its files that it has not followed yet, by name."""
    from mei_pipeline.errors import DataError
    from mei_pipeline.registry.holds import read_all_holds

    known = {key: {**hold, "followed": True} for key, hold in ((reported or {}).get("holds") or {}).items()}
    try:
        written = read_all_holds(settings.lanes, name, now_ms)
    except DataError:  # the lane reports it as a hold
        return known
    holds = {key: hold for key, hold in known.items() if key in written or hold["owner"] == OWNER}
    for key, hold in written.items():
        values = hold.model_dump(exclude={"since_ms"})
        if not all(known.get(key, {}).get(field) == value for field, value in values.items()):
            holds[key] = {**values, "followed": False}
    return holds


def _status_rows(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    status = values["status"] or {}
    yield "process", f"runs, pid {status.get('pid', '?')}" if values["running"] else "not running"
    if values["age_ms"] is not None:
        yield "status written", f"{values['age_ms'] / 1000:,.0f} s ago"
    yield "config", (status.get("config_id") or "none")[:SHORT]
    yield "generation", status.get("generation")
    yield "health", status.get("health")
    yield from executor_rows(status)
    if status.get("last_step_ms") is None:
        yield "last step", values["last_step"]
    waiting = [key for key, hold in values["holds"].items() if not hold["followed"]]
    if waiting:
        yield "not followed yet", ", ".join(waiting)


def executor_rows(status: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what an executor reports, without the keys that it left empty."""
    from mei_pipeline.candles.intervals import iso

    for key in ("detail", "mode", "feed", "equity_usd", "pnl_usd", "pnl_today_usd", "open_orders", "unknown_orders"):
        if status.get(key) not in {None, ""}:
            yield key.replace("_", " "), status[key]
    if status.get("since_bar_ms") is not None:
        yield "config since", iso(status["since_bar_ms"])
    if status.get("last_step_ms") is not None:
        yield "last step", iso(status["last_step_ms"])
    for symbol, size in status.get("positions", {}).items():
        yield f"position {symbol}", size
    for symbol, streams in status.get("stale", {}).items():
        yield f"stale {symbol}", ", ".join(streams)
    for config_id in status.get("draining", ()):
        yield "draining", config_id[:SHORT]
    if offered := status.get("offered"):
        yield "offered", _offered(offered)
    if status.get("last_error"):
        yield "last error", status["last_error"]


def _offered(offered: Mapping[str, Any]) -> str:
    if offered["generation"] is None:
        return str(offered["reason"])
    return f"generation {offered['generation']} of {offered['config_id'][:SHORT]}: {offered['reason']}"


@click.command()
@_LANE
@_SYMBOL
@result_options
def positions(name: str, symbol: str | None, as_json: bool) -> None:
    """Show the open positions of LANE, with stop, target and margin."""
    from mei_pipeline.settings import read_settings

    query = "SELECT * FROM v_positions WHERE ?1 IS NULL OR symbol = ?1 ORDER BY config_id, symbol"
    rows = _rows(read_settings(), name, query, symbol)
    if as_json:
        output.print_json({"lane": name, "positions": rows})
        return
    _print_positions(rows)


def _print_positions(rows: Sequence[Mapping[str, Any]]) -> None:
    columns = ("symbol", "size", "entry_price", "stop", "target", "margin_usd", "leverage", "opened_utc", "trade")
    _print("Positions", (*columns, "config_id"), rows, ("symbol", "size", "entry_price", "stop", "target"))


@click.command()
@_LANE
@_SYMBOL
@click.option("--open", "only_open", is_flag=True, help="Only orders that have not ended.")
@_LAST
@result_options
def orders(name: str, symbol: str | None, only_open: bool, last: int, as_json: bool) -> None:
    """Show the latest orders of LANE, oldest first, with their states and the reasons of their ends."""
    from mei_pipeline.settings import read_settings

    query = (
        "SELECT * FROM (SELECT * FROM v_orders WHERE (?1 IS NULL OR symbol = ?1)"  # noqa: S608 - our own text
        f"{f' AND {_OPEN_ORDERS}' if only_open else ''} ORDER BY created_ms DESC, cloid DESC LIMIT ?2)"
        " ORDER BY created_ms, cloid"
    )
    rows = _rows(read_settings(), name, query, symbol, last)
    if as_json:
        output.print_json({"lane": name, "orders": rows})
        return
    columns = ("created_utc", "symbol", "purpose", "attempt", "size", "filled_size", "state", "reason", "origin")
    _print("Orders", (*columns, "cloid", "config_id"), rows, ("created_utc", "symbol", "purpose", "size", "state"))


@click.command()
@_LANE
@_SYMBOL
@_LAST
@result_options
def trades(name: str, symbol: str | None, last: int, as_json: bool) -> None:
    """Show the latest trades of LANE, oldest first; a trade without an exit is open."""
    from mei_pipeline.settings import read_settings

    query = (
        "SELECT * FROM (SELECT * FROM v_trades WHERE (?1 IS NULL OR symbol = ?1) ORDER BY trade DESC LIMIT ?2)"
        " ORDER BY trade"
    )
    rows = _rows(read_settings(), name, query, symbol, last)
    if as_json:
        output.print_json({"lane": name, "trades": rows})
        return
    columns = (
        *("trade", "symbol", "side", "entry_utc", "exit_utc", "entry_price", "exit_price", "size", "reason", "pnl_usd"),
        *("fees_usd", "funding_usd", "adds", "partials", "config_id"),
    )
    _print("Trades", columns, rows, ("trade", "symbol", "side", "entry_utc", "pnl_usd", "reason"))


def _print(title: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]], important: Sequence[str]) -> None:
    if not rows:
        output.echo(f"{title}: none")
        return
    cells = [[row[key][:SHORT] if key == "config_id" else row[key] for key in columns] for row in rows]
    headings = [_heading(key) for key in columns]
    output.table(title, headings, cells, important=[_heading(key) for key in important])


def _heading(column: str) -> str:
    return column.removesuffix("_id").removesuffix("_utc").replace("_usd", ", USD").replace("_", " ")


def _rows(settings: "Settings", name: str, query: str, *values: object) -> list[dict[str, Any]]:
    """Return the rows of a query on the views of a lane's journal.

    Raises:
        ConfigError: The lane is unknown.
        DataError: The lane never ran in this home, or its journal is damaged.
    """
    from mei_pipeline.execution.journal.failures import translated
    from mei_pipeline.execution.journal.reader import connect_read_only

    path = journal_of(settings, name)
    with closing(connect_read_only(path)) as connection, translated(path):
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query, values)]
