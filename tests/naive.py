"""The kernels once more, slow and obvious: plain Python, one bar and one symbol at a time.

Nothing here is shared with `kernels`, so that an error would have to be made twice to stay unseen. Results are compared
bit for bit, and a float sum depends on its order. That order is part of the rules, and the twin follows it:

- an EMA is `value + weight * (close - value)`, an ATR `value + (range - value) / window`;
- cash, fees, turnover and margin are running sums with one step for each fill; a close adds `profit - fee` to cash;
- equity is cash, then the open profit of each symbol in symbol order;
- money that a position needs is `notional / leverage + notional * fee`.
"""

import math
from dataclasses import dataclass, field
from typing import Protocol

NAN = float("nan")


@dataclass(frozen=True)
class Bar:
    """One bar that exists."""

    open: float
    high: float
    low: float
    close: float


@dataclass(frozen=True)
class Symbol:
    """What the market says about one symbol: a bar or None for each point of the grid, and the venue's terms."""

    bars: list[Bar | None]
    funding: list[float]
    lots: float = 10_000.0
    min_notional_usd: float = 0.0
    max_leverage: float = 50.0
    maintenance_frac: float = 0.01

    def age(self, t: int) -> int:
        """How many bars there were before the bar at t."""
        return sum(bar is not None for bar in self.bars[:t])


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
class Sizing:
    """How large a position is; `units` counts when `frac` is None."""

    frac: float | None = None
    units: float = 1.0
    leverage: float = 10.0
    places: int = 20


class Strategy(Protocol):
    """What a book asks."""

    def wish(self, t: int, s: int, age: int) -> tuple[float, float]:
        """Side wanted at the close of bar t (1, -1, or 0 for no opinion), and its rank."""
        ...

    def distances(self, t: int, s: int) -> tuple[float, float]:
        """Distances of stop and target from the entry price."""
        ...


@dataclass(frozen=True)
class Fill:
    """A fill, or a funding payment (its size is 0); fee and cash say how much the account's sums moved."""

    t: int
    s: int
    reason: str
    moment: str
    size: float
    price: float
    fee: float
    cash: float


@dataclass
class Position:
    """What is held of one symbol."""

    size: float
    entry: float
    stop: float
    target: float
    margin: float
    trip: float

    @property
    def side(self) -> float:
        """1 for a long, -1 for a short."""
        return 1.0 if self.size > 0 else -1.0


@dataclass
class Leg:
    """An order that waits for the bar of this age of its symbol."""

    due: int
    reason: str = "entry"
    size: float = 0.0
    stop: float = 0.0
    target: float = 0.0


def ema(closes: list[float | None], window: int) -> list[float]:
    """Exponential mean, seeded with the first close."""
    weight = 2.0 / (window + 1.0)
    value = NAN
    series = []
    for close in closes:
        if close is not None:
            value = close if math.isnan(value) else value + weight * (close - value)
        series.append(value)
    return series


def atr(bars: list[Bar | None], window: int) -> list[float]:
    """Wilder's mean of the true range, seeded with the first range."""
    value = NAN
    last: Bar | None = None
    series = []
    for bar in bars:
        if bar is not None and last is None:
            value = bar.high - bar.low
        elif bar is not None and last is not None:
            true_range = max(bar.high, last.close) - min(bar.low, last.close)
            value = value + (true_range - value) / window
        last = bar or last
        series.append(value)
    return series


class EmaCross:
    """The strategy `ema_cross`."""

    def __init__(self, symbols: list[Symbol], fast: int, slow: int, window: int, warmup: int, sl: float, tp: float):
        closes = [[bar and bar.close for bar in symbol.bars] for symbol in symbols]
        self.fast = [ema(series, fast) for series in closes]
        self.slow = [ema(series, slow) for series in closes]
        self.atr = [atr(symbol.bars, window) for symbol in symbols]
        self.warmup, self.sl, self.tp = warmup, sl, tp

    def above(self, t: int, s: int) -> bool:
        """Whether the fast mean lies above the slow one."""
        return self.fast[s][t] > self.slow[s][t]

    def wish(self, t: int, s: int, age: int) -> tuple[float, float]:
        """Long when the fast mean has just come to lie above the slow one, short when it no longer does."""
        if t == 0 or age < self.warmup or self.above(t, s) == self.above(t - 1, s):
            return 0.0, 0.0
        return (1.0 if self.above(t, s) else -1.0), 0.0

    def distances(self, t: int, s: int) -> tuple[float, float]:
        """Multiples of the ATR."""
        return self.sl * self.atr[s][t], self.tp * self.atr[s][t]


