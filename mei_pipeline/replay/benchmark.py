"""Buy and hold over the days of a replay, for comparison with the strategy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from kernels.market import Floats
from mei_pipeline.params.benchmark import candidates, preferred
from mei_pipeline.replay.risk import annual_sharpe, daily_returns, max_drawdown_pct
from mei_pipeline.replay.run import ReplayInputs
from mei_pipeline.simulation.bars import Bars
from mei_pipeline.simulation.window import Window

MEANING = (
    "Buy and hold spends the initial balance at the first open of the window and never trades again. It pays no fees "
    "and no funding."
)
"""Explanation of the benchmark."""
COMPARED = (
    ("return_pct", "return, %"),
    ("sharpe", "Sharpe ratio, annual"),
    ("max_drawdown_pct", "maximum drawdown, %"),
)
"""Keys of the compared figures and their names."""
_NAMED = 30  # most characters of the names of symbols in a legend


@dataclass(frozen=True)
class Benchmark:
    """Result of buying once and holding.

    Attributes:
        name: Name for a reader.
        symbols: Symbols that are held.
        equity: [T] mark-to-market equity at the close of each step of the window, USD.
    """

    name: str
    symbols: tuple[str, ...]
    equity: Floats


def benchmark_on(inputs: ReplayInputs, chosen: str = "") -> Benchmark | None:
    """Return buy and hold of the benchmark symbol, or of all symbols in equal parts if the book has none.

    The benchmark symbol is `chosen`, else the one that the config reads, else Bitcoin if one symbol of the book is. A
    symbol without a bar in the window can't be held. The result is None if no symbol has a bar.
    """
    bars, cut = inputs.bars, inputs.cut
    held = _with_bars(bars, cut)
    symbol = chosen or inputs.resolved.benchmark or _bitcoin(bars.symbols)
    if symbol in held:
        name, held = f"buy and hold of {symbol}", (symbol,)
    elif held:
        listed = ", ".join(held)
        name = f"equal-weight buy and hold of {listed if len(listed) <= _NAMED else f'{len(held)} symbols'}"
    else:
        return None
    return Benchmark(name, held, hold(bars, cut, held, inputs.resolved.initial_balance_usd))


def hold(bars: Bars, cut: Window, symbols: Sequence[str], initial_usd: float) -> Floats:
    """Return the equity of holding `symbols` without fees and funding.

    Each symbol costs an equal part of the initial balance. It is bought at the open of its first bar in the window;
    until then its part is cash. At a step without a bar it counts at the last price.

    Args:
        bars: The bars.
        cut: The window.
        symbols: Symbols with a bar in the window, at least one.
        initial_usd: Initial balance, USD.

    Returns:
        [T] equity at the close of each step of the window, USD.
    """
    columns = [bars.symbols.index(symbol) for symbol in symbols]
    open_prices, close_prices = (bars.steps.prices[row, cut.first : cut.last][:, columns] for row in (0, 3))
    first = np.argmax(np.isfinite(close_prices), axis=0)
    buy_prices = open_prices[first, np.arange(len(columns))]
    growth = bars.steps.last_prices[cut.first : cut.last][:, columns] / buy_prices
    waiting = np.arange(len(close_prices))[:, None] < first
    return np.asarray(initial_usd * np.where(waiting, 1.0, growth).mean(axis=1))


def benchmark_dict(benchmark: Benchmark | None, inputs: ReplayInputs) -> dict[str, Any] | None:
    """Return the result of the benchmark as JSON values: `name`, `symbols`, and the figures of `COMPARED`."""
    if benchmark is None:
        return None
    initial = inputs.resolved.initial_balance_usd
    close_ms = inputs.bars.steps.close_ms[inputs.cut.first : inputs.cut.last]
    curve = pl.DataFrame({"close_ms": close_ms, "equity_usd": benchmark.equity})
    return {
        "name": benchmark.name,
        "symbols": list(benchmark.symbols),
        "return_pct": 100.0 * (float(benchmark.equity[-1]) / initial - 1.0),
        "sharpe": annual_sharpe(daily_returns(curve, initial)),
        "max_drawdown_pct": max_drawdown_pct(benchmark.equity, initial),
    }


def benchmark_rows(report: Mapping[str, Any]) -> tuple[tuple[object, ...], ...]:
    """Return one row for each of `COMPARED`: name, figure of the strategy, figure of the benchmark."""
    return tuple((name, report["metrics"][key], report["benchmark"][key]) for key, name in COMPARED)


def _with_bars(bars: Bars, cut: Window) -> tuple[str, ...]:
    present = bars.steps.present[cut.first : cut.last]
    return tuple(symbol for index, symbol in enumerate(bars.symbols) if present[:, index].any())


def _bitcoin(symbols: Sequence[str]) -> str:
    """Return the Bitcoin symbol that `benchmark: auto` finds; empty if there is none, or several."""
    matches = candidates(symbols)
    return preferred(matches) or (matches[0] if len(matches) == 1 else "")
