"""Quotes, books, trades and contexts around the path of a coin's price, as the venue's models.

All are functions of the time and of the seed.
"""

import math
from typing import Any

from mei_pipeline.candles.intervals import DAY_MS, SECOND_MS
from mei_pipeline.hyperliquid.numbers import text_of
from mei_pipeline.hyperliquid.simulator.market import SimulatedCoin
from mei_pipeline.hyperliquid.simulator.noise import mixed, uniform
from mei_pipeline.hyperliquid.simulator.paths import BarView, day_before, price_at, price_decimals
from mei_pipeline.hyperliquid.simulator.shapes import SentCandle, SentContext
from mei_pipeline.hyperliquid.wire import BestQuote, Level, OrderBook, Trade

LEVELS = 20
RECENT_TRADES = 30
_SPREAD_LEVERAGE = 40.0
"""A coin with this maximum leverage has a mean spread of one basis point; others have wider ones."""
_WIDEST_BPS = 8.0
_LEVEL_USD = 20_000.0
_TRADE_MS = 2 * SECOND_MS
_NO_HASH = "0x" + "0" * 64
_NOBODY = "0x" + "0" * 40


def wire_number(number: float) -> Any:
    """Return a number as the venue writes it; `float` of it is the number, bit for bit.

    The models hold it in fields of type Decimal: they check what arrives, and a text is sent in less time.
    """
    text = repr(number)
    return text_of(number) if "e" in text else text


def candle_of(coin: SimulatedCoin, interval: str, bar: BarView) -> SentCandle:
    """Return a bar as a candle."""
    return SentCandle(
        open_ms=bar.open_ms,
        close_ms=bar.open_ms + coin.bars[interval].length_ms - 1,
        coin=coin.name,
        interval=interval,
        open=wire_number(bar.open),
        close=wire_number(bar.close),
        high=wire_number(bar.high),
        low=wire_number(bar.low),
        volume=wire_number(bar.volume),
        trades=bar.trades,
    )


def best_prices(coin: SimulatedCoin, now_ms: int) -> tuple[float, float] | None:
    """Return the best bid and ask in USD; None if the coin is not quoted at that time."""
    price = price_at(coin, now_ms) if coin.is_quoted(now_ms) else None
    if price is None:
        return None
    terms = coin.terms_at(now_ms)
    decimals = price_decimals(price, terms.size_decimals)
    tick = 10.0**-decimals
    mean_bps = min(_WIDEST_BPS, _SPREAD_LEVERAGE / terms.max_leverage)
    half = price * mean_bps * (0.5 + uniform(coin.seed, now_ms, 1)) / 20_000.0
    bid = math.floor((price - half) / tick)
    ask = max(math.ceil((price + half) / tick), bid + 1)
    return round(max(bid, 1) * tick, decimals), round(max(ask, 2) * tick, decimals)


def best_quote(coin: SimulatedCoin, now_ms: int) -> BestQuote:
    """Return the best bid and ask with their sizes; both are None if the coin is not quoted."""
    prices = best_prices(coin, now_ms)
    if prices is None:
        return BestQuote(coin=coin.name, time_ms=now_ms, quotes=(None, None))
    decimals = coin.terms_at(now_ms).size_decimals
    bid, ask = (_level(coin, price, decimals, (now_ms, side)) for side, price in enumerate(prices))
    return BestQuote(coin=coin.name, time_ms=now_ms, quotes=(bid, ask))


