"""Sources of candles: the interface of a source, and its construction from `pipeline.yaml`."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import polars as pl

if TYPE_CHECKING:
    from mei_pipeline.config.models import FileSourceConfig, SyntheticSourceConfig


class Source(Protocol):
    """Interface of a source: it yields candles, funding and instruments of one venue."""

    @property
    def name(self) -> str:
        """Name of the source in reports and in the ingest's record."""

    @property
    def venue(self) -> str:
        """Venue of the prices."""

    def candles(self, interval: str, from_ms: int, to_ms: int) -> Iterator[pl.DataFrame]:
        """Yield frames of candles (the lake's columns) that open in [from_ms, to_ms).

        A source excludes a row by naming the broken rule in one more column, `excluded_rows.BROKEN_RULE`.
        """

    def funding(self, from_ms: int, to_ms: int) -> Iterator[pl.DataFrame]:
        """Yield frames of funding stamped in [from_ms, to_ms)."""

    def instruments(self) -> pl.DataFrame:
        """Return the venue's instruments, as far as the source knows them; may be empty."""


@runtime_checkable
class Complete(Protocol):
    """A source that speaks for its venue: a closed bar that it does not have did not trade.

    If a source lacks this attribute, or has False, a missing bar stays *unknown*.
    """

    complete: bool


def build_source(config: "FileSourceConfig | SyntheticSourceConfig", folder: Path | None = None) -> Source:
    """Return the source of an entry under `sources` in `pipeline.yaml`.

    Args:
        config: The entry.
        folder: Folder of a relative path; the current folder when None.

    Raises:
        ConfigError: The entry is not valid for its files or market.
        DataError: The files are missing, damaged or have another schema.
    """
    if config.kind == "files":
        from mei_pipeline.candles.sources.files import open_files  # noqa: PLC0415  (a run needs one kind only)

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
    from mei_pipeline.candles.sources.synthetic_config import INSTRUMENTS  # noqa: PLC0415  (a run needs one kind only)

    if not isinstance(symbols, int):
        return symbols
    known = tuple(INSTRUMENTS)[:symbols]
    return (*known, *(f"SYN{number}" for number in range(len(known) + 1, symbols + 1)))
