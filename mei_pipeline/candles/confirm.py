"""Confirmations of bars: a person states that a bar marked as a spike is correct.

A confirmation names one bar and its prices. If an ingest revises the bar, the confirmation no longer applies.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl
from pydantic import Field

from mei_pipeline.candles import store
from mei_pipeline.candles.intervals import iso
from mei_pipeline.candles.store import Lake, StoredModel
from mei_pipeline.errors import Refused

_KEY: dict[str, pl.DataType] = {"symbol": pl.String(), "open_ms": pl.Int64()}
_PRICES: dict[str, pl.DataType] = {name: pl.Float64() for name in ("open", "high", "low", "close")}


@dataclass(frozen=True)
class Decision:
    """A person's decision.

    Attributes:
        who: Name of the person.
        why: The reason.
        now_ms: Time of the decision, UTC milliseconds.
    """

    who: str
    why: str
    now_ms: int


class Withdrawal(StoredModel):
    """The end of a confirmation, with person, reason and time."""

    who: str
    why: str
    when_ms: int


class Confirmation(StoredModel):
    """A confirmed bar, with the prices for which the confirmation holds."""

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


class ConfirmedFile(StoredModel):
    """`confirmed/<venue>.json`: every confirmation of a venue, oldest first, including withdrawn ones."""

    confirmations: list[Confirmation] = Field(default_factory=list)


def read_confirmations(lake: Lake, venue: str) -> list[Confirmation]:
    """Read every confirmation of a venue, oldest first, including withdrawn ones.

    Raises:
        DataError: The file is damaged or can't be read.
    """
    store.finish_transaction(lake)
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
    """Record that a bar is correct.

    Args:
        lake: The lake.
        venue: Venue of the bar.
        interval: Interval of the bar.
        bar: Symbol, open_ms and prices of the bar.
        decision: Person, reason and time.

    Raises:
        Refused: The bar is confirmed already, with these prices.
        DataError: The file is damaged or can't be written.
        Busy: Another process writes to the lake.
    """
    entry = Confirmation.model_validate(
        {name: bar[name] for name in (*_KEY, *_PRICES)}
        | {"interval": interval, "who": decision.who, "why": decision.why, "when_ms": decision.now_ms}
    )
    with store.write_transaction(lake, f"confirmation of {entry.symbol}") as transaction:
        existing = read_confirmations(lake, venue)
        for other in existing:
            if other.withdrawn is None and _same(other, entry):
                raise Refused(
                    f"{_name(venue, entry)}: was confirmed by {other.who} at {iso(other.when_ms)}; withdraw that with "
                    "`mei lake confirm --withdraw`"
                )
        transaction.write_json(_path(venue), ConfirmedFile(confirmations=[*existing, entry]).model_dump())
        store.stage_next_transaction(lake, transaction)
    return entry


def withdraw(
    lake: Lake, venue: str, interval: str, symbol: str, open_ms: int, decision: Decision
) -> list[Confirmation]:
    """Withdraw the confirmations of a bar; they stay on record.

    Returns:
        The confirmations that were withdrawn.

    Raises:
        Refused: No confirmation of the bar is in force.
        DataError: The file is damaged or can't be written.
        Busy: Another process writes to the lake.
    """
    end = Withdrawal(who=decision.who, why=decision.why, when_ms=decision.now_ms)
    key = (interval, symbol, open_ms)
    with store.write_transaction(lake, f"withdrawal of a confirmation of {symbol}") as transaction:
        existing = read_confirmations(lake, venue)
        ends = [entry.withdrawn is None and (entry.interval, entry.symbol, entry.open_ms) == key for entry in existing]
        if not any(ends):
            raise Refused(
                f"{symbol} {interval} {iso(open_ms)} of {venue}: not confirmed; `mei lake spikes` lists confirmed bars"
            )
        entries = [
            entry.model_copy(update={"withdrawn": end}) if withdrawn else entry
            for entry, withdrawn in zip(existing, ends, strict=True)
        ]
        transaction.write_json(_path(venue), ConfirmedFile(confirmations=entries).model_dump())
        store.stage_next_transaction(lake, transaction)
    return [entry for entry, withdrawn in zip(entries, ends, strict=True) if withdrawn]


def _path(venue: str) -> str:
    return f"confirmed/{venue}.json"


def _same(one: Confirmation, other: Confirmation) -> bool:
    names = ("interval", *_KEY, *_PRICES)
    return all(getattr(one, name) == getattr(other, name) for name in names)


def _name(venue: str, entry: Confirmation) -> str:
    return f"{entry.symbol} {entry.interval} {iso(entry.open_ms)} of {venue}"
