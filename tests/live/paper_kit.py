"""A lane in memory: core and paper broker over hand-made bars, without journal and socket."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from kernels import features as feature_kernel
from kernels.book import VERDICTS
from live.broker import Broker, execute
from live.paper_broker import PaperBroker
from mei_pipeline.candles.intervals import DAY_MS, Intervals
from mei_pipeline.execution import core
from mei_pipeline.execution.books import BookPlan, StepBook, make_plan, make_step_book
from mei_pipeline.execution.commands import Alert, Command, Send, Warm
from mei_pipeline.execution.events import (
    BarClosed,
    CaughtUp,
    Checkpoint,
    ConfigOffered,
    Decided,
    Event,
    FundingRate,
    InstrumentChanged,
    Started,
    StepClosed,
    Timer,
    Warmed,
)
from mei_pipeline.execution.recovery import recover
from mei_pipeline.execution.rows import FillRow, FundingRow, Row, TradeRow
from mei_pipeline.execution.state import LaneSetup, LaneState
from mei_pipeline.params.identity import ResolvedConfig, config_id, resolve_config
from mei_pipeline.params.table import read_catalog
from mei_pipeline.registry.records import as_dict
from mei_pipeline.replay.run import Replay, make_replay_inputs, replay
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.bars import Bars, main_ages, make_steps
from mei_pipeline.simulation.terms import TRADED_BY

START_MS = 1_735_689_600_000  # 2025-01-01
SYMBOLS = ("AAA", "BBB", "CCC")
FROM_MS, TO_MS = START_MS + 10 * DAY_MS, START_MS + 40 * DAY_MS
KERNELS = "k" * 64

CROSS = {
    "indicators.ema_fast_window": 3,
    "indicators.ema_slow_window": 9,
    "entry.warmup_bars": 50,
    "trade.size_frac": 0.4,
}
ALPHA = {
    "entry.warmup_bars": 60,
    "thresholds.entry.min_adx": 10.0,
    "thresholds.entry.enable_pullback_entries": True,
    "trade.entry_min_confidence": "low",
    "trade.add_cooldown_minutes": 0.0,
    "trade.add_min_profit_atr": 0.1,
    "trade.tp_partial_atr_mult": 1.0,
    "filters.require_btc_alignment": False,
}
"""Parameters with which each strategy trades often on `make_bars`."""


def instruments(symbols: Sequence[str] = SYMBOLS, **changes: dict[int, dict[str, float]]) -> pl.DataFrame:
    """Terms of the symbols; `changes` gives, by symbol and time, the terms that differ from then on."""
    first = {
        "size_decimals": 2,
        "min_notional_usd": 10.0,
        "max_leverage": 20.0,
        "maintenance_margin_frac": 0.025,
        "delisted_ms": None,
    }
    rows = []
    for symbol in symbols:
        rows.append({"symbol": symbol, "from_ms": 0, **first})
        for from_ms, new in sorted(changes.get(symbol, {}).items()):
            rows.append({**rows[-1], "from_ms": from_ms, **new})
    schema = {"symbol": pl.String, "from_ms": pl.Int64, **dict.fromkeys(TRADED_BY, pl.Float64), "delisted_ms": pl.Int64}
    return pl.DataFrame(rows, schema=schema)


def make_bars(
    *,
    seed: int = 1,
    sub: int = 1,
    days: int = 45,
    noise: float = 0.006,
    gaps: float = 0.01,
    terms: pl.DataFrame | None = None,
    ends: dict[str, int] | None = None,
    jumps: dict[int, float] | None = None,
) -> Bars:
    """Random walks of hourly bars with `sub` bars inside each, funding every eight hours, and some missing bars.

    `ends` gives the number of hours after which a symbol has no bars, `jumps` factors of all prices from an hour on.
    """
    rng = np.random.default_rng(seed)
    hours, count = days * 24, len(SYMBOLS)
    fine = hours * sub
    trend = np.where(np.arange(fine) // (60 * sub) % 2 == 0, 0.002, -0.002)[:, None] / sub
    close = 100.0 * np.exp(np.cumsum(rng.normal(trend, noise / np.sqrt(sub), (fine, count)), axis=0))
    opened = np.concatenate((np.full((1, count), 100.0), close[:-1])) * (1.0 + rng.normal(0.0, noise / 10, close.shape))
    high = np.maximum(opened, close) * (1.0 + np.abs(rng.normal(0.0, noise / 3, close.shape)))
    low = np.minimum(opened, close) * (1.0 - np.abs(rng.normal(0.0, noise / 3, close.shape)))
    prices = np.round(np.stack((opened, high, low, close)), 3)
    for hour, factor in (jumps or {}).items():
        prices[:, hour * sub :] = np.round(prices[:, hour * sub :] * factor, 3)
    volume = rng.uniform(1.0, 100.0, (fine, count))
    missing = np.repeat(rng.random((hours, count)) < gaps, sub, axis=0)
    for symbol, hour in (ends or {}).items():
        missing[hour * sub :, SYMBOLS.index(symbol)] = True
    prices[:, missing] = np.nan
    grouped = prices.reshape(4, hours, sub, count)
    main = np.stack((grouped[0, :, 0], grouped[1].max(axis=1), grouped[2].min(axis=1), grouped[3, :, -1]))
    step = {1: "", 4: "15m"}[sub]
    intervals = Intervals("1h", step, step)
    open_ms = START_MS + intervals.step_ms * np.arange(fine, dtype=np.int64)
    funding = np.zeros((fine, count))
    funding[8 * sub - 1 :: 8 * sub] = rng.normal(0.0001, 0.0002, funding[8 * sub - 1 :: 8 * sub].shape)
    present = ~np.isnan(main[3])
    ages = main_ages(present)
    return Bars(
        venue="test",
        intervals=intervals,
        symbols=SYMBOLS,
        anchor_ms=START_MS,
        data_hash=f"{seed}-{sub}-{days}-{noise}-{gaps}-{ends}-{jumps}",
        open_ms=START_MS + intervals.main_ms * np.arange(hours, dtype=np.int64),
        prices=main,
        volume=np.where(present, volume.reshape(hours, sub, count).sum(axis=1), np.nan),
        age=ages,
        steps=make_steps(intervals, open_ms, prices, funding, ages),
        instruments=instruments() if terms is None else terms,
    )


def config(strategy: str, bars: Bars, params: dict[str, object], market: dict[str, object]) -> ResolvedConfig:
    """A config over the bars."""
    return resolve_config(
        read_catalog(),
        strategy=strategy,
        venue=bars.venue,
        interval=bars.intervals.main,
        entry_interval=bars.intervals.entry,
        exit_interval=bars.intervals.exit,
        symbols=bars.symbols,
        initial_balance_usd=10_000,
        params=params,
        market=market,
    )


def offer_of(resolved: ResolvedConfig, *, generation: int = 1, size_multiplier: float = 1.0) -> ConfigOffered:
    """The offer of a config."""
    return ConfigOffered(
        config_id=config_id(resolved),
        generation=generation,
        state="active",
        size_multiplier=size_multiplier,
        kernel_hash=KERNELS,
        anchor_ms=START_MS,
        config=as_dict(resolved),
    )


def events_of(bars: Bars, from_ms: int = FROM_MS, to_ms: int = TO_MS) -> Iterator[Event]:
    """The bars as the feed of a lake sends them."""
    steps = bars.steps
    sent: dict[str, InstrumentChanged] = {}
    # Features read the volume of main bars alone.
    volume = bars.volume if steps.interval == bars.interval else np.ones(steps.present.shape)
    for t in range((from_ms - START_MS) // steps.step_ms, (to_ms - START_MS) // steps.step_ms):
        close_ms = int(steps.close_ms[t])
        yield from _new_terms(bars, t, sent)
        for s, symbol in enumerate(bars.symbols):
            if steps.present[t, s]:
                yield _bar(steps.interval, symbol, int(steps.open_ms[t]), steps.prices[:, t, s], volume[t, s])
        if steps.interval != bars.interval and (close_ms - START_MS) % bars.interval_ms == 0:
            yield from _main_bars(bars, int(steps.row[t]))
        for s in np.flatnonzero(steps.funding[t]).tolist():
            rate = float(steps.funding[t, s])
            yield FundingRate(venue_ms=close_ms, symbol=bars.symbols[s], due_ms=close_ms, rate=rate)
        present = tuple(symbol for s, symbol in enumerate(bars.symbols) if steps.present[t, s])
        yield StepClosed(venue_ms=close_ms, step_ms=int(steps.open_ms[t]), present=present)


def _new_terms(bars: Bars, t: int, sent: dict[str, InstrumentChanged]) -> Iterator[InstrumentChanged]:
    """The terms that come into force at a step, and those of a symbol with its last bar there."""
    open_ms, close_ms = int(bars.steps.open_ms[t]), int(bars.steps.close_ms[t])
    last = {bars.symbols[ending.symbol] for ending in bars.endings if ending.step == t}
    in_force = {row["symbol"]: row for row in bars.instruments.iter_rows(named=True) if row["from_ms"] <= close_ms}
    for symbol, row in in_force.items():
        terms = InstrumentChanged(
            symbol=symbol,
            from_ms=row["from_ms"],
            size_decimals=int(row["size_decimals"]),
            min_notional_usd=row["min_notional_usd"],
            max_leverage=row["max_leverage"],
            maintenance_margin_frac=row["maintenance_margin_frac"],
            last_open_ms=open_ms if symbol in last else None,
        )
        if symbol in last or symbol not in sent or sent[symbol].from_ms != terms.from_ms:
            sent[symbol] = terms
            yield terms


def _main_bars(bars: Bars, row: int) -> Iterator[BarClosed]:
    for s, symbol in enumerate(bars.symbols):
        if bars.age[row, s] >= 0:
            prices, volume = bars.prices[:, row, s], bars.volume[row, s]
            yield _bar(bars.interval, symbol, int(bars.open_ms[row]), prices, volume)


def _bar(interval: str, symbol: str, open_ms: int, prices: np.ndarray, volume: float) -> BarClosed:
    opened, high, low, close = map(float, prices)
    return BarClosed(
        venue_ms=None,
        symbol=symbol,
        interval=interval,
        open_ms=open_ms,
        open=opened,
        high=high,
        low=low,
        close=close,
        volume=float(volume),
    )


def warm(book: StepBook, bars: Bars, until_ms: int) -> None:
    """Compute the features of a book up to a time."""
    rows = (until_ms - START_MS) // bars.interval_ms
    for row in range(rows):
        high, low, close, volume = (np.ascontiguousarray(bars.prices[i, row]) for i in (1, 2, 3, 3))
        volume = np.ascontiguousarray(bars.volume[row])
        feature_kernel.observe(*book.plan.columns, book.state, book.columns, high, low, close, volume)
    book.counts[:] = (bars.age[:rows] >= 0).sum(axis=0)
    book.rows[0] = rows
    step = (until_ms - START_MS) // bars.steps.step_ms
    if step:
        book.market.last_price[0] = bars.steps.last_prices[step - 1]


class CrashError(Exception):
    """The process of the lane dies."""


@dataclass
class Lane:
    """A lane in memory and what it did.

    Attributes:
        settings: Settings, for the cache of kernels.
        bars: Its bars, from which books are warmed.
        broker: Its broker.
        state: Its state.
        rows: Rows for the journal, oldest first.
        decisions: Facts `Decided`.
        alerts: Alerts.
        journal: Events and facts, in order.
        crashes: Numbers of the commands to send orders before which the process dies; halves stand for after them.
        sent: Number of commands to send orders so far.
    """

    settings: Settings
    bars: Bars
    broker: Broker
    state: LaneState
    rows: list[Row] = field(default_factory=list)
    decisions: list[Decided] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    journal: list[Event] = field(default_factory=list)
    crashes: set[float] = field(default_factory=set)
    sent: int = 0

    def take(self, event: Event, book: StepBook | None = None) -> None:
        """Take one event, as the process of a lane does; timers that are due come first."""
        self._ring(event)
        if isinstance(event, StepClosed):
            self.take_all(self.broker.open_step(event, self.state))
        self._step(event, book)
        if isinstance(event, StepClosed):
            self.take_all(self.broker.close_step(event))
        self.take_all(self.broker.poll(self.state.clock_ms))

    def take_all(self, events: Sequence[Event]) -> None:
        """Take the events of the broker."""
        for event in events:
            self._step(event)

    def _ring(self, event: Event) -> None:
        now_ms = max(self.state.clock_ms, event.venue_ms or 0)
        for name, due_ms in sorted(self.state.timers.items(), key=lambda timer: timer[1]):
            if due_ms <= now_ms and name in self.state.timers:
                self._step(Timer(venue_ms=now_ms, name=name, due_ms=due_ms))

    def _step(self, event: Event, book: StepBook | None = None) -> None:
        outcome = core.step(self.state, event, book)
        self.state = outcome.state
        self.rows += outcome.rows
        self.journal += (event, *outcome.facts)
        for fact in outcome.facts:
            self.broker.observe(fact, self.state)
            if isinstance(fact, Decided):
                self.decisions.append(fact)
        for command in outcome.commands:
            self._execute(command)

    def _execute(self, command: Command) -> None:
        match command:
            case Send():
                self._send(command)
            case Warm():
                self._warm(command.config_id)
            case Alert():
                self.alerts.append(command)
            case _:
                self.take_all(execute(self.broker, self.state, command))

    def _send(self, command: Send) -> None:
        self.sent += 1
        if self.sent in self.crashes:
            raise CrashError
        answers = execute(self.broker, self.state, command)
        if self.sent + 0.5 in self.crashes:
            raise CrashError
        self.take_all(answers)

    def _warm(self, wanted: str) -> None:
        offer = self.state.waiting
        assert offer is not None
        assert offer.config_id == wanted
        until_ms = FROM_MS if self.state.next_step_ms is None else self.state.next_step_ms
        book, fact = self._warmed(make_plan(self.settings, offer), until_ms)
        self._step(fact, book)

    def _warmed(self, plan: BookPlan, until_ms: int) -> tuple[StepBook, Warmed]:
        book = make_step_book(plan, 1.0)
        warm(book, self.bars, until_ms)
        return book, Warmed(
            venue_ms=until_ms,
            config_id=plan.offered.config_id,
            anchor_ms=START_MS,
            until_ms=until_ms,
            data_hash=self.bars.data_hash,
        )

    def restart(self) -> None:
        """Recover from the journal and end the step that the crash interrupted, as a new process does."""
        self.state = recover(self.state.setup, None, self.journal, self._warmed)
        self.broker.rebuild(self.state)
        try:
            self._step(Started(kernel_hash=KERNELS, mode="paper", feed="replay"))
            self.take(CaughtUp(venue_ms=self.state.clock_ms))
            if self.state.step_ms is not None:
                self.take_all(self.broker.close_step(StepClosed(step_ms=self.state.step_ms, present=())))
        except CrashError:
            self.restart()

    def run_through_crashes(self, to_ms: int) -> "Lane":
        """Take all events until a time; restart after each crash, and ask the feed again from the next step."""
        while True:
            try:
                return self.run(events_of(self.bars, self.state.next_step_ms or FROM_MS, to_ms))
            except CrashError:
                self.restart()

    def run(self, events: Iterator[Event]) -> "Lane":
        """Take all events and mark the last step to market."""
        for event in events:
            self.take(event)
        self.state, rows = core.absorb(self.state, Checkpoint(state=None))  # it only ends the step
        self.rows += rows
        return self


def start_lane(
    settings: Settings, bars: Bars, resolved: ResolvedConfig, broker: Broker | None = None, **setup: object
) -> Lane:
    """A lane at the start of the window, with its config in force and its account compared."""
    made = LaneSetup(
        lane="paper1",
        mode="paper",
        book_ids=("00c0ffee",),
        equity_usd=resolved.initial_balance_usd,
        kernel_hash=KERNELS,
        make_plan=lambda offer: make_plan(settings, offer),
        **setup,
    )
    lane = Lane(settings, bars, broker or PaperBroker(), LaneState(made))
    lane.take(offer_of(resolved))
    lane.take_all(lane.broker.snapshot())
    lane.take(CaughtUp(venue_ms=FROM_MS))
    return lane


def replay_of(settings: Settings, bars: Bars, resolved: ResolvedConfig) -> Replay:
    """The replay of a config over the window."""
    return replay(settings, make_replay_inputs(settings, bars, resolved, FROM_MS, TO_MS))


def fills_of(rows: Sequence[Row]) -> pl.DataFrame:
    """The fills and payments of a lane, with the columns of a replay."""
    made = [
        _fill(row) if isinstance(row, FillRow) else _payment(row)
        for row in rows
        if isinstance(row, FillRow | FundingRow)
    ]
    return pl.DataFrame(made, schema=_FILLS, orient="row")


_FILLS = {
    "time_ms": pl.Int64,
    "bar": pl.Int64,
    "symbol": pl.String,
    "reason": pl.String,
    "moment": pl.String,
    "size": pl.Float64,
    "price": pl.Float64,
    "fee_usd": pl.Float64,
    "cash_usd": pl.Float64,
    "signal": pl.Int64,
    "trade": pl.Int64,
    "held": pl.Float64,
}


def _fill(row: FillRow) -> tuple[object, ...]:
    return (
        row.time_ms,
        row.step,
        row.symbol,
        row.reason,
        row.moment,
        row.size,
        row.price,
        row.fee_usd,
        row.cash_usd,
        row.signal,
        row.trade - 1,
        row.held,
    )


def _payment(row: FundingRow) -> tuple[object, ...]:
    return (
        row.time_ms,
        row.step,
        row.symbol,
        "funding",
        "close",
        0.0,
        row.price,
        0.0,
        row.cash_usd,
        0,
        row.trade - 1,
        row.held,
    )


def trades_of(rows: Sequence[Row]) -> pl.DataFrame:
    """The closed trades of a lane, with the columns that a replay has too."""
    latest = {row.trade: row for row in rows if isinstance(row, TradeRow)}
    columns = (
        "symbol", "side", "entry_ms", "exit_ms", "entry_price", "exit_price", "size", "adds", "partials", "reason",
        "fees_usd", "funding_usd", "pnl_usd",
    )  # fmt: skip
    made = [{name: getattr(row, name) for name in columns} for row in latest.values() if row.exit_ms is not None]
    return pl.DataFrame(made, schema=_trade_schema(columns)).sort("exit_ms", "symbol", maintain_order=True)


def _trade_schema(columns: Sequence[str]) -> dict[str, type[pl.DataType]]:
    whole, text = {"entry_ms", "exit_ms", "adds", "partials"}, {"symbol", "side", "reason"}
    return {name: pl.Int64 if name in whole else pl.String if name in text else pl.Float64 for name in columns}


def verdicts_of(lane: Lane) -> list[tuple[int, str, str]]:
    """Each verdict but `no signal`: step, symbol, verdict."""
    return [
        ((fact.step_ms - START_MS) // lane.bars.steps.step_ms, symbol, verdict)
        for fact in lane.decisions
        for symbol, verdict in fact.verdicts.items()
        if verdict != "no signal"
    ]


def replayed_verdicts(made: Replay, bars: Bars) -> list[tuple[int, str, str]]:
    """The same of a replay."""
    first = (FROM_MS - START_MS) // bars.steps.step_ms
    steps, symbols = np.nonzero(made.verdicts)
    return [
        (first + int(t), bars.symbols[s], VERDICTS[int(made.verdicts[t, s])])
        for t, s in zip(steps.tolist(), symbols.tolist(), strict=True)
    ]


Change = Callable[[Bars], Bars]


def with_tick(bars: Bars, step: int, s: int, tick: float) -> Bars:
    """The bars with another close of one step."""
    prices = bars.steps.prices.copy()
    prices[3, step, s] += tick
    prices[1, step, s] = max(prices[1, step, s], prices[3, step, s])
    prices[2, step, s] = min(prices[2, step, s], prices[3, step, s])
    return replace(bars, steps=replace(bars.steps, prices=prices), data_hash=f"{bars.data_hash}+{tick}")
