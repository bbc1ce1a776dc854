"""Bars that a person confirmed: they happened, although they look like no market makes them.

A confirmation is of one bar with its prices. A bar that an ingest revises afterwards is judged again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from mei_pipeline.candles import store
from mei_pipeline.candles.intervals import iso
from mei_pipeline.candles.store import Lake
from mei_pipeline.errors import Refused

_KEY: dict[str, pl.DataType] = {"symbol": pl.String(), "open_ms": pl.Int64()}
_PRICES: dict[str, pl.DataType] = {name: pl.Float64() for name in ("open", "high", "low", "close")}


@dataclass(frozen=True)
class Decision:
    """A decision of a person.

    Attributes:
        who: The person.
        why: The reason.
        now_ms: The time, UTC milliseconds.
    """

    who: str
    why: str
    now_ms: int


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Withdrawal(_Record):
    """The end of a confirmation: who withdrew it, why and when."""

    who: str
    why: str
    when_ms: int


class Confirmation(_Record):
    """A bar that a person confirmed, with the prices that it had."""

    interval: str
    symbol: str
    open_ms: int
    open: float
    high: float
    low: float
    close: float
    who: str
    why: str
    when_ms: int
    withdrawn: Withdrawal | None = None


class ConfirmedFile(_Record):
    """confirmed/<venue>.json: every confirmation of a venue, oldest first, withdrawn ones too."""

    confirmations: list[Confirmation] = Field(default_factory=list)


def read_confirmations(lake: Lake, venue: str) -> list[Confirmation]:
    """Read every confirmation of a venue, oldest first, withdrawn ones too.

    Raises:
        DataError: The file is damaged or can't be read.
    """
    store.settle(lake)
    return (store.read_record(lake.root / _path(venue), ConfirmedFile) or ConfirmedFile()).confirmations


def confirmed_bars(lake: Lake, venue: str, interval: str) -> pl.DataFrame:
    """Read the bars whose confirmation is in force.

    Returns:
        Columns symbol, open_ms, open, high, low, close: the prices for which each confirmation holds.

    Raises:
        DataError: The file is damaged or can't be read.
    """
    rows = [
        [getattr(entry, name) for name in (*_KEY, *_PRICES)]
        for entry in read_confirmations(lake, venue)
        if entry.interval == interval and entry.withdrawn is None
    ]
    return pl.DataFrame(rows, schema=_KEY | _PRICES, orient="row")


def confirm(lake: Lake, venue: str, interval: str, bar: Mapping[str, Any], decision: Decision) -> Confirmation:
    """Record that a bar happened.

    Args:
        lake: The lake.
        venue: Its venue.
        interval: Its interval.
        bar: Its symbol, open_ms and prices.
        decision: Who says so, why and when.

    Raises:
        Refused: It is confirmed already, with these prices.
        DataError: The file is damaged or can't be written.
        Busy: Another process writes to the lake.
    """
    entry = Confirmation.model_validate(
        {name: bar[name] for name in (*_KEY, *_PRICES)}
        | {"interval": interval, "who": decision.who, "why": decision.why, "when_ms": decision.now_ms}
    )
    with store.writing(lake, f"confirmation of {entry.symbol}") as stage:
        known = read_confirmations(lake, venue)
        for other in known:
            if other.withdrawn is None and _same(other, entry):
                raise Refused(
                    f"{_name(venue, entry)} was confirmed by {other.who} at {iso(other.when_ms)}; `mei lake confirm "
                    "--withdraw` takes it back"
                )
        stage.write_json(_path(venue), ConfirmedFile(confirmations=[*known, entry]).model_dump())
        store.stage_next(lake, stage)
    return entry


def withdraw(
    lake: Lake, venue: str, interval: str, symbol: str, open_ms: int, decision: Decision
) -> list[Confirmation]:
    """Take the confirmations of a bar back; they stay on record.

    Returns:
        The confirmations that are withdrawn now.

    Raises:
        Refused: No confirmation of the bar is in force.
        DataError: The file is damaged or can't be written.
        Busy: Another process writes to the lake.
    """
    end = Withdrawal(who=decision.who, why=decision.why, when_ms=decision.now_ms)
    key = (interval, symbol, open_ms)
    with store.writing(lake, f"withdrawal of a confirmation of {symbol}") as stage:
        known = read_confirmations(lake, venue)
        ended = [entry.withdrawn is None and (entry.interval, entry.symbol, entry.open_ms) == key for entry in known]
        if not any(ended):
            raise Refused(
                f"{symbol} {interval} {iso(open_ms)} of {venue}: not confirmed; `mei lake spikes` lists what is"
            )
        entries = [
            entry.model_copy(update={"withdrawn": end}) if mine else entry
            for entry, mine in zip(known, ended, strict=True)
        ]
        stage.write_json(_path(venue), ConfirmedFile(confirmations=entries).model_dump())
        store.stage_next(lake, stage)
    return [entry for entry, mine in zip(entries, ended, strict=True) if mine]


def _path(venue: str) -> str:
    return f"confirmed/{venue}.json"


def _same(one: Confirmation, other: Confirmation) -> bool:
    names = ("interval", *_KEY, *_PRICES)
    return all(getattr(one, name) == getattr(other, name) for name in names)


def _name(venue: str, entry: Confirmation) -> str:
    return f"{entry.symbol} {entry.interval} {iso(entry.open_ms)} of {venue}"
