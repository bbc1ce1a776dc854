"""The simulation and `ema_cross` once more, slow and obvious: plain Python, one step and one symbol at a time.

Nothing here is shared with `kernels`, so that an error would have to be made twice to stay unseen. Results are compared
bit for bit, and a float sum depends on its order. That order is part of the rules, and the twin follows it:

- cash, fees, turnover and margin are running sums with one step for each fill; a close adds `profit - fee` to cash;
- equity is cash plus the sum of the open profits, in symbol order;
- money that a position needs is `notional / leverage + notional * fee`;
- margin room is cash plus the sum, in symbol order, of each position's profit less its maintenance margin.

A step is a bar of the finest interval in use. Features and ages count main bars, each of `Clock.per_main` steps.
"""

import itertools
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import naive_features


@dataclass(frozen=True)
class Bar:
    """One bar that exists."""

    open: float
    high: float
    low: float
    close: float
    volume: float = 1.0


@dataclass(frozen=True)
class Clock:
    """How steps lie in main bars: steps of a main bar, steps between decisions about entries and exits."""

    per_main: int = 1
    enter_every: int = 1
    exit_every: int = 1
    minutes: float = 60.0

    def row(self, t: int) -> int:
        """The last main bar that has closed at the close of step t; -1 for none."""
        return (t + 1) // self.per_main - 1

    def before(self, t: int) -> int:
        """The main bar to compare with: the one before a main bar that closes now, else the last closed one."""
        closes_now = (t + 1) % self.per_main == 0
        return max(self.row(t) - 1, 0) if closes_now else self.row(t)

    def enters(self, t: int) -> bool:
        """Whether entries are decided."""
        return (t + 1) % self.enter_every == 0

    def exits(self, t: int) -> bool:
        """Whether exits are decided."""
        return (t + 1) % self.exit_every == 0


HOURLY = Clock()


@dataclass(frozen=True)
class Symbol:
    """What the market says about one symbol: a bar or None for each step, main bars, and the venue's terms.

    Without main bars of their own, steps are main bars. `last` is the step of the last bar before a delisting.
    """

    bars: list[Bar | None]
    funding: list[float]
    lots: float = 10_000.0
    min_notional_usd: float = 0.0
    max_leverage: float = 50.0
    maintenance_frac: float = 0.01
    last: int = -1
    mains: list[Bar | None] | None = None
    later: tuple[tuple[int, dict[str, float]], ...] = ()

    def at(self, t: int) -> "Symbol":
        """The symbol with the venue's terms that hold at step t; `later` says from which step on others do."""
        terms = {name: value for since, changed in self.later if since <= t for name, value in changed.items()}
        return replace(self, **terms) if terms else self

    @property
    def main_bars(self) -> list[Bar | None]:
        """A main bar or None for each row."""
        return self.bars if self.mains is None else self.mains

    def nth(self, t: int) -> int:
        """How many steps with a bar there were before step t."""
        return sum(bar is not None for bar in self.bars[:t])

    def closed(self, row: int) -> int:
        """How many main bars have closed up to a row."""
        return sum(bar is not None for bar in self.main_bars[: row + 1])

    def age(self, t: int, clock: Clock = HOURLY) -> int:
        """How many main bars there were before the last one at step t; -1 before the first, and without a bar at t."""
        return self.closed(clock.row(t)) - 1 if self.bars[t] is not None else -1

    def column(self, kind: str, *windows: float) -> list[float]:
        """A feature over the main bars."""
        return naive_features.column(kind, [int(window) for window in windows], self.main_bars)


@dataclass(frozen=True)
class Rules:
    """How an order becomes a fill."""

    next_open: bool = True
    intrabar: bool = True
    delay_bars: int = 0
    fee: float = 0.0
    entry_slip: float = 0.0
    exit_slip: float = 0.0
    initial_usd: float = 10_000.0


@dataclass(frozen=True)
class Limits:
    """What a book may order of one symbol; the first three are those of the whole book."""

    places: float = 20
    margin_frac: float = 1.0
    orders: float = 256
    min_notional_usd: float = 0.0
    bump: bool = False
    shrink: bool = False


