"""Stylised facts of candles, measured in the same way on real and on synthetic markets.

    python -m mei_pipeline.candles.sources.stylised FILE…          candles in Parquet
    python -m mei_pipeline.candles.sources.stylised --synthetic 8  eight synthetic markets
    python -m mei_pipeline.candles.sources.stylised --edge         Sharpe ratios of planted edges (about an hour)

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
from mei_pipeline.candles.sources.synthetic_calibration import TIGHT, EdgeSharpeRatios, measure
from mei_pipeline.candles.sources.synthetic_config import BASE_INTERVALS, INSTRUMENTS, Regimes
from mei_pipeline.candles.sources.synthetic_edge import COST_BPS, SHARPE_BY_DRIFT
from mei_pipeline.candles.sources.synthetic_hours import Floats
from mei_pipeline.errors import DataError, MeiError
from mei_pipeline.progress import Lines, Progress
from mei_pipeline.text import printable

LAGS = (1, 5, 24)
CLIP_STDS = 10.0
MIN_RETURNS = 100
BOOKS = (1, 2, 5, 10, 14)


@dataclass(frozen=True)
class StylisedFacts:
    """Stylised facts of one symbol.

    Attributes:
        returns: Number of returns.
        volatility: Standard deviation of a return.
        kurtosis: Excess kurtosis.
        clipped_kurtosis: Excess kurtosis with returns limited to 10 standard deviations, so that one crash does not
            dominate it.
        abs_autocorrelation: Autocorrelation of the absolute return, at each of `LAGS` bars.
        autocorrelation: Autocorrelation of the return, at 1 bar.
        range_ratio: Mean of log(high / low) over mean absolute return.
        volume_correlation: Correlation of volume and absolute return.
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
        """Return the figures in the order of `HEADINGS`."""
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
    """Return the excess kurtosis, m4 / m2² - 3 (Cramér, Mathematical Methods of Statistics, 15.8)."""
    centred = values - values.mean()
    return float(np.mean(centred**4) / np.mean(centred**2) ** 2 - 3.0)


def autocorrelation(values: Floats, lag: int) -> float:
    """Return the sample autocorrelation at `lag` > 0."""
    centred = values - values.mean()
    return float(np.sum(centred[lag:] * centred[:-lag]) / np.sum(centred**2))


def measure_facts(high: Floats, low: Floats, close: Floats, volume: Floats) -> StylisedFacts:
    """Measure the stylised facts of one symbol's consecutive bars.

    Raises:
        DataError: There are too few bars, or the price never moves.
    """
    returns = np.diff(np.log(close))
    if len(returns) < MIN_RETURNS or not returns.std() > 0.0:
        raise DataError(f"stylised facts need {MIN_RETURNS + 1} bars with moving prices; found {len(close)} bars")
    std, size = float(returns.std()), np.abs(returns)
    return StylisedFacts(
        returns=len(returns),
        volatility=std,
        kurtosis=kurtosis(returns),
        clipped_kurtosis=kurtosis(np.clip(returns, -CLIP_STDS * std, CLIP_STDS * std)),
        abs_autocorrelation=tuple(autocorrelation(size, lag) for lag in LAGS),
        autocorrelation=autocorrelation(returns, 1),
        range_ratio=float(np.log(high / low).mean() / size.mean()),
        volume_correlation=float(np.corrcoef(volume[1:], size)[0, 1]),
    )


def facts_by_symbol(frame: pl.DataFrame) -> dict[str, StylisedFacts]:
    """Measure every symbol of candles of one interval; gaps between the bars of a symbol are ignored."""
    out = {}
    for (symbol,), bars in frame.sort("symbol", "open_ms").group_by("symbol", maintain_order=True):
        out[str(symbol)] = measure_facts(*(bars[name].to_numpy() for name in ("high", "low", "close", "volume")))
    return out


def correlations(frame: pl.DataFrame) -> dict[tuple[str, str], float]:
    """Return the correlation of returns of each pair of symbols, over the bars that both have."""
    wide = frame.sort("open_ms").pivot(on="symbol", index="open_ms", values="close")
    out = {}
    for one, other in combinations(sorted(frame["symbol"].unique()), 2):
        both = wide.select(one, other).drop_nulls()
        if both.height > MIN_RETURNS:
            moves = np.diff(np.log(both.to_numpy()), axis=0)
            out[one, other] = float(np.corrcoef(moves.T)[0, 1])
    return out