def book_of(coin: SimulatedCoin, now_ms: int, figures: int | None = None, mantissa: int | None = None) -> OrderBook:
    """Return the order book.

    Args:
        coin: The coin.
        now_ms: The time, UTC milliseconds.
        figures: Significant figures of the prices; all of them by default.
        mantissa: Multiple of the last figure: 1, 2 or 5.
    """
    prices = best_prices(coin, now_ms)
    if prices is None:
        return OrderBook(coin=coin.name, levels=((), ()), time_ms=now_ms)
    sizes = coin.terms_at(now_ms).size_decimals
    decimals = price_decimals(prices[0], sizes)
    step = 10.0**-decimals
    if figures is not None:
        coarse = 10.0 ** (math.floor(math.log10(prices[0])) - figures + 1) * (mantissa or 1)
        step = max(step, coarse)
        prices = math.floor(prices[0] / step) * step, math.ceil(prices[1] / step) * step
    sides = []
    for side, (price, direction) in enumerate(zip(prices, (-1, 1), strict=True)):
        each = [round(price + direction * step * place, decimals) for place in range(LEVELS)]
        sides.append(
            tuple(_level(coin, px, sizes, (now_ms, side + 2 * place)) for place, px in enumerate(each) if px > 0.0)
        )
    return OrderBook(coin=coin.name, levels=(sides[0], sides[1]), time_ms=now_ms)


def mid_prices(coin: SimulatedCoin, now_ms: int) -> Any:
    """Return the mid price as text, or the last price without a book; None before the first bar."""
    prices = best_prices(coin, now_ms)
    if prices is not None:
        decimals = price_decimals(prices[0], coin.terms_at(now_ms).size_decimals)
        return wire_number(round((prices[0] + prices[1]) / 2.0, decimals + 1))
    last = price_at(coin, now_ms)
    return None if last is None else wire_number(last)


def context_of(coin: SimulatedCoin, now_ms: int) -> SentContext:
    """Return the state of a coin; `funding` is the rate that falls due at the end of the present hour."""
    last = price_at(coin, now_ms)
    price = float(coin.finest.values[0, 0]) if last is None else last
    prices = best_prices(coin, now_ms)
    decimals = coin.terms_at(now_ms).size_decimals
    before, volume, notional = day_before(coin, now_ms, DAY_MS)
    interest = round((5e6 + 5e7 * uniform(coin.seed, 5)) / price, decimals)
    return SentContext(
        funding=wire_number(coin.funding.next_rate(now_ms)),
        open_interest=wire_number(interest),
        previous_day_price=wire_number(before),
        day_notional=wire_number(round(notional, 6)),
        premium=None if prices is None else wire_number(round((prices[0] + prices[1]) / 2.0 / price - 1.0, 10)),
        oracle_price=wire_number(price),
        mark_price=wire_number(price),
        mid_price=None if prices is None else mid_prices(coin, now_ms),
        impact_prices=None if prices is None else (wire_number(prices[0]), wire_number(prices[1])),
        day_volume=wire_number(round(volume, decimals)),
    )


def trades_between(coin: SimulatedCoin, after_ms: int, now_ms: int) -> tuple[Trade, ...]:
    """Return the trades in (after_ms, now_ms], oldest first; each coin has one every two seconds."""
    found = []
    for time_ms in range((after_ms // _TRADE_MS + 1) * _TRADE_MS, now_ms + 1, _TRADE_MS):
        prices = best_prices(coin, time_ms)
        if prices is None:
            continue
        bought = mixed(coin.seed, time_ms, 7) % 2 == 0
        level = _level(coin, prices[1] if bought else prices[0], coin.terms_at(time_ms).size_decimals, (time_ms, 9))
        found.append(
            Trade(
                coin=coin.name,
                side="B" if bought else "A",
                price=level.price,
                size=level.size,
                time_ms=time_ms,
                trade_id=(1 << 49) | (mixed(coin.seed, time_ms, 11) >> 15),
                hash=_NO_HASH,
                users=(_NOBODY, _NOBODY),
            )
        )
    return tuple(found)


def recent_trades(coin: SimulatedCoin, now_ms: int) -> tuple[Trade, ...]:
    """Return the latest trades, newest first."""
    return trades_between(coin, now_ms - RECENT_TRADES * _TRADE_MS, now_ms)[::-1]


def _level(coin: SimulatedCoin, price: float, size_decimals: int, key: tuple[int, int]) -> Level:
    number = mixed(coin.seed, *key)
    usd = _LEVEL_USD * (0.1 + (number >> 40) / (1 << 23))
    size = max(round(usd / price, size_decimals), 10.0**-size_decimals)
    return Level(price=wire_number(price), size=wire_number(size), orders=1 + number % 20)