@dataclass(frozen=True)
class Bounds:
    """Limits from outside a book at one step: margin and places to leave free, equity elsewhere, symbols to mask."""

    margin_usd: float = 0.0
    places: int = 0
    other_usd: float = 0.0
    late: bool = False
    blocked: frozenset[int] = frozenset()

    def masks(self, s: int) -> bool:
        """Whether a symbol may not enter."""
        return self.late or s in self.blocked


@dataclass(frozen=True)
class Sizing:
    """How large a position of a plain strategy is, and its limits; `units` counts when `frac` is None."""

    frac: float | None = None
    units: float = 1.0
    leverage: float = 10.0
    places: int = 20
    margin_frac: float = 1.0
    orders: int = 256
    min_notional_usd: float = 0.0
    bump: bool = False
    shrink: bool = False


@dataclass(frozen=True)
class Fill:
    """A fill, or a payment (its size is 0); fee and cash say how much the account's sums moved."""

    t: int
    s: int
    reason: str
    moment: str
    size: float
    price: float
    fee: float
    cash: float
    held: float


@dataclass
class Position:
    """What is held of one symbol; `memory` is the strategy's, `added` the time of the opening or the last addition.

    A time is the number of the step at whose close something happened. What happens at an open happened when the step
    before closed.
    """

    size: float
    entry: float
    margin: float
    leverage: float
    trade_profit: float
    added: int
    adds: int = 0
    parts: int = 0
    stop: float = math.nan
    target: float = math.nan
    memory: Any = None

    @property
    def side(self) -> float:
        """1 for a long, -1 for a short."""
        return 1.0 if self.size > 0 else -1.0


@dataclass
class Closing:
    """An order to close a fraction of what is held, at this bar of its symbol."""

    due: int
    reason: str
    frac: float


@dataclass
class Opening:
    """An order to open or to add, at this bar of its symbol; `plan` is the strategy's."""

    due: int
    size: float
    leverage: float
    adds: bool
    plan: Any = None


@dataclass(frozen=True)
class Candidate:
    """A symbol that the strategy wants to open."""

    rank: float
    s: int
    side: float


class Strategy:
    """What a book asks; this one takes its size from `Sizing`, adds nothing and has no exits of its own."""

    def wish(self, t: int, s: int, age: int) -> tuple[float, float]:
        """Side wanted at the close of step t (1, -1, or 0 for no opinion), and its rank."""
        raise NotImplementedError

    def distances(self, t: int, s: int) -> tuple[float, float]:
        """Distances of stop and target from the entry price."""
        raise NotImplementedError

    def limits(self, s: int, sizing: Sizing) -> Limits:  # noqa: ARG002 - others have limits by symbol
        """The limits of the book and of a symbol."""
        return Limits(
            sizing.places, sizing.margin_frac, sizing.orders, sizing.min_notional_usd, sizing.bump, sizing.shrink
        )

    def admits(self, t: int, s: int, minutes: float) -> bool:  # noqa: ARG002 - others have a cool-down
        """Whether a wish may open; `minutes` since the wanted side was last left, but for a signal."""
        return True

    def size(
        self,
        t: int,  # noqa: ARG002 - others look at features
        s: int,  # noqa: ARG002 - as above
        price: float,
        value: float,
        most: float,
        sizing: Sizing,
    ) -> tuple[float, float]:
        """Coins and leverage of a new position; `value` is equity, `most` the venue's leverage."""
        coins = sizing.units if sizing.frac is None else value * sizing.frac / price
        return coins, min(sizing.leverage, most)

    def plan(self, t: int, s: int) -> Any:
        """What an opening order carries."""
        return self.distances(t, s)

    def begin(self, position: Position, plan: Any) -> None:
        """A position was opened."""
        stop, target = plan
        position.stop = position.entry - position.side * stop
        position.target = position.entry + position.side * target

    def addition(
        self,
        t: int,  # noqa: ARG002 - alike for all
        s: int,  # noqa: ARG002 - alike for all
        position: Position,  # noqa: ARG002 - alike for all
        value: float,  # noqa: ARG002 - alike for all
        minutes: float,  # noqa: ARG002 - alike for all
    ) -> float:
        """Coins that a signal adds; `minutes` since the opening or the last addition."""
        return 0.0

    def leave(self, t: int, s: int, position: Position) -> tuple[str, float] | None:  # noqa: ARG002 - others have exits
        """Reason and fraction of an exit of the strategy's own."""
        return None


