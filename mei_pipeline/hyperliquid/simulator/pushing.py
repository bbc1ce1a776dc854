"""The loop that sends what has happened: driven by the next time at which something is due, not by the coin."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mei_pipeline.candles.intervals import HOUR_MS, SECOND_MS, iso
from mei_pipeline.hyperliquid.simulator.answers import mids_of
from mei_pipeline.hyperliquid.simulator.clock import VirtualClock
from mei_pipeline.hyperliquid.simulator.market import SimulatedCoin, SimulatedMarket
from mei_pipeline.hyperliquid.simulator.paths import BarView, bar_at
from mei_pipeline.hyperliquid.simulator.quotes import (
    best_quote,
    book_of,
    candle_of,
    context_of,
    recent_trades,
    trades_between,
)
from mei_pipeline.hyperliquid.simulator.shapes import SentContextOf
from mei_pipeline.hyperliquid.simulator.streams import SocketStreams
from mei_pipeline.hyperliquid.simulator.subscriptions import StreamKey
from mei_pipeline.hyperliquid.wire import BBO, BOOK, CANDLE, CONTEXT, MIDS, TRADES, Mids

UPDATES = 2.0
"""Updates of a stream per second of the machine, by default."""
_CONTEXT_S = 1.0
_SLOW_S = 5.0
_SHORTEST_S = 0.001


@dataclass
class Pusher:
    """Sends the messages of all streams.

    Bars end at exact times at every speed: first the final values of the bars that end, with contexts and quotes of
    their last millisecond, then the first values of the next bars. Between them, streams are updated on a grid of ticks
    that depends on the speed alone. Ticks that the machine could not keep up with are left out; ends of bars never are.

    Attributes:
        market: The market.
        clock: Its clock.
        streams: The subscribers.
        updates: Updates of a stream per second of the machine.
        report: Prints a line for people.
    """

    market: SimulatedMarket
    clock: VirtualClock
    streams: SocketStreams
    updates: float = UPDATES
    report: Callable[[str], None] = lambda _: None
    ended: bool = False
    _tick: int = 0
    _boundary_ms: int = field(init=False)
    _traded_ms: int = field(init=False)
    _sent: dict[StreamKey, BarView] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._boundary_ms = (self.clock.start_ms // self.market.grid_ms + 1) * self.market.grid_ms
        self._traded_ms = self.clock.start_ms

    @property
    def tick_ms(self) -> float:
        """Milliseconds of the market between two updates."""
        return SECOND_MS * self.clock.speed / self.updates

    @property
    def due_ms(self) -> float:
        """Time of the market at which something is due next, UTC milliseconds."""
        return min(self._boundary_ms, self.clock.start_ms + (self._tick + 1) * self.tick_ms)

    async def run(self) -> None:
        """Send what is due until the bars end."""
        while not self.ended:
            behind = self.advance(self.clock.now_ms())
            # Time passes by itself: there is no event to wait for.
            await asyncio.sleep(0.0 if behind else max(self.clock.seconds_until(self.due_ms), _SHORTEST_S))

    def advance(self, now_ms: int) -> bool:
        """Send the ends of bars at the next time up to `now_ms`, or the last tick; return True if more may be due."""
        if self.ended:
            return False
        if self._boundary_ms <= now_ms:
            self._end_bars(self._boundary_ms)
            self.ended = self._boundary_ms >= self.market.end_ms
            if self.ended:
                self.report(
                    f"{self.market.source}: the bars end at {iso(self.market.end_ms)}; quotes stop, the clock goes on"
                )
            self._boundary_ms += self.market.grid_ms
            return True
        tick = int((now_ms - self.clock.start_ms) / self.tick_ms)
        if tick > self._tick:
            self._tick = tick
            self._update(int(self.clock.start_ms + tick * self.tick_ms), tick)
        return False

    def first_message(self, key: StreamKey, now_ms: int) -> object:
        """Return the data with which a stream begins; None if there are none yet."""
        coin = self.market.coins.get(key.coin)
        if key.type == MIDS:
            return Mids(mids=mids_of(self.market, now_ms))
        begin = _BEGINNINGS.get(key.type)
        return None if coin is None or begin is None else begin(coin, key, now_ms)

    def _end_bars(self, time_ms: int) -> None:
        """Send the final values of the bars that end at a time, then the first ones of the bars that begin."""
        keys = sorted(self.streams.subscribers, key=lambda key: key[:4])
        candles = [key for key in keys if key.type == CANDLE]
        candles.sort(key=lambda key: self.market.intervals.index(key.interval))
        for key in candles:
            self._push_candle(key, time_ms - 1, final=True)
        for key in keys:
            if key.type in {CONTEXT, BBO}:
                self._push_state(key, time_ms - 1)
        for key in candles:
            self._push_candle(key, time_ms)
        if time_ms % HOUR_MS == 0:
            for key in keys:
                if key.type == CONTEXT:
                    self._push_state(key, time_ms)

    def _update(self, time_ms: int, tick: int) -> None:
        """Send the updates of a tick."""
        contexts = tick % max(1, round(_CONTEXT_S * self.updates)) == 0
        slow = tick % max(1, round(_SLOW_S * self.updates)) == 0
        for key in tuple(self.streams.subscribers):
            if key.type == CANDLE:
                self._push_candle(key, time_ms)
            elif key.type == BBO or (key.type == CONTEXT and contexts) or (key.type == BOOK and (slow or key.fast)):
                self._push_state(key, time_ms)
            elif key.type == TRADES:
                self._push_trades(key, time_ms)
            elif key.type == MIDS and slow:
                self.streams.publish(key, self.first_message(key, time_ms))
        self._traded_ms = time_ms

    def _push_candle(self, key: StreamKey, time_ms: int, *, final: bool = False) -> None:
        """Send a bar that is open or has ended in this millisecond, if its values have changed."""
        coin = self.market.coins[key.coin]
        bar = bar_at(coin, key.interval, time_ms)
        if bar is None:
            return
        end_ms = bar.open_ms + coin.bars[key.interval].length_ms
        if end_ms <= time_ms or (final and end_ms != time_ms + 1) or (not final and self._sent.get(key) == bar):
            return
        self._sent[key] = bar
        self.streams.publish(key, candle_of(coin, key.interval, bar), bar.open_ms, final=final)

    def _push_state(self, key: StreamKey, time_ms: int) -> None:
        if self.market.coins[key.coin].is_quoted(time_ms):
            self.streams.publish(key, self.first_message(key, time_ms))

    def _push_trades(self, key: StreamKey, time_ms: int) -> None:
        coin = self.market.coins[key.coin]
        # A long tick at a high speed has more trades than anyone reads.
        after_ms = max(self._traded_ms, time_ms - 60 * SECOND_MS)
        if trades := trades_between(coin, after_ms, time_ms):
            self.streams.publish(key, trades)


def _candle(coin: SimulatedCoin, key: StreamKey, now_ms: int) -> object:
    bar = bar_at(coin, key.interval, now_ms)
    return None if bar is None else candle_of(coin, key.interval, bar)


_BEGINNINGS: Mapping[str, Callable[[SimulatedCoin, StreamKey, int], object]] = {
    CANDLE: _candle,
    BBO: lambda coin, _, now_ms: best_quote(coin, now_ms),
    CONTEXT: lambda coin, _, now_ms: SentContextOf(coin=coin.name, context=context_of(coin, now_ms)),
    BOOK: lambda coin, key, now_ms: book_of(coin, now_ms, key.figures, key.mantissa),
    TRADES: lambda coin, _, now_ms: recent_trades(coin, now_ms),
}
