"""Stylised facts of candles: what a synthetic market must share with a real one, measured the same way on both.

    python -m mei_pipeline.candles.sources.stylised FILE…         candles in Parquet
    python -m mei_pipeline.candles.sources.stylised --synthetic 8  as many synthetic markets
    python -m mei_pipeline.candles.sources.stylised --edge         what planted edges earn (an hour or so)

Returns are logarithmic, from one close to the next.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import click
import numpy as np
import polars as pl
from polars.exceptions import PolarsError

from mei_pipeline.candles.intervals import HOUR_MS
from mei_pipeline.candles.sources.synthetic import SyntheticMarket, make_bars
from mei_pipeline.candles.sources.synthetic_calibration import TIGHT, Earned, measure
from mei_pipeline.candles.sources.synthetic_config import BASE_INTERVALS, INSTRUMENTS, Regimes
from mei_pipeline.candles.sources.synthetic_edge import COST_BPS, SHARPE_BY_DRIFT
from mei_pipeline.candles.sources.synthetic_hours import Floats
from mei_pipeline.errors import DataError, MeiError
from mei_pipeline.progress import Lines, Progress
from mei_pipeline.text import printable

LAGS = (1, 5, 24)
CLIP_STDS = 10.0
LEAST_RETURNS = 100
BOOKS = (1, 2, 5, 10, 14)


@dataclass(frozen=True)
class Stylised:
    """Facts of one symbol.

    Attributes:
        returns: How many returns were measured.
        volatility: Standard deviation of a return.
        kurtosis: Excess kurtosis.
        clipped_kurtosis: The same with returns limited to 10 standard deviations, which one crash cannot dominate.
        abs_autocorrelation: Of the absolute return, at each of `LAGS` bars.
        autocorrelation: Of the return, at 1 bar.
        range_ratio: Mean of log(high / low) over mean absolute return.
        volume_correlation: Of volume and absolute return.
    """

    returns: int
    volatility: float
    kurtosis: float
    clipped_kurtosis: float
    abs_autocorrelation: tuple[float, ...]
    autocorrelation: float
    range_ratio: float
    volume_correlation: float

    def row(self) -> tuple[float, ...]:
        """The figures in the order of `HEADINGS`."""
        return (
            self.volatility * 100.0,
            self.kurtosis,
            self.clipped_kurtosis,
            *self.abs_autocorrelation,
            self.autocorrelation,
            self.range_ratio,
            self.volume_correlation,
        )


HEADINGS = ("std %", "kurt", "kurt<10s", *(f"|r| ac{lag}" for lag in LAGS), "r ac1", "range/|r|", "vol~|r|")


def kurtosis(values: Floats) -> float:
    """Excess kurtosis, m4 / m2² - 3 (Cramér, Mathematical Methods of Statistics, 15.8)."""
    centred = values - values.mean()
    return float(np.mean(centred**4) / np.mean(centred**2) ** 2 - 3.0)


def autocorrelation(values: Floats, lag: int) -> float:
    """Sample autocorrelation at `lag` > 0."""
    centred = values - values.mean()
    return float(np.sum(centred[lag:] * centred[:-lag]) / np.sum(centred**2))


def facts(high: Floats, low: Floats, close: Floats, volume: Floats) -> Stylised:
    """Measure one symbol's consecutive bars.

    Raises:
        DataError: There are too few bars, or the price never moves.
    """
    returns = np.diff(np.log(close))
    if len(returns) < LEAST_RETURNS or not returns.std() > 0.0:
        raise DataError(f"stylised facts need {LEAST_RETURNS + 1} bars with moving prices; there are {len(close)} bars")
    std, size = float(returns.std()), np.abs(returns)
    return Stylised(
        returns=len(returns),
        volatility=std,
        kurtosis=kurtosis(returns),
        clipped_kurtosis=kurtosis(np.clip(returns, -CLIP_STDS * std, CLIP_STDS * std)),
        abs_autocorrelation=tuple(autocorrelation(size, lag) for lag in LAGS),
        autocorrelation=autocorrelation(returns, 1),
        range_ratio=float(np.log(high / low).mean() / size.mean()),
        volume_correlation=float(np.corrcoef(volume[1:], size)[0, 1]),
    )


def by_symbol(frame: pl.DataFrame) -> dict[str, Stylised]:
    """Measure every symbol of candles of one interval; bars of a symbol are taken as consecutive."""
    out = {}
    for (symbol,), bars in frame.sort("symbol", "open_ms").group_by("symbol", maintain_order=True):
        out[str(symbol)] = facts(*(bars[name].to_numpy() for name in ("high", "low", "close", "volume")))
    return out


def correlations(frame: pl.DataFrame) -> dict[tuple[str, str], float]:
    """Correlation of the returns of each pair of symbols, over the bars that both have."""
    wide = frame.sort("open_ms").pivot(on="symbol", index="open_ms", values="close")
    out = {}
    for one, other in combinations(sorted(frame["symbol"].unique()), 2):
        both = wide.select(one, other).drop_nulls()
        if both.height > LEAST_RETURNS:
            moves = np.diff(np.log(both.to_numpy()), axis=0)
            out[one, other] = float(np.corrcoef(moves.T)[0, 1])
    return out


def read(path: Path) -> pl.DataFrame:
    """Read candles of one interval; the time is `open_ms`, or `open_time` as a timestamp.

    Raises:
        DataError: The file is not Parquet, or columns are missing.
    """
    try:
        frame = pl.read_parquet(path, glob=False)
    except (OSError, PolarsError) as error:
        raise DataError(f"{path}: not readable as Parquet: {error}") from None
    if "open_ms" not in frame.columns and "open_time" in frame.columns:
        frame = frame.with_columns(open_ms=pl.col("open_time").dt.epoch("ms"))
    absent = [name for name in ("symbol", "open_ms", "high", "low", "close", "volume") if name not in frame.columns]
    if absent:
        raise DataError(f"{path}: column {absent[0]!r} is missing; found: {', '.join(frame.columns)}")
    return frame


def table(name: str, frame: pl.DataFrame) -> Iterator[str]:
    """Lines of a table: a row per symbol, then least, median and greatest of each figure, then the correlations."""
    rows = {symbol: found.row() for symbol, found in by_symbol(frame).items()}
    yield f"{name}: {frame.height:,} bars of {len(rows)} symbols"
    yield f"{'':10}" + "".join(f"{heading:>10}" for heading in HEADINGS)
    every = np.array(list(rows.values()))
    summary = {"least": every.min(axis=0), "median": np.median(every, axis=0), "greatest": every.max(axis=0)}
    for label, row in (*rows.items(), *summary.items()):
        yield f"{label:10}" + "".join(f"{value:10.3f}" for value in row)
    pairs = list(correlations(frame).values())
    if pairs:
        yield f"correlation of pairs: {min(pairs):.3f} … {float(np.median(pairs)):.3f} … {max(pairs):.3f}"


def synthetic_frame(market: SyntheticMarket, to_ms: int) -> pl.DataFrame:
    """Bars of `market` up to `to_ms` with the columns that the measures read."""
    bars = make_bars(market, market.from_ms, to_ms)
    parts = [
        pl.DataFrame({name: getattr(bars, name)[at] for name in ("high", "low", "close", "volume")}).with_columns(
            symbol=pl.lit(symbol), open_ms=pl.Series(bars.open_ms)
        )
        for at, symbol in enumerate(market.symbols)
    ]
    return pl.concat(parts)


def edge_table(found: Sequence[Earned]) -> Iterator[str]:
    """Lines of the calibration table: best net Sharpe ratio by edge and book, without stops and with tight ones."""
    for label, stops in (("any stop", slice(None)), ("stop and target of 1.5 to 4 ATR", TIGHT)):
        yield f"best net Sharpe ratio, {label}"
        yield "edge_size " + "".join(f"{book:>9} sym" for book in found[0].books)
        for earned in found:
            best = [earned.best(at, stops)[0] for at in range(len(earned.books))]
            yield f"{earned.edge_size:9g} " + "".join(f"{value:13.2f}" for value in best)


def _bar() -> Progress:
    return Lines(lambda line: click.echo(printable(line), err=True), every_s=0.0, first=True)


@click.command(help="Measure stylised facts of candles, or what a planted edge earns.")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--synthetic", type=click.IntRange(1), help="Measure this many synthetic markets, seeds 1, 2, …")
@click.option("--interval", type=click.Choice(list(BASE_INTERVALS)), default="1h", help="Bars of --synthetic.")
@click.option("--weeks", type=click.IntRange(1), default=55, help="Length of each --synthetic market.")
@click.option("--edge", is_flag=True, help="Measure what planted edges earn on a long run.")
@click.option("--size", "sizes", multiple=True, type=click.FloatRange(0.0), help="An edge_size; may be repeated.")
@click.option("--years", type=click.IntRange(1), default=120, help="Length of the long run.")
@click.option("--cost-bps", type=click.FloatRange(0.0), default=COST_BPS, help="Fee and slippage per fill.")
@click.option("--trend-hours", type=float, default=Regimes.trend_hours, help="Regimes of --edge.")
@click.option("--range-hours", type=float, default=Regimes.range_hours, help="Regimes of --edge.")
@click.option("--market-share", type=float, default=Regimes.trend_market_share, help="Regimes of --edge.")
def main(  # noqa: PLR0913  (one argument per option)
    *,
    files: tuple[Path, ...],
    synthetic: int | None,
    interval: str,
    weeks: int,
    edge: bool,
    sizes: tuple[float, ...],
    years: int,
    cost_bps: float,
    trend_hours: float,
    range_hours: float,
    market_share: float,
) -> None:
    """Print the tables that were asked for."""
    market = SyntheticMarket(symbols=tuple(INSTRUMENTS), interval=interval)
    try:
        for path in files:
            click.echo(printable("\n".join(table(path.name, read(path)))))
        for seed in range(1, (synthetic or 0) + 1):
            frame = synthetic_frame(replace(market, seed=seed), market.from_ms + weeks * 168 * HOUR_MS)
            click.echo(printable("\n".join(table(f"seed {seed}", frame))))
        if edge:
            regimes = Regimes(trend_hours=trend_hours, range_hours=range_hours, trend_market_share=market_share)
            base = SyntheticMarket(seed=90_000, symbols=tuple(INSTRUMENTS), regimes=regimes)
            wanted = sizes or tuple(SHARPE_BY_DRIFT)
            found = [measure(replace(base, edge_size=size), BOOKS, years, cost_bps, _bar()) for size in wanted]
            click.echo(printable("\n".join(edge_table(found))))
    except MeiError as error:
        click.echo(printable(f"error: {error}"), err=True)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
