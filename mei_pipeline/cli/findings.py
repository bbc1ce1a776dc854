"""Findings about bars as tables, and `mei lake spikes` and `mei lake confirm`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from mei_pipeline.cli import output
from mei_pipeline.cli.days import utc_ms
from mei_pipeline.cli.moves import WHO, WHY, audit
from mei_pipeline.cli.options import result_options
from mei_pipeline.cli.places import check_place

if TYPE_CHECKING:
    from mei_pipeline.candles.confirm import Confirmation, Decision
    from mei_pipeline.candles.quality import Findings, QualityFinding
    from mei_pipeline.candles.spikes import SpikeBounds
    from mei_pipeline.candles.store import Lake

HEADERS = ("interval", "rule", "outcome", "symbol", "count", "detail")
"""Columns of `finding_rows`."""
IMPORTANT = ("symbol", "rule", "count", "interval", "detail")
"""Those of `HEADERS` that a narrow terminal shows first."""
_OUTCOMES = {"refuse": "refused", "repair": "repaired", "warn": "stored", "mark": "stored, marked"}
_MOMENTS = ("%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%MZ", "%Y-%m-%d %H:%MZ", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d")


def bounds() -> "SpikeBounds":
    """Return the spike bounds of policy.yaml; the defaults if the file does not exist.

    Raises:
        ConfigError: The file is invalid.
    """
    from mei_pipeline.candles.spikes import SpikeBounds
    from mei_pipeline.config.document import read_yaml
    from mei_pipeline.config.load import POLICY
    from mei_pipeline.config.models import PolicyConfig
    from mei_pipeline.settings import read_settings

    path = read_settings().config / POLICY
    return SpikeBounds(**read_yaml(path, PolicyConfig).spikes.model_dump()) if path.is_file() else SpikeBounds()


def finding_rows(table: str, findings: "Findings") -> list[tuple[Any, ...]]:
    """Return findings of an interval, or of funding, as rows with the columns `HEADERS`."""
    return [
        (table, item.rule, _OUTCOMES[item.severity], item.symbol, item.count, _detail(table, item))
        for item in findings.items
    ]


def _detail(table: str, item: "QualityFinding") -> str | None:
    """Return a short text of the longest gap, or else of the first row."""
    from mei_pipeline.candles.intervals import interval_ms, iso

    if not item.sample:
        return None
    row = item.sample[0]
    if item.rule == "gap":
        start, end = row["open_ms"] - row["missing"] * interval_ms(table), row["open_ms"]
        gaps = f"in {item.rows:,} gaps, the longest" if item.rows > 1 else "in 1 gap,"
        return f"missing {gaps} {row['missing']:,} bars from {iso(start)} to {iso(end)}"
    if item.rule in {"jump", "open_jump", "gap_jump"}:
        price = row["close"] if item.rule != "open_jump" else row["open"]
        label = "open " if item.rule == "open_jump" else ""
        change = f"close {row['previous_close']:g} → {label}{price:g} ({row['change_frac']:+.1%})"
        after = f" after {row['missing']:,} missing bars" if item.rule == "gap_jump" else ""
        return f"{iso(row['open_ms'])} {change}{after}"
    stamp = next((row[name] for name in ("open_ms", "time_ms") if row.get(name) is not None), None)
    parts = [] if stamp is None else [iso(stamp)]
    names = ("open", "high", "low", "close", "volume", "rate", "missing")
    return " ".join([*parts, *(f"{name}={row[name]}" for name in names if name in row)])


@click.command("spikes")
@click.option("--venue", help="Only this venue.")
@click.option("--interval", help="Only this interval.")
@click.option("--symbol", multiple=True, help="Only this symbol; may be repeated.")
@result_options
def spikes(venue: str | None, interval: str | None, symbol: tuple[str, ...], as_json: bool) -> None:
    """List implausible bars, whose symbols are excluded, and the bars that a person confirmed."""
    from mei_pipeline.candles.intervals import iso

    lake = _lake()
    check_place(lake, venue, filter(None, (interval,)), symbol)
    marked = list(_marked(lake, venue, interval, symbol))
    confirmed = list(_confirmations(lake, venue, interval, symbol))
    if as_json:
        output.print_json(
            {"marked": marked, "confirmed": [{"venue": name, **entry.model_dump()} for name, entry in confirmed]}
        )
        return
    if marked:
        output.table(
            "Spikes; their symbols are excluded",
            ("venue", "interval", "symbol", "bar", "open", "high", "low", "close"),
            [
                (*(bar[name] for name in ("venue", "interval", "symbol")), iso(bar["open_ms"]), *_prices(bar))
                for bar in marked
            ],
            important=("symbol", "bar", "interval", "venue", "close"),
        )
    else:
        output.note("no bar is marked")
    if confirmed:
        _show_confirmations(confirmed)


@click.command("confirm")
@click.argument("symbol")
@click.option("--at", "moment", type=click.DateTime(_MOMENTS), metavar="TIME", required=True,
              help="UTC time at which the bar opens, such as 2026-05-01T13:00.")  # fmt: skip
@click.option("--venue", help="Venue; needed if several venues have such a bar.")
@click.option("--interval", help="Interval; needed if several intervals have such a bar.")
@click.option("--withdraw", "withdrawn", is_flag=True, help="Take the confirmation back; it stays on record.")
@WHY
@WHO
@result_options
def confirm(
    *,
    symbol: str,
    moment: Any,
    venue: str | None,
    interval: str | None,
    withdrawn: bool,
    why: str,
    who: str | None,
    as_json: bool,
) -> None:
    """Confirm that an implausible bar of SYMBOL happened, so that the symbol is traded again.

    A confirmation holds for the current prices of the bar: if an ingest revises them, the bar is checked again.
    """
    from mei_pipeline.candles.confirm import Decision

    because = audit(who, why, "mei lake confirm")
    decision = Decision(because.who, because.why, because.now_ms)
    change, lake = _withdraw if withdrawn else _confirm, _lake()
    check_place(lake, venue, filter(None, (interval,)), (symbol,))
    changed = change(lake, symbol, utc_ms(moment), (venue, interval), decision)
    if as_json:
        output.print_json({"confirmed": [{"venue": name, **entry.model_dump()} for name, entry in changed]})
    else:
        _show_confirmations(changed)


def _confirm(
    lake: "Lake", symbol: str, open_ms: int, place: tuple[str | None, str | None], decision: "Decision"
) -> "list[tuple[str, Confirmation]]":
    from mei_pipeline.candles import confirm
    from mei_pipeline.candles.intervals import iso
    from mei_pipeline.errors import Refused

    marked = list(_marked(lake, *place, (symbol,)))
    bars = [bar for bar in marked if bar["open_ms"] == open_ms]
    if not bars:
        for venue, entry in _confirmations(lake, *place, (symbol,)):
            if entry.open_ms == open_ms and entry.withdrawn is None:
                raise Refused(
                    f"{symbol} {entry.interval} {iso(open_ms)} of {venue}: was confirmed by {entry.who} at "
                    f"{iso(entry.when_ms)}; --withdraw takes it back"
                )
        listed = ", ".join(f"{iso(bar['open_ms'])} ({bar['venue']} {bar['interval']})" for bar in marked[:5])
        raise Refused(f"{symbol} {iso(open_ms)}: not marked, nothing to confirm; marked bars of it: {listed or 'none'}")
    venue, interval = _one([(bar["venue"], bar["interval"]) for bar in bars], f"{symbol} {iso(open_ms)}")
    bar = next(bar for bar in bars if (bar["venue"], bar["interval"]) == (venue, interval))
    return [(venue, confirm.confirm(lake, venue, interval, bar, decision))]


def _withdraw(
    lake: "Lake", symbol: str, open_ms: int, place: tuple[str | None, str | None], decision: "Decision"
) -> "list[tuple[str, Confirmation]]":
    from mei_pipeline.candles import confirm
    from mei_pipeline.candles.intervals import iso
    from mei_pipeline.errors import Refused

    places = [
        (name, entry.interval)
        for name, entry in _confirmations(lake, *place, (symbol,))
        if entry.open_ms == open_ms and entry.withdrawn is None
    ]
    if not places:
        raise Refused(f"{symbol} {iso(open_ms)}: no confirmation of it is in force; `mei lake spikes` lists them")
    venue, interval = _one(places, f"{symbol} {iso(open_ms)}")
    return [(venue, entry) for entry in confirm.withdraw(lake, venue, interval, symbol, open_ms, decision)]


def _one(places: list[tuple[str, str]], what: str) -> tuple[str, str]:
    from mei_pipeline.errors import ConfigError

    distinct = sorted(set(places))
    if len(distinct) > 1:
        listed = ", ".join(f"--venue {venue} --interval {interval}" for venue, interval in distinct)
        raise ConfigError(f"{what}: marked in several places; name one of: {listed}")
    return distinct[0]


def _marked(
    lake: "Lake", venue: str | None, interval: str | None, symbols: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    """Return the implausible bars of a lake by venue, interval, symbol and time."""
    from mei_pipeline.candles.findings import unconfirmed_spikes
    from mei_pipeline.candles.lake import intervals, venues

    limits = bounds()
    for name in venues(lake):
        for each in intervals(lake, name):
            if venue in (None, name) and interval in (None, each):
                for row in unconfirmed_spikes(lake, name, each, limits, symbols or None).iter_rows(named=True):
                    bar = {key: value for key, value in row.items() if not key.startswith("_")}
                    yield {"venue": name, "interval": each, **bar}


def _confirmations(
    lake: "Lake", venue: str | None, interval: str | None, symbols: tuple[str, ...]
) -> "Iterator[tuple[str, Confirmation]]":
    from mei_pipeline.candles.confirm import read_confirmations
    from mei_pipeline.candles.lake import venues

    for name in venues(lake):
        for entry in read_confirmations(lake, name) if venue in (None, name) else ():
            if interval in (None, entry.interval) and (not symbols or entry.symbol in symbols):
                yield name, entry


def _show_confirmations(confirmed: "list[tuple[str, Confirmation]]") -> None:
    from mei_pipeline.candles.intervals import iso

    output.table(
        "Confirmed by a person",
        ("venue", "interval", "symbol", "bar", "high", "low", "by", "when", "why", "withdrawn"),
        [
            (
                venue,
                entry.interval,
                entry.symbol,
                iso(entry.open_ms),
                entry.high,
                entry.low,
                entry.who,
                iso(entry.when_ms // 1000 * 1000),
                entry.why,
                entry.withdrawn
                and f"by {entry.withdrawn.who} at {iso(entry.withdrawn.when_ms // 1000 * 1000)}: {entry.withdrawn.why}",
            )
            for venue, entry in confirmed
        ],
        important=("symbol", "bar", "interval", "venue", "withdrawn", "by", "why"),
    )


def _prices(bar: dict[str, Any]) -> tuple[float, ...]:
    return tuple(bar[name] for name in ("open", "high", "low", "close"))


def _lake() -> "Lake":
    from mei_pipeline.candles.store import Lake
    from mei_pipeline.settings import read_settings

    return Lake(read_settings().lake)
