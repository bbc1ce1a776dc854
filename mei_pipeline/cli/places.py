"""Options that name a part of the lake: a venue, an interval, a symbol."""

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mei_pipeline.candles.store import Lake

_SUGGESTED = 12  # names that a message lists; the nearest ones where there are more


def check_place(
    lake: "Lake", venue: str | None = None, intervals: Iterable[str] = (), symbols: Iterable[str] = ()
) -> None:
    """Refuse a venue, an interval or a symbol without data in the lake.

    Args:
        lake: The lake.
        venue: Venue of the option; None for all.
        intervals: Intervals of the option.
        symbols: Symbols of the option.

    Raises:
        ConfigError: The message lists what the lake has.
    """
    from mei_pipeline.candles import lake as candles_lake
    from mei_pipeline.candles import store
    from mei_pipeline.candles.intervals import interval_ms

    known = candles_lake.venues(lake)
    if venue is not None:
        _check("--venue", venue, known, lake)
    places = [(name, each) for name in known if venue in (None, name) for each in candles_lake.intervals(lake, name)]
    for interval in intervals:
        interval_ms(interval)
        _check("--interval", interval, list(dict.fromkeys(each for _, each in places)), lake)
    folders = [path for table in ("candles", "funding") for path in store.folders(lake, table)]
    if wanted := tuple(symbols):
        entries = (
            entry
            for path in folders
            if venue in (None, path.split("/")[1])
            for entry in store.read_manifest(lake, path).files.values()
        )
        listed = sorted({symbol for entry in entries for symbol in entry.symbols})
        for symbol in wanted:
            _check("symbol", symbol, listed, lake)


def _check(option: str, name: str, known: list[str], lake: "Lake") -> None:
    from mei_pipeline.errors import ConfigError

    if name in known:
        return
    near = difflib.get_close_matches(name, known, _SUGGESTED, cutoff=0.0) if len(known) > _SUGGESTED else known
    more = f" and {len(known) - len(near)} more" if len(known) > len(near) else ""
    listed = f"it has: {', '.join(near)}{more}" if known else "it is empty; run `mei ingest`"
    raise ConfigError(f"{option} {name}: the lake {lake.root} has nothing of it; {listed}")
