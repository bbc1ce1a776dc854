"""Where candles come from: one small interface, and a source for each kind in `pipeline.yaml`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import polars as pl

if TYPE_CHECKING:
    from mei_pipeline.config.models import FilesSource, SyntheticSource


class Source(Protocol):
    """Something that has candles, funding and instruments of one venue."""

    @property
    def name(self) -> str:
        """What it is called in reports and in the ingest's record."""

    @property
    def venue(self) -> str:
        """The venue that its prices are of."""

    def candles(self, interval: str, from_ms: int, to_ms: int) -> Iterator[pl.DataFrame]:
        """Yield frames of candles (the lake's columns) that open in [from_ms, to_ms).

        A source that knows of a row that it is not to be stored names the rule in one more column (`marks.MARK`).
        """

    def funding(self, from_ms: int, to_ms: int) -> Iterator[pl.DataFrame]:
        """Yield frames of funding stamped in [from_ms, to_ms)."""

    def instruments(self) -> pl.DataFrame:
        """What is known of the venue's instruments; may be empty."""


@runtime_checkable
class Complete(Protocol):
    """A source that speaks for its venue: a closed bar that it doesn't have did not trade.

    A source without this attribute, or with False, proves nothing about bars it doesn't have; they stay *unknown*.
    """

    complete: bool


def build(config: "FilesSource | SyntheticSource", folder: Path | None = None) -> Source:
    """Make the source that an entry under `sources` of `pipeline.yaml` describes.

    Args:
        config: The entry.
        folder: Where a relative path starts; the current folder when None.

    Raises:
        ConfigError: The entry describes no possible source.
        DataError: Its files are missing, damaged or of another schema.
    """
    if config.kind == "files":
        from mei_pipeline.candles.sources.files import open_files  # noqa: PLC0415  (a run loads one kind only)

        path = Path(config.path).expanduser()
        return open_files(
            path if folder is None else folder / path,
            config.venue,
            config.interval,
            {str(name): column for name, column in config.columns.items()},
            config.preset,
        )
    from mei_pipeline.candles.sources.synthetic import SyntheticMarket, SyntheticSource  # noqa: PLC0415  (as above)

    return SyntheticSource(
        SyntheticMarket(
            seed=config.seed,
            symbols=_names(config.symbols),
            interval=config.interval,
            from_ms=config.from_ms,
            to_ms=config.to_ms,
            edge_sharpe=config.edge_sharpe,
            venue=config.venue,
        )
    )


def _names(symbols: int | tuple[str, ...]) -> tuple[str, ...]:
    from mei_pipeline.candles.sources.synthetic_config import INSTRUMENTS  # noqa: PLC0415  (a run loads one kind only)

    if not isinstance(symbols, int):
        return symbols
    known = tuple(INSTRUMENTS)[:symbols]
    return (*known, *(f"SYN{number}" for number in range(len(known) + 1, symbols + 1)))
