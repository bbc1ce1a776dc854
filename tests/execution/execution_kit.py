"""A lane without journal, feed and broker: a small config, bars on demand, and a journal in a list."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kernels import features as feature_kernel
from mei_pipeline.execution import books, checkpoint, core, recovery
from mei_pipeline.execution.commands import Command, Place, Send, Warm
from mei_pipeline.execution.events import (
    AccountSnapshot,
    BarClosed,
    ConfigOffered,
    Event,
    Fill,
    HoldState,
    InstrumentChanged,
    OrderAccepted,
    OrderGone,
    PackedLane,
    Started,
    StepClosed,
    Timer,
    Warmed,
)
from mei_pipeline.execution.state import LaneSetup, LaneState, Outcome
from mei_pipeline.params.identity import ResolvedConfig, config_id, resolve_config
from mei_pipeline.params.table import read_catalog
from mei_pipeline.registry.records import as_dict
from mei_pipeline.settings import Settings

HOUR = 3_600_000
ANCHOR = 1_767_225_600_000
HISTORY = 8
"""Bars at 100 USD between the anchor and the first step."""
FIRST = ANCHOR + HISTORY * HOUR
SYMBOLS = ("AAA", "BBB", "CCC")
KERNELS = "a" * 64
DECIMALS = 2
EQUITY = 10_000.0
UP, DOWN = 110.0, 90.0
"""Closes after 100: the fast mean crosses the slow one."""

PARAMS = {
    "indicators.ema_fast_window": 1,
    "indicators.ema_slow_window": 4,
    "indicators.atr_window": 2,
    "entry.warmup_bars": 2,
    "trade.size_frac": 0.1,
    "trade.sl_atr_mult": 50.0,
    "trade.tp_atr_mult": 50.0,
}

_plans: dict[str, books.BookPlan] = {}


def resolved(symbols: Sequence[str] = SYMBOLS, market: Mapping[str, Any] | None = None, **extra: Any) -> ResolvedConfig:
    """A config of `ema_cross` on hours; `extra` has further parts of a config, or `params` that differ."""
    params = PARAMS | extra.pop("params", {})
    return resolve_config(
        read_catalog(),
        strategy="ema_cross",
        venue="synthetic",
        interval="1h",
        symbols=symbols,
        initial_balance_usd=EQUITY,
        params=params,
        market={"market.fill": "close", "market.stops": "close"} | dict(market or {}),
        **extra,
    )


def offer(config: ResolvedConfig, generation: int = 1, **changes: Any) -> ConfigOffered:
    values = {"state": "active", "size_multiplier": 1.0, "kernel_hash": KERNELS, "anchor_ms": ANCHOR} | changes
    return ConfigOffered(config_id=config_id(config), generation=generation, config=as_dict(config), **values)


def make_setup(settings: Settings, **changes: Any) -> LaneSetup:
    def make_plan(offered: ConfigOffered) -> books.BookPlan:
        key = f"{offered.config_id}:{offered.kernel_hash}:{offered.generation}"
        if key not in _plans:
            _plans[key] = books.make_plan(settings, offered)
        return _plans[key]

    values = {
        "lane": "paper1",
        "mode": "paper",
        "book_ids": ("0000abcd",),
        "equity_usd": EQUITY,
        "kernel_hash": KERNELS,
        "make_plan": make_plan,
    }
    return LaneSetup(**values | changes)


def bar(symbol: str, open_ms: int, close: float, before: float = 100.0, interval: str = "1h", **more: Any) -> BarClosed:
    high, low = max(close, before), min(close, before)
    values = {"open": before, "high": high, "low": low, "close": close, "volume": 10.0} | more
    return BarClosed(symbol=symbol, interval=interval, open_ms=open_ms, **values)


def terms(symbol: str, **changes: Any) -> InstrumentChanged:
    values = {
        "from_ms": 0,
        "size_decimals": DECIMALS,
        "min_notional_usd": 10.0,
        "max_leverage": 20.0,
        "maintenance_margin_frac": 0.01,
    }
    return InstrumentChanged(symbol=symbol, **values | changes)


def hold(effect: str = "close_only", symbol: str = "") -> HoldState:
    return HoldState(owner="person", effect=effect, reason="a test", since_ms=FIRST, symbol=symbol)


def accepted(place: Place) -> OrderAccepted:
    return OrderAccepted(cloid=place.cloid, oid=f"o-{place.cloid[-6:]}")


def filled(place: Place, lots: int | None = None, key: str = "", price: float = 100.0, **changes: Any) -> Fill:
    lots = place.lots if lots is None else lots
    values = {"fee_usd": 0.25, "cloid": place.cloid, "oid": f"o-{place.cloid[-6:]}", "lot_decimals": DECIMALS}
    return Fill(key=key or f"{place.cloid}/{lots}", symbol=place.symbol, lots=lots, price=price, **values | changes)


def gone(place: Place, lots: int = 0, reason: str = "cancelled") -> OrderGone:
    return OrderGone(cloid=place.cloid, reason=reason, filled_lots=lots)


def manual(symbol: str, lots: int, key: str, **changes: Any) -> Fill:
    values = {"price": 100.0, "fee_usd": 0.25, "kind": "manual", "lot_decimals": DECIMALS}
    return Fill(key=key, symbol=symbol, lots=lots, **values | changes)


@dataclass
class Bars:
    """The bars that the lake would have: one close for each symbol and hour since the anchor, None without a bar."""

    closes: dict[str, list[float | None]] = field(default_factory=dict)

    def of(self, symbol: str) -> list[float | None]:
        return self.closes.setdefault(symbol, [100.0] * HISTORY)

    def warm(self, plan: books.BookPlan, until_ms: int) -> tuple[books.StepBook, Warmed]:
        """Compute the features of a config as `warmup.warm_book` does."""
        count = (until_ms - ANCHOR) // HOUR
        close = np.array([self.of(symbol)[:count] for symbol in plan.symbols], dtype=np.float64).T.copy()
        before = np.vstack([np.full(close.shape[1], 100.0), close[:-1]])
        high, low = np.fmax(close, before), np.fmin(close, before)
        high[np.isnan(close)] = low[np.isnan(close)] = np.nan
        step = books.make_step_book(plan, plan.model.initial_usd)
        feature_kernel.warm(*plan.columns, step.state, step.columns, high, low, close, np.full_like(close, 10.0))
        step.counts[:] = (~np.isnan(close)).sum(axis=0)
        step.rows[0] = count
        for s, symbol in enumerate(plan.symbols):
            known = [price for price in self.of(symbol)[:count] if price is not None]
            step.market.last_price[0, s] = known[-1] if known else np.nan
        data_hash = str(hash(tuple(map(tuple, (self.of(symbol)[:count] for symbol in plan.symbols)))))
        fact = Warmed(
            venue_ms=until_ms,
            config_id=plan.offered.config_id,
            anchor_ms=ANCHOR,
            until_ms=until_ms,
            data_hash=data_hash,
        )
        return step, fact


@dataclass
class Lane:
    """A lane whose journal is a list.

    Attributes:
        state: The state.
        bars: The bars so far.
        journal: Events and facts, in order.
        commands: Commands of the last event.
        rows: Rows of the last event.
        facts: Facts of the last event.
        warming: True if a config waits for its features.
    """

    state: LaneState
    bars: Bars = field(default_factory=Bars)
    journal: list[Event] = field(default_factory=list)
    commands: tuple[Command, ...] = ()
    rows: tuple[Any, ...] = ()
    facts: tuple[Event, ...] = ()
    warming: bool = False

    def take(self, event: Event, book: books.StepBook | None = None) -> Outcome:
        """Process an event; a config that waits gets its book at once."""
        outcome = core.step(self.state, event, book)
        self.state = outcome.state
        self.journal += (event, *outcome.facts)
        self.commands, self.rows, self.facts = outcome.commands, outcome.rows, outcome.facts
        return outcome

    def take_all(self, events: Iterable[Event]) -> list[Command]:
        return [command for event in events for command in self.take(event).commands]

    def open_waiting(self) -> Outcome:
        """Answer the command `Warm` with the book."""
        waiting = self.state.waiting
        assert waiting is not None
        until = self.state.next_step_ms
        step, fact = self.bars.warm(self.state.setup.make_plan(waiting), FIRST if until is None else until)
        return self.take(fact, step)

    def bar(self, symbol: str, close: float) -> BarClosed:
        """The next bar of a symbol; the lake gets it too."""
        closes = self.bars.of(symbol)
        known = [price for price in closes if price is not None]
        event = bar(symbol, ANCHOR + len(closes) * HOUR, close, known[-1])
        closes.append(close)
        return event

    def close(self, prices: Mapping[str, float] | None = None, late_ms: int = 0) -> list[Place]:
        """Take the bars of the next step and its end; symbols without a price stay where they are.

        Returns:
            The orders that are sent.
        """
        step_ms = self.state.next_step_ms
        assert step_ms is not None
        present = []
        for symbol in self.state.books[-1].step.plan.symbols:
            last = [price for price in self.bars.of(symbol) if price is not None][-1]
            self.take(self.bar(symbol, (prices or {}).get(symbol, last)))
            present.append(symbol)
        self.take(closed(step_ms, present, late_ms))
        return sent(self.commands)

    def reconcile(self) -> None:
        """Tell the lane that the account agrees with its books."""
        self.take(snapshot(self.state))

    def pack(self) -> PackedLane:
        return checkpoint.pack(self.state)

    def recovered(self, packed: PackedLane | None = None, events: Iterable[Event] | None = None) -> LaneState:
        """The state that another process recovers; by default from the whole journal."""
        again = self.journal if events is None else events
        return recovery.recover(self.state.setup, packed, again, self.bars.warm)

    def size(self, symbol: str) -> float:
        return sum(book.step.size_of(symbol) for book in self.state.books)

    def due(self, now_ms: int) -> list[Command]:
        """Take the timers that are due."""
        due = [(name, ms) for name, ms in self.state.timers.items() if ms <= now_ms]
        return self.take_all(Timer(venue_ms=now_ms, name=name, due_ms=ms) for name, ms in due)


def closed(step_ms: int, present: Sequence[str] = SYMBOLS, late_ms: int = 0) -> StepClosed:
    return StepClosed(venue_ms=step_ms + HOUR + late_ms, step_ms=step_ms, present=tuple(present), late_ms=late_ms)


def sent(commands: Iterable[Command]) -> list[Place]:
    return [place for command in commands if isinstance(command, Send) for place in command.orders]


def snapshot(state: LaneState, **changes: Any) -> AccountSnapshot:
    """The account as the books have it."""
    held: dict[str, float] = {}
    for book in state.books:
        for symbol in book.step.plan.symbols:
            held[symbol] = held.get(symbol, 0.0) + book.step.size_of(symbol)
    positions = {symbol: (round(size * 10**DECIMALS), DECIMALS) for symbol, size in held.items() if size}
    working = tuple(cloid for cloid, order in state.orders.items() if not order.ended)
    values = {"equity_usd": EQUITY, "margin_usd": 0.0, "positions": positions, "open_orders": working}
    return AccountSnapshot(**values | changes)


def started(**changes: Any) -> Started:
    return Started(**{"kernel_hash": KERNELS, "mode": "paper", "feed": "replay"} | changes)


def new_lane(settings: Settings, config: ResolvedConfig | None = None, **changes: Any) -> Lane:
    """A lane before its first step, with one book, compared with its account."""
    lane = Lane(LaneState(make_setup(settings, **changes)))
    lane.take(started())
    config = config or resolved()
    lane.take_all(terms(symbol) for symbol in config.symbols)
    lane.take(offer(config))
    assert any(isinstance(command, Warm) for command in lane.commands)
    lane.open_waiting()
    lane.reconcile()
    return lane