class EmaCross(Strategy):
    """The strategy `ema_cross`."""

    def __init__(
        self,
        symbols: list[Symbol],
        fast: int,
        slow: int,
        window: int,
        warmup: int,
        sl: float,
        tp: float,
        clock: Clock = HOURLY,
    ):
        self.fast = [symbol.column("ema", fast) for symbol in symbols]
        self.slow = [symbol.column("ema", slow) for symbol in symbols]
        self.atr = [symbol.column("atr", window) for symbol in symbols]
        self.warmup, self.sl, self.tp, self.clock = warmup, sl, tp, clock

    def above(self, row: int, s: int) -> bool:
        """Whether the fast mean lies above the slow one."""
        return self.fast[s][row] > self.slow[s][row]

    def wish(self, t: int, s: int, age: int) -> tuple[float, float]:
        """Long when the fast mean has just come to lie above the slow one, short when it no longer does."""
        up = self.above(self.clock.row(t), s)
        if age < self.warmup or up == self.above(self.clock.before(t), s):
            return 0.0, 0.0
        return (1.0 if up else -1.0), 0.0

    def distances(self, t: int, s: int) -> tuple[float, float]:
        """Multiples of the ATR."""
        atr = self.atr[s][self.clock.row(t)]
        return self.sl * atr, self.tp * atr


def one_unit(bars: list[Bar], fast: int, slow: int, sl: float, tp: float, fee: float) -> tuple[float, int, float]:
    """`ema_cross` on one symbol with one unit, in the fewest words: net profit, closed trades, deepest drawdown.

    A cross at the close of bar t >= 200 is filled at the open of t + 1 and reverses what is held. Stop and target hang
    on the ATR of t and are tested from the bar of the entry on; the stop wins; a gap fills at the open.
    """
    up = [f > s for f, s in zip(*(naive_features.column("ema", [n], bars) for n in (fast, slow)), strict=True)]
    true_range = naive_features.column("atr", [14], bars)
    held, wanted, stop, target = 0, 0, 0.0, 0.0
    cash, trades, peak, drawdown = 0.0, 0, 0.0, 0.0
    for t, bar in enumerate(bars):
        if wanted:
            if held:
                cash += held * bar.open - bar.open * fee
                trades += 1
            cash -= wanted * bar.open + bar.open * fee
            held, stop = wanted, bar.open - wanted * sl * true_range[t - 1]
            target = bar.open + wanted * tp * true_range[t - 1]
            wanted = 0
        worst, best = (bar.low, bar.high) if held > 0 else (bar.high, bar.low)
        stopped = held * (worst - stop) <= 0
        if held and (stopped or held * (best - target) >= 0):
            level = stop if stopped else target
            gap = held * (bar.open - level) < 0 if stopped else held * (bar.open - level) > 0
            price = bar.open if gap else level
            cash += held * price - price * fee
            held = 0
            trades += 1
        if t >= 200 and up[t] != up[t - 1]:
            wanted = 1 if up[t] else -1
            wanted = 0 if wanted == held else wanted
        value = cash + held * bar.close
        peak = max(peak, value)
        drawdown = max(drawdown, peak - value)
    return cash + held * bars[-1].close, trades, drawdown


