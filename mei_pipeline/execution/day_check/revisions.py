"""Compare the market data that a lane saw with the lake as it is now."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from mei_pipeline.candles.intervals import interval_ms
from mei_pipeline.execution.day_check.differences import Difference
from mei_pipeline.execution.events import BarClosed, BarMissing, Event, FundingRate

_NAMES = ("open", "high", "low", "close", "volume")

Key = tuple[str, str, int]
"""Symbol, interval (empty for a funding rate) and time of market data."""


def market_data(events: Iterable[Event], step_ms: int) -> dict[Key, tuple[int, dict[str, Any]]]:
    """Return the bars and funding rates among events: open time of their step, and values by name.

    Args:
        events: The events; of several with one key the first counts, because it was used.
        step_ms: Length of a step.
    """
    found: dict[Key, tuple[int, dict[str, Any]]] = {}
    for event in events:
        match event:
            case BarClosed():
                close_ms = event.open_ms + interval_ms(event.interval)
                values = {f"{name} of {event.interval}": getattr(event, name) for name in _NAMES}
                found.setdefault((event.symbol, event.interval, event.open_ms), (close_ms - step_ms, values))
            case BarMissing():
                close_ms = event.open_ms + interval_ms(event.interval)
                missing = dict.fromkeys((f"{name} of {event.interval}" for name in _NAMES), None)
                found.setdefault((event.symbol, event.interval, event.open_ms), (close_ms - step_ms, missing))
            case FundingRate():
                due = -(-event.due_ms // step_ms) * step_ms - step_ms
                found.setdefault((event.symbol, "", event.due_ms), (due, {"funding rate": event.rate}))
            case _:
                pass
    return found


def revised(
    seen: Mapping[Key, tuple[int, dict[str, Any]]], stored: Mapping[Key, tuple[int, dict[str, Any]]]
) -> Iterator[Difference]:
    """Yield a difference for each bar and funding rate that the lake has otherwise than the lane saw it.

    Args:
        seen: Market data of the lane (`market_data`).
        stored: Market data of the lake.
    """
    for key in sorted(seen.keys() | stored.keys(), key=lambda each: ((seen.get(each) or stored[each])[0], each)):
        step_ms, known = seen.get(key) or stored[key]
        recorded = seen[key][1] if key in seen else dict.fromkeys(known)
        now = stored[key][1] if key in stored else dict.fromkeys(known)
        changed = [name for name in known if recorded.get(name) != now.get(name)]
        if changed:
            name = changed[0]
            more = f"; also {', '.join(changed[1:])}" if changed[1:] else ""
            yield Difference(
                "data revision",
                step_ms,
                "",
                key[0],
                name,
                _text(recorded.get(name)),
                _text(now.get(name)),
                f"the lake has another value than the lane saw{more}",
            )


def _text(value: Any) -> str:
    return "none" if value is None else msgspec.json.encode(value).decode()