def one_unit(bars: list[Bar], fast: int, slow: int, sl: float, tp: float, fee: float) -> tuple[float, int, float]:
    """`ema_cross` on one symbol with one unit, in the fewest words: net profit, closed trades, deepest drawdown.

    A cross at the close of bar t >= 200 is filled at the open of t + 1 and reverses what is held. Stop and target hang
    on the ATR of t and are tested from the bar of the entry on; the stop wins; a gap fills at the open.
    """
    up = [f > s for f, s in zip(*(ema([bar.close for bar in bars], n) for n in (fast, slow)), strict=True)]
    true_range = atr(list(bars), 14)
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
    cash: float = 0.0
    fees: float = 0.0
    margin: float = 0.0
    refused: int = 0
    liquidations: int = 0
    held: dict[int, Position] = field(default_factory=dict)
    closing: dict[int, Leg] = field(default_factory=dict)
    opening: dict[int, Leg] = field(default_factory=dict)
    marks: dict[int, float] = field(default_factory=dict)
    fills: list[Fill] = field(default_factory=list)
    trips: list[float] = field(default_factory=list)
    payments: list[float] = field(default_factory=list)
    equity: list[float] = field(default_factory=list)
    in_market: list[bool] = field(default_factory=list)

    def run(self, first: int, last: int) -> "Book":
        """Trade the bars [first, last)."""
        self.cash = self.rules.initial_usd
        for t in range(first, last):
            self.bar(t)
        return self

    def bar(self, t: int) -> None:
        """Everything that happens in bar t, in order."""
        existing = {s: bar for s, symbol in enumerate(self.symbols) if (bar := symbol.bars[t]) is not None}
        if self.rules.next_open:
            self.fill_due(t, {s: bar.open for s, bar in existing.items()}, "open")
        if self.rules.intrabar:
            self.stop_inside(t, existing)
        self.pay_funding(t, existing)
        self.liquidate(t, existing)
        closes = {s: bar.close for s, bar in existing.items()}
        self.marks.update(closes)
        if not self.rules.next_open:
            self.fill_due(t, closes, "close")
        self.decide(t, closes)
        if not self.rules.next_open and not self.rules.delay_bars:
            self.fill_due(t, closes, "close")
        self.equity.append(self.worth())
        self.in_market.append(bool(self.held))

    def worth(self) -> float:
        """Mark-to-market equity."""
        value = self.cash
        for s in sorted(self.held):
            value += self.held[s].size * (self.marks[s] - self.held[s].entry)
        return value

    def leverage(self, s: int) -> float:
        """Leverage of a new position."""
        return min(self.sizing.leverage, self.symbols[s].max_leverage)

    def fill_due(self, t: int, prices: dict[int, float], moment: str) -> None:
        """Fill the orders that are due; an order never waits for a bar that does not exist."""
        for s, price in prices.items():
            age = self.symbols[s].age(t)
            if s in self.closing and self.closing[s].due == age:
                self.close(t, s, price, self.closing[s].reason, moment)
            if s in self.opening and self.opening[s].due == age:
                self.open(t, s, price, moment)

    def open(self, t: int, s: int, price: float, moment: str) -> None:
        """Open what the order says."""
        order = self.opening.pop(s)
        assert s not in self.held
        side = 1.0 if order.size > 0 else -1.0
        price *= 1.0 + side * self.rules.entry_slip
        notional = abs(order.size) * price
        fee = notional * self.rules.fee
        margin = notional / self.leverage(s)
        self.margin += margin
        stop, target = price - side * order.stop, price + side * order.target
        self.held[s] = Position(order.size, price, stop, target, margin, -fee)
        self.book(Fill(t, s, "entry", moment, order.size, price, fee, -fee))

    def close(self, t: int, s: int, price: float, reason: str, moment: str) -> None:
        """Close a position whole."""
        position = self.held.pop(s)
        self.closing.pop(s, None)
        price *= 1.0 - position.side * self.rules.exit_slip
        fee = abs(position.size) * price * self.rules.fee
        change = position.size * (price - position.entry) - fee
        self.trips.append(position.trip + change)
        self.margin = self.margin - position.margin if self.held else 0.0
        self.book(Fill(t, s, reason, moment, -position.size, price, fee, change))

    def book(self, fill: Fill) -> None:
        """Move the account's sums, and log by how much they moved."""
        fees, cash = self.fees + fill.fee, self.cash + fill.cash
        moved = Fill(
            fill.t, fill.s, fill.reason, fill.moment, fill.size, fill.price, fees - self.fees, cash - self.cash
        )
        self.fills.append(moved)
        self.fees, self.cash = fees, cash

    def reached(self, position: Position, low: float, high: float) -> str | None:
        """Whether prices from low to high reach the stop (which wins) or the target."""
        worst, best = (low, high) if position.side > 0 else (high, low)
        if position.side * worst <= position.side * position.stop:
            return "stop"
        if position.side * best >= position.side * position.target:
            return "target"
        return None

    def stop_inside(self, t: int, existing: dict[int, Bar]) -> None:
        """Stops and targets inside the bar."""
        for s, bar in existing.items():
            position = self.held.get(s)
            reason = position and self.reached(position, bar.low, bar.high)
            if position is None or reason is None:
                continue
            if reason == "stop":
                price = min(bar.open, position.stop) if position.side > 0 else max(bar.open, position.stop)
            else:
                price = max(bar.open, position.target) if position.side > 0 else min(bar.open, position.target)
            self.close(t, s, price, reason, "inside")

    def pay_funding(self, t: int, existing: dict[int, Bar]) -> None:
        """Longs pay the rate on what they hold at the close, shorts receive it."""
        for s in sorted(self.held):
            rate = self.symbols[s].funding[t]
            if rate:
                price = existing[s].close if s in existing else self.marks[s]
                payment = self.held[s].size * price * rate
                self.held[s].trip -= payment
                self.payments.append(payment)
                self.book(Fill(t, s, "funding", "close", 0.0, price, 0.0, -payment))

    def liquidate(self, t: int, existing: dict[int, Bar]) -> None:
        """Close all at the worst prices of the bar if equity there does not cover the maintenance margin."""
        worst = {}
        for s, position in self.held.items():
            bar = existing.get(s)
            extreme = bar and (bar.low if position.side > 0 else bar.high)
            worst[s] = self.marks[s] if extreme is None else extreme
        value, maintenance = self.cash, 0.0
        for s in sorted(self.held):
            value += self.held[s].size * (worst[s] - self.held[s].entry)
            maintenance += abs(self.held[s].size) * worst[s] * self.symbols[s].maintenance_frac
        if self.held and not value >= maintenance:
            self.opening.clear()
            self.liquidations += 1
            for s in sorted(self.held):
                self.close(t, s, worst[s], "liquidation", "inside")

    def due(self, t: int, s: int) -> int:
        """Age of the bar that fills an order decided at the close of bar t."""
        return self.symbols[s].age(t) + self.rules.delay_bars + (1 if self.rules.next_open else 0)

    def order_close(self, t: int, s: int, reason: str) -> None:
        """Order to close; an older order keeps its time, and stop or target tell its reason."""
        leg = self.closing.setdefault(s, Leg(self.due(t, s), reason))
        if reason != "signal":
            leg.reason = reason

    def decide(self, t: int, closes: dict[int, float]) -> None:
        """Turn what is known at the close of bar t into orders."""
        wishes = []
        for s, close in closes.items():
            position = self.held.get(s)
            if position and not self.rules.intrabar and (reason := self.reached(position, close, close)):
                self.order_close(t, s, reason)
            side, rank = self.strategy.wish(t, s, self.symbols[s].age(t))
            if not side:
                continue
            self.opening.pop(s, None)
            protected = s in self.closing and self.closing[s].reason != "signal"
            if position and position.side == side and not protected:
                self.closing.pop(s, None)
                continue
            if position:
                self.order_close(t, s, "signal")
            wishes.append((rank, s, side))
        value = self.worth()
        free = value - self.margin
        for s in sorted(self.opening):
            free -= max(self.needs(s, abs(self.opening[s].size), self.marks[s]), 0.0)
        for _, s, side in sorted(wishes, key=lambda wish: -wish[0]):
            size = self.size(s, value, closes[s])
            needed = self.needs(s, size, closes[s])
            places = self.sizing.places - len(self.held.keys() | self.opening.keys())
            if size > 0 and (s in self.held or places >= 1) and needed <= free:
                free -= max(needed, 0.0)
                self.opening[s] = Leg(self.due(t, s), "entry", side * size, *self.strategy.distances(t, s))
            else:
                self.refused += 1

    def needs(self, s: int, size: float, price: float) -> float:
        """Money that an entry takes beyond what a position it replaces sets free."""
        notional = size * price
        needed = notional / self.leverage(s) + notional * self.rules.fee
        return needed - (self.held[s].margin if s in self.held else 0.0)

    def size(self, s: int, value: float, price: float) -> float:
        """Coins of a new position: whole lots, not above what is wanted; 0 if that is worth too little."""
        lots = self.symbols[s].lots
        wanted = self.sizing.units if self.sizing.frac is None else value * self.sizing.frac / price
        if not 0.0 < wanted < math.inf or math.isinf(wanted * lots):
            return 0.0
        count = math.floor(wanted * lots)
        size = (count + 1) / lots if (count + 1) / lots <= wanted else count / lots
        return size if size * price >= self.symbols[s].min_notional_usd else 0.0

    def results(self) -> dict[str, float]:
        """The figures that a sweep keeps, told from the lists."""
        peak, fall, share = self.rules.initial_usd, 0.0, 0.0
        for value in self.equity:
            peak = max(peak, value)
            fall = max(fall, peak - value)
            share = max(share, (peak - value) / peak)
        trades = [fill for fill in self.fills if fill.reason != "funding"]
        return {
            "equity_usd": self.equity[-1] if self.equity else self.rules.initial_usd,
            "max_drawdown_usd": fall,
            "max_drawdown_frac": share,
            "trades": len(self.trips),
            "wins": sum(trip > 0 for trip in self.trips),
            "gross_profit_usd": total(trip for trip in self.trips if trip > 0),
            "gross_loss_usd": total(-trip for trip in self.trips if trip <= 0),
            "fees_usd": self.fees,
            "funding_usd": total(self.payments),
            "turnover_usd": total(abs(fill.size) * fill.price for fill in trades),
            "fills": len(trades),
            "bars_held": sum(self.in_market),
            "open_positions": len(self.held),
            "liquidations": self.liquidations,
            "refused": self.refused,
        }


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