@dataclass
class Book:
    """One account over all symbols."""

    symbols: list[Symbol]
    rules: Rules
    sizing: Sizing
    strategy: Strategy
    clock: Clock = HOURLY
    bounds: Callable[[int], Bounds] = lambda t: Bounds()  # noqa: ARG005 - others bound by step
    cash: float = 0.0
    fees: float = 0.0
    margin: float = 0.0
    refused: int = 0
    liquidations: int = 0
    held: dict[int, Position] = field(default_factory=dict)
    closing: dict[int, Closing] = field(default_factory=dict)
    opening: dict[int, Opening] = field(default_factory=dict)
    last_prices: dict[int, float] = field(default_factory=dict)
    left: dict[tuple[int, float], int] = field(default_factory=dict)
    fills: list[Fill] = field(default_factory=list)
    trade_profits: list[float] = field(default_factory=list)
    payments: list[float] = field(default_factory=list)
    equity: list[float] = field(default_factory=list)
    in_market: list[bool] = field(default_factory=list)

    def run(self, first: int, last: int) -> "Book":
        """Trade the steps [first, last)."""
        self.cash = self.rules.initial_usd
        for t in range(first, last):
            self.step(t)
        return self

    def step(self, t: int) -> None:
        """Everything that happens in step t, in order."""
        self.symbols = [symbol.at(t) for symbol in self.symbols]
        existing = {
            s: bar
            for s, symbol in enumerate(self.symbols)
            if (bar := symbol.bars[t]) is not None and symbol.age(t, self.clock) >= 0
        }
        closes = {s: bar.close for s, bar in existing.items()}
        self.last_prices.update(closes)
        self.at_open(t, existing)
        self.walk_path(t, existing)
        for s, bar in existing.items():
            self.take_profit(t, s, bar)
        for s in range(len(self.symbols)):
            self.pay_funding(t, s)
        if not self.rules.next_open:
            self.fill_all_due(t, closes)
        value = self.worth()
        if self.clock.exits(t):
            self.judge_exits(t, closes)
        if self.clock.enters(t):
            self.judge_signals(t, closes, value)
        if not self.rules.next_open and not self.rules.delay_bars:
            self.fill_all_due(t, closes)
        self.delist(t)
        self.equity.append(self.worth())
        self.in_market.append(bool(self.held))

    def worth(self) -> float:
        """Mark-to-market equity."""
        return self.cash + total(
            self.held[s].size * (self.last_prices[s] - self.held[s].entry) for s in sorted(self.held)
        )

    def fill_all_due(self, t: int, closes: dict[int, float]) -> None:
        """Fill what is due at the close."""
        for s, price in closes.items():
            self.fill_due(t, s, price, "close")

    def fill_due(self, t: int, s: int, price: float, moment: str) -> None:
        """Fill the parts that are due; an order never waits for a bar that does not exist."""
        nth = self.symbols[s].nth(t)
        if s in self.closing and self.closing[s].due == nth:
            self.close(t, s, self.closing[s].frac, price, self.closing[s].reason, moment)
        if s in self.opening and self.opening[s].due == nth:
            self.open_or_add(t, s, price, moment)

    def open_or_add(self, t: int, s: int, price: float, moment: str) -> None:
        """Do what the opening order says; an addition to nothing lapses."""
        order = self.opening.pop(s)
        if (order.adds and s not in self.held) or (not self.held and self.cash <= 0):
            return
        side = 1.0 if order.size > 0 else -1.0
        price *= 1.0 + side * self.rules.entry_slip
        notional = abs(order.size) * price
        fee = notional * self.rules.fee
        margin = notional / order.leverage
        self.margin += margin
        if order.adds:
            position = self.held[s]
            size = on_grid(position.size + order.size, self.symbols[s].lots)
            position.entry = (position.entry * position.size + price * order.size) / size
            position.size = size
            position.margin += margin
            position.trade_profit -= fee
            position.added = when(t, moment)
            position.adds += 1
        else:
            assert s not in self.held
            self.held[s] = Position(order.size, price, margin, order.leverage, -fee, when(t, moment))
            self.strategy.begin(self.held[s], order.plan)
        self.book(t, s, "add" if order.adds else "entry", moment, order.size, price, fee, -fee)

    def close(self, t: int, s: int, frac: float, price: float, reason: str, moment: str) -> None:
        """Close a position or a fraction of it, in whole lots."""
        self.closing.pop(s, None)
        position = self.held[s]
        side = position.side
        held = abs(position.size)
        coins = held if frac >= 1.0 else part(held, frac, self.symbols[s].lots)
        if coins <= 0:
            return
        price *= 1.0 - side * self.rules.exit_slip
        fee = coins * price * self.rules.fee
        change = side * coins * (price - position.entry) - fee
        broke = coins == held and len(self.held) == 1 and self.cash + change < 0
        if broke:
            self.liquidations += reason != "liquidation"
            self.hand_over(t, s, self.cash + change, price, moment)
        self.finish(t, s, coins, price, fee, change, reason, moment)
        if broke:
            self.cash = 0.0

    def finish(
        self, t: int, s: int, coins: float, price: float, fee: float, change: float, reason: str, moment: str
    ) -> None:
        """Take coins away from a position, which earns `change`."""
        position = self.held[s]
        side, held = position.side, abs(position.size)
        position.trade_profit += change
        if coins == held:
            del self.held[s]
            self.trade_profits.append(position.trade_profit)
            self.margin = self.margin - position.margin if self.held else 0.0
        else:
            freed = position.margin * (coins / held)
            self.margin -= freed
            position.margin -= freed
            position.size = side * on_grid(held - coins, self.symbols[s].lots)
            position.parts += 1
        if reason != "signal":
            self.left[s, side] = when(t, moment)
        self.book(t, s, reason, moment, -side * coins, price, fee, change)

    def hand_over(self, t: int, s: int, taken: float, price: float, moment: str) -> None:
        """The venue takes money of the account, or gives what is missing, for a position that it takes over."""
        self.held[s].trade_profit -= taken
        self.book(t, s, "backstop", moment, 0.0, price, 0.0, -taken)

    def book(
        self, t: int, s: int, reason: str, moment: str, size: float, price: float, fee: float, cash: float
    ) -> None:
        """Move the account's sums, and log by how much they moved."""
        fees, money = self.fees + fee, self.cash + cash
        held = self.held[s].size if s in self.held else 0.0
        self.fills.append(Fill(t, s, reason, moment, size, price, fees - self.fees, money - self.cash, held))
        self.fees, self.cash = fees, money

    def reached(self, position: Position, low: float, high: float) -> str | None:
        """Whether prices from low to high reach the stop (which wins) or the target."""
        worst, best = (low, high) if position.side > 0 else (high, low)
        if position.side * worst <= position.side * position.stop:
            return "stop"
        if position.side * best >= position.side * position.target:
            return "target"
        return None

    def stopped_in(self, s: int, bar: Bar | None) -> bool:
        """Whether the stop of a held symbol is reached inside its bar."""
        inside = bar is not None and self.rules.intrabar
        return inside and self.reached(self.held[s], bar.low, bar.high) == "stop"

    def take_profit(self, t: int, s: int, bar: Bar) -> None:
        """The target inside the bar, where the stop is not."""
        position = self.held.get(s)
        if position and self.rules.intrabar and self.reached(position, bar.low, bar.high) == "target":
            better = max if position.side > 0 else min
            self.close(t, s, 1.0, better(bar.open, position.target), "target", "inside")

    def at_open(self, t: int, existing: dict[int, Bar]) -> None:
        """Liquidate where the opens ruin the book; then fill what waits for them."""
        if self.held and self.room(existing, 0.0) < 0:
            self.liquidate(t, existing, 0.0, "open")
        if self.rules.next_open:
            for s, bar in existing.items():
                self.fill_due(t, s, bar.open, "open")

    def place_of_stop(self, s: int, bar: Bar) -> float:
        """How far from the open (0) to the worst price (1) the stop lies that the bar reaches."""
        position = self.held[s]
        if position.side * bar.open <= position.side * position.stop:
            return 0.0
        worst = bar.low if position.side > 0 else bar.high
        return (bar.open - position.stop) / (bar.open - worst)

    def price_on_path(self, s: int, bar: Bar | None, place: float) -> float:
        """Where a held symbol is when all are at this place; the price of its stop once that is reached."""
        position = self.held[s]
        if bar is None:
            return self.last_prices[s]
        worse, worst = (min, bar.low) if position.side > 0 else (max, bar.high)
        if self.stopped_in(s, bar) and self.place_of_stop(s, bar) <= place:
            return worse(bar.open, position.stop)
        return worst if place == 1.0 else bar.open + place * (worst - bar.open)

    def room(self, existing: dict[int, Bar], place: float) -> float:
        """How far the account is above its maintenance margin at a place on the path."""
        rooms = []
        for s in sorted(self.held):
            size, price = self.held[s].size, self.price_on_path(s, existing.get(s), place)
            rooms.append(size * (price - self.held[s].entry) - abs(size) * price * self.symbols[s].maintenance_frac)
        return self.cash + total(rooms)

    def walk_path(self, t: int, existing: dict[int, Bar]) -> None:
        """Go from the opens to the worst prices, from stop to stop; liquidate where the margin room is used up."""
        place, moment = 0.0, "open"
        while self.held:
            here = self.room(existing, place)
            if here < 0:
                self.liquidate(t, existing, place, moment)
                return
            stops = [(self.place_of_stop(s, existing[s]), s) for s in self.held if self.stopped_in(s, existing.get(s))]
            end, s = min(stops, default=(1.0, -1))
            there = self.room(existing, end)
            if there < 0:
                self.liquidate(t, existing, place + (end - place) * (here / (here - there)), "inside")
                return
            if s < 0:
                return
            self.close(t, s, 1.0, self.price_on_path(s, existing[s], end), "stop", "inside")
            place, moment = end, "inside"

    def pay_funding(self, t: int, s: int) -> None:
        """Longs pay the rate on what they hold at the close, shorts receive it."""
        rate = self.symbols[s].funding[t]
        if rate and s in self.held:
            payment = self.held[s].size * self.last_prices[s] * rate
            self.held[s].trade_profit -= payment
            self.payments.append(payment)
            self.book(t, s, "funding", "close", 0.0, self.last_prices[s], 0.0, -payment)

    def liquidate(self, t: int, existing: dict[int, Bar], place: float, moment: str) -> None:
        """Close all at a place on the path and forget all entries; the venue takes over what can't be sold in time."""
        self.opening.clear()
        self.liquidations += 1
        held = sorted(self.held)
        prices = {s: self.price_on_path(s, existing.get(s), place) for s in held}
        notionals = {s: abs(self.held[s].size) * prices[s] for s in held}
        value = self.cash + total(self.held[s].size * (prices[s] - self.held[s].entry) for s in held)
        maintenance = total(notionals[s] * self.symbols[s].maintenance_frac for s in held)
        left = self.cash + total(self.proceeds(s, prices[s]) for s in held)
        if 3.0 * value >= 2.0 * maintenance and left >= 0:
            for s in held:
                self.close(t, s, 1.0, prices[s], "liquidation", moment)
            return
        notional = total(notionals.values())
        for s in held:
            position, own = self.held[s], notionals[s]
            taken = value if own >= notional else value * (own / notional)
            value, notional = value - taken, notional - own
            self.closing.pop(s, None)
            self.hand_over(t, s, taken, prices[s], moment)
            change = position.size * (prices[s] - position.entry)
            self.finish(t, s, abs(position.size), prices[s], 0.0, change, "liquidation", moment)
        self.cash = 0.0

    def proceeds(self, s: int, price: float) -> float:
        """Profit of a market order that closes a position, less its costs."""
        position = self.held[s]
        paid = price * (1.0 - position.side * self.rules.exit_slip)
        return position.size * (paid - position.entry) - abs(position.size) * paid * self.rules.fee

    def delist(self, t: int) -> None:
        """Close what is held of a symbol at the close of its last bar; nothing of it waits any longer."""
        for s, symbol in enumerate(self.symbols):
            if symbol.last == t:
                self.opening.pop(s, None)
                if s in self.held:
                    self.close(t, s, 1.0, self.last_prices[s], "delisted", "close")

    def due(self, t: int, s: int) -> int:
        """Which bar of the symbol fills an order decided at the close of step t."""
        return self.symbols[s].nth(t) + self.rules.delay_bars + (1 if self.rules.next_open else 0)

    def order_close(self, t: int, s: int, reason: str, frac: float) -> None:
        """Order to close; an older order keeps its time, and an exit tells its reason rather than a signal."""
        older = self.closing.get(s)
        if older and older.frac == 1.0 and reason == "signal":
            reason = older.reason
        self.closing[s] = Closing(older.due if older else self.due(t, s), reason, frac)

    def judge_exits(self, t: int, closes: dict[int, float]) -> None:
        """Order to close what stop, target or the strategy's own exits want closed."""
        for s, close in closes.items():
            position, order = self.held.get(s), self.closing.get(s)
            if position is None or (order and order.reason != "signal"):
                continue
            reason = None if self.rules.intrabar else self.reached(position, close, close)
            if reason:
                self.order_close(t, s, reason, 1.0)
            elif order is None and (own := self.strategy.leave(t, s, position)):
                self.order_close(t, s, *own)

    def judge_signals(self, t: int, closes: dict[int, float], value: float) -> None:
        """Flip and cancel, symbol by symbol; then order additions; then entries, by rank."""
        candidates, agreeing, bounds = [], [], self.bounds(t)
        value += bounds.other_usd
        for s in closes:
            side, rank = self.strategy.wish(t, s, self.symbols[s].age(t, self.clock))
            if not side:
                continue
            if s in self.opening and self.opening[s].size * side < 0:
                del self.opening[s]
            position, order = self.held.get(s), self.closing.get(s)
            leaving = order is not None and order.frac == 1.0 and order.reason != "signal"
            if position and position.side == side and not leaving:
                if order and order.reason == "signal":
                    del self.closing[s]
                agreeing += [] if bounds.masks(s) else [s]
                continue
            if position:
                self.order_close(t, s, "signal", 1.0)
            may_enter = s not in self.opening and not bounds.masks(s)
            if may_enter and self.strategy.admits(t, s, self.minutes_since_exit(t, s, side)):
                candidates.append(Candidate(rank, s, side))
        free = value * self.limits(0).margin_frac - self.margin - total(self.reserved(s) for s in sorted(self.opening))
        free -= bounds.margin_usd
        free = self.order_additions(t, agreeing, closes, value, free)
        self.order_entries(t, candidates, closes, value, free)

    def minutes_since_exit(self, t: int, s: int, side: float) -> float:
        """Minutes since a side of a symbol was left, but for a signal; an exit that is ordered counts as made now."""
        order = self.closing.get(s)
        if order and order.reason != "signal" and self.held[s].side == side:
            return 0.0
        return (t - self.left[s, side]) * self.clock.minutes if (s, side) in self.left else math.inf

    def limits(self, s: int) -> Limits:
        """What may be ordered of a symbol; those of symbol 0 tell what the whole book may hold."""
        return self.strategy.limits(s, self.sizing)

    def reserved(self, s: int) -> float:
        """Money that a waiting order will take."""
        order = self.opening[s]
        needed = self.needs(order.size, self.last_prices[s], order.leverage)
        return max(needed if order.adds else needed - self.margin_of(s), 0.0)

    def margin_of(self, s: int) -> float:
        """Margin that a symbol holds."""
        return self.held[s].margin if s in self.held else 0.0

    def order_additions(
        self, t: int, agreeing: list[int], closes: dict[int, float], value: float, free: float
    ) -> float:
        """Order additions in symbol order; return what money is left."""
        for s in agreeing:
            if s in self.opening or s in self.closing:
                continue
            position = self.held[s]
            minutes = (t - position.added) * self.clock.minutes
            wanted = self.strategy.addition(t, s, position, value, minutes)
            leverage = min(position.leverage, self.symbols[s].max_leverage)
            coins = self.fitted(s, wanted, closes[s], leverage, free, shrink=False) if wanted > 0 else 0.0
            if coins > 0:
                self.opening[s] = Opening(self.due(t, s), position.side * coins, leverage, adds=True)
                free -= self.needs(coins, closes[s], leverage)
        return free

    def order_entries(
        self, t: int, candidates: list[Candidate], closes: dict[int, float], value: float, free: float
    ) -> None:
        """Order entries, highest rank first, equal ranks in symbol order."""
        orders = self.limits(0).orders
        for candidate in sorted(candidates, key=lambda candidate: -candidate.rank):
            s, price = candidate.s, closes[candidate.s]
            taken = len(self.held.keys() | self.opening.keys()) + self.bounds(t).places
            places = self.limits(0).places - taken
            coins = 0.0
            if orders >= 1 and (s in self.held or places >= 1):
                wanted, leverage = self.strategy.size(t, s, price, value, self.symbols[s].max_leverage, self.sizing)
                coins = self.fitted(s, wanted, price, leverage, free + self.margin_of(s), self.limits(s).shrink)
            if coins > 0:
                orders -= 1
                free -= max(self.needs(coins, price, leverage) - self.margin_of(s), 0.0)
                plan = self.strategy.plan(t, s)
                self.opening[s] = Opening(self.due(t, s), candidate.side * coins, leverage, adds=False, plan=plan)
            else:
                self.refused += 1

    def needs(self, size: float, price: float, leverage: float) -> float:
        """Money that an opening order takes."""
        notional = abs(size) * price
        return notional / leverage + notional * self.rules.fee

    def fitted(self, s: int, wanted: float, price: float, leverage: float, room: float, shrink: bool) -> float:
        """Coins of an opening order: whole lots, within what is free, not worth too little; else 0."""
        limits, lots = self.limits(s), self.symbols[s].lots
        if math.isnan(wanted):
            return 0.0
        coins = whole_lots(wanted, lots)
        if shrink and room > 0 and self.needs(coins, price, leverage) > room:
            coins = whole_lots(wanted * (room / self.needs(wanted, price, leverage)), lots)
        least = max(self.symbols[s].min_notional_usd, limits.min_notional_usd)
        if limits.bump and wanted > 0 and coins * price < least:
            coins = lots_up(least / price, lots)
            if coins * price < least:
                coins = lots_up(coins + 0.5 / lots, lots)
        fits = self.needs(coins, price, leverage) <= room
        return coins if coins > 0 and coins * price >= least and fits else 0.0

    def results(self) -> dict[str, float]:
        """The figures that a sweep keeps, told from the lists."""
        peak, fall, share = self.rules.initial_usd, 0.0, 0.0
        for value in self.equity:
            peak = max(peak, value)
            fall = max(fall, peak - value)
            share = (peak - value) / peak if peak - value > share * peak else share
        trades = [fill for fill in self.fills if fill.size]
        return {
            "equity_usd": self.equity[-1] if self.equity else self.rules.initial_usd,
            "max_drawdown_usd": fall,
            "max_drawdown_frac": share,
            "trades": len(self.trade_profits),
            "wins": sum(trade_profit > 0 for trade_profit in self.trade_profits),
            "gross_profit_usd": total(trade_profit for trade_profit in self.trade_profits if trade_profit > 0),
            "gross_loss_usd": total(-trade_profit for trade_profit in self.trade_profits if trade_profit <= 0),
            "fees_usd": self.fees,
            "funding_usd": total(self.payments),
            "turnover_usd": total(abs(fill.size) * fill.price for fill in trades),
            "fills": len(trades),
            "bars_held": sum(self.in_market),
            "open_positions": len(self.held),
            "liquidations": self.liquidations,
            "refused": self.refused,
        }