def read_bars(path: Path) -> pl.DataFrame:
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


def facts_table(name: str, frame: pl.DataFrame) -> Iterator[str]:
    """Yield a table: a row per symbol, then least, median and greatest of each figure, then the correlations."""
    rows = {symbol: facts.row() for symbol, facts in facts_by_symbol(frame).items()}
    yield f"{name}: {frame.height:,} bars of {len(rows)} symbols"
    yield f"{'':10}" + "".join(f"{heading:>10}" for heading in HEADINGS)
    figures = np.array(list(rows.values()))
    summary = {"least": figures.min(axis=0), "median": np.median(figures, axis=0), "greatest": figures.max(axis=0)}
    for label, row in (*rows.items(), *summary.items()):
        yield f"{label:10}" + "".join(f"{value:10.3f}" for value in row)
    pairs = list(correlations(frame).values())
    if pairs:
        yield f"correlation of pairs: {min(pairs):.3f} … {float(np.median(pairs)):.3f} … {max(pairs):.3f}"


def synthetic_frame(market: SyntheticMarket, to_ms: int) -> pl.DataFrame:
    """Return bars of `market` up to `to_ms`, with the columns that the measures need."""
    bars = make_bars(market, market.from_ms, to_ms)
    parts = [
        pl.DataFrame({name: getattr(bars, name)[at] for name in ("high", "low", "close", "volume")}).with_columns(
            symbol=pl.lit(symbol), open_ms=pl.Series(bars.open_ms)
        )
        for at, symbol in enumerate(market.symbols)
    ]
    return pl.concat(parts)


def edge_table(measured: Sequence[EdgeSharpeRatios]) -> Iterator[str]:
    """Yield the calibration table: best net Sharpe ratio by edge and book, with all stops and with tight ones."""
    for label, stops in (("any stop", slice(None)), ("stop and target of 1.5 to 4 ATR", TIGHT)):
        yield f"best net Sharpe ratio, {label}"
        yield "edge_size " + "".join(f"{book:>9} sym" for book in measured[0].books)
        for edge in measured:
            best = [edge.best(at, stops)[0] for at in range(len(edge.books))]
            yield f"{edge.edge_size:9g} " + "".join(f"{value:13.2f}" for value in best)


def _bar() -> Progress:
    return Lines(lambda line: click.echo(printable(line), err=True), every_s=0.0, first=True)


@click.command(help="Measure stylised facts of candles, or the Sharpe ratios of planted edges.")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option("--synthetic", type=click.IntRange(1), help="Measure this many synthetic markets, seeds 1, 2, …")
@click.option("--interval", type=click.Choice(list(BASE_INTERVALS)), default="1h", help="Bars of --synthetic.")
@click.option("--weeks", type=click.IntRange(1), default=55, help="Length of each --synthetic market.")
@click.option("--edge", is_flag=True, help="Measure Sharpe ratios of planted edges on a long run.")
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
    """Print the tables that the options select."""
    market = SyntheticMarket(symbols=tuple(INSTRUMENTS), interval=interval)
    try:
        for path in files:
            click.echo(printable("\n".join(facts_table(path.name, read_bars(path)))))
        for seed in range(1, (synthetic or 0) + 1):
            frame = synthetic_frame(replace(market, seed=seed), market.from_ms + weeks * 168 * HOUR_MS)
            click.echo(printable("\n".join(facts_table(f"seed {seed}", frame))))
        if edge:
            regimes = Regimes(trend_hours=trend_hours, range_hours=range_hours, trend_market_share=market_share)
            base = SyntheticMarket(seed=90_000, symbols=tuple(INSTRUMENTS), regimes=regimes)
            drifts = sizes or tuple(SHARPE_BY_DRIFT)
            measured = [measure(replace(base, edge_size=size), BOOKS, years, cost_bps, _bar()) for size in drifts]
            click.echo(printable("\n".join(edge_table(measured))))
    except MeiError as error:
        click.echo(printable(f"error: {error}"), err=True)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
