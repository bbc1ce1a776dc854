"""Checks of subscriptions to the feed of a venue."""

from collections.abc import Mapping

from live.feed_protocol import Subscribe
from live.venue_feed.instruments import SymbolTerms
from live.venue_feed.steps import CheckedSubscription
from mei_pipeline.candles.intervals import interval_ms, iso
from mei_pipeline.errors import ConfigError


def check_subscription(wanted: Subscribe, terms: Mapping[str, SymbolTerms], now_ms: int) -> CheckedSubscription:
    """Return a subscription in order.

    Args:
        wanted: The subscription.
        terms: Terms of the venue's symbols.
        now_ms: Time of the venue.

    Raises:
        ConfigError: It has no symbol or interval, one of them is unknown, an interval is no multiple of the finest, or
            `from_ms` is off the grid or lies in the future.
    """
    symbols = tuple(sorted(set(wanted.symbols)))
    if not symbols:
        raise ConfigError("symbols: the list is empty; name at least one symbol")
    if unknown := [symbol for symbol in symbols if symbol not in terms]:
        names = ", ".join(sorted(name for name, each in terms.items() if not each.delisted)[:8])
        raise ConfigError(
            f"symbols: {unknown[0]!r} is unknown at the venue, whose {len(terms)} symbols begin with {names}; "
            f"leave it out"
        )
    if not wanted.intervals:
        raise ConfigError("intervals: the list is empty; name at least one interval")
    intervals = tuple(sorted(set(wanted.intervals), key=interval_ms))
    step_ms = interval_ms(intervals[0])
    for name in intervals:
        if interval_ms(name) % step_ms:
            raise ConfigError(f"intervals: {name} is no multiple of {intervals[0]}; the finest must divide the others")
    if wanted.from_ms % step_ms:
        raise ConfigError(f"from_ms {wanted.from_ms}, {iso(wanted.from_ms)}: it must lie on the {intervals[0]} grid")
    if wanted.from_ms > now_ms + step_ms:
        raise ConfigError(
            f"from_ms {wanted.from_ms}, {iso(wanted.from_ms)}: after the feed's clock, {iso(now_ms)}; a lane that "
            f"knows later steps has followed another network, or a simulator that started later; a new lane can begin "
            f"earlier with --from"
        )
    return CheckedSubscription(symbols, intervals, wanted.from_ms)