def whole_lots(wanted: float, lots: float) -> float:
    """Coins: whole lots, not above what is wanted; 0 for what is no size, infinity for more lots than floats hold."""
    if not wanted > 0 or math.isinf(wanted * lots):
        return wanted * lots if wanted > 0 else 0.0
    count = math.floor(wanted * lots)
    return (count + 1) / lots if (count + 1) / lots <= wanted else count / lots


def lots_up(wanted: float, lots: float) -> float:
    """Coins: whole lots, not below what is wanted."""
    below = whole_lots(wanted, lots)
    return below if below >= wanted else (round(below * lots) + 1) / lots


def on_grid(coins: float, lots: float) -> float:
    """The whole lots that `coins` are but for rounding; smaller lots, by powers of ten, where these have grown."""
    for grid in itertools.accumulate([lots, *[10.0] * 8], operator.mul):
        count = abs(coins) * grid
        if count < 2.0**53 and abs(count - round(count)) <= 2.0**-16:
            return math.copysign(round(count) / grid, coins)
    return coins


def part(held: float, frac: float, lots: float) -> float:
    """Coins of a fraction of what is held: a fraction of its lots, in whole lots; a rounding error costs none."""
    if held * lots >= 2.0**53:
        return held * lots * frac / lots
    count = held * lots
    wanted = (round(count) if abs(count - round(count)) <= 2.0**-16 else count) * frac
    whole = math.floor(wanted)
    return (whole + 1 if whole + 1 <= wanted * (1.0 + 2.0**-52) else whole) / lots


def when(t: int, moment: str) -> int:
    """The time of a fill of step t."""
    return t - 1 if moment == "open" else t


def total(values) -> float:
    """Add from left to right; `sum` does not round at each step in every Python."""
    result = 0.0
    for value in values:
        result += value
    return result


def daily(equity: list[float], initial_usd: float, day_ends: list[bool]) -> list[float | None]:
    """Return of the day that ends with each bar; None within a day. A day that starts ruined returns 0."""
    start = initial_usd
    returns: list[float | None] = []
    for value, ends in zip(equity, day_ends, strict=True):
        if not ends:
            returns.append(None)
            continue
        returns.append(value / start - 1.0 if start > 0 else 0.0)
        start = value
    return returns
