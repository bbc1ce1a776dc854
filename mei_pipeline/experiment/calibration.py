"""Measure what planted edges earn: the best combo of a search on a very long run of the same process.

The search is halved in rounds: all combos run on a few years, the best of them on more years, and the best of those on
very many. No round shares a market with another, so what was luck in the first rounds is gone. The best of the last
round is chosen on the markets that measure it: its figure is too high by the luck of the best of some similar combos.
Every run is made of markets of two years, each with a seed of its own, and goes through the compiled engine. Funding is
left out: it belongs to the venue, not to the edge.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kernels.market import Floats, Ints
from kernels.params import Value
from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.candles.sources.synthetic_config import DEFAULT_FROM_MS, INSTRUMENTS
from mei_pipeline.config.models import SweepSpec
from mei_pipeline.errors import ConfigError
from mei_pipeline.experiment.markets import SyntheticMarkets
from mei_pipeline.experiment.run import WARMUP_DAYS, all_numbers, check_spec, run_numbers
from mei_pipeline.progress import Progress, silent
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.memory import features_of
from mei_pipeline.sweep.metrics import YEAR_DAYS, sharpe
from mei_pipeline.sweep.plan import SweepPlan, make_plan

RUN_YEARS = 2
"""Years of each market of a long run."""
DAYS = WARMUP_DAYS + int(RUN_YEARS * YEAR_DAYS)


@dataclass(frozen=True)
class Rounds:
    """How long combos run, and how many are kept.

    Attributes:
        chosen: Years of each round that chooses, and how many combos it keeps.
        years: Years of the measurement, of which the best is reported.
        trades_per_year: Closed trades per year below which the first round drops a combo.
        seed: Of the first market; the others follow it.
    """

    chosen: tuple[tuple[int, int], ...] = ((2, 1024), (8, 64))
    years: int = 60
    trades_per_year: int = 78
    seed: int = 80_000

    def __post_init__(self) -> None:
        for years in (*(years for years, _ in self.chosen), self.years):
            if years < RUN_YEARS or years % RUN_YEARS:
                raise ConfigError(f"calibration: years are {years}; allowed: {RUN_YEARS} and its multiples")


@dataclass(frozen=True)
class EdgeResult:
    """The best combo of a search on one planted edge.

    Attributes:
        drift: Drift in a trend, in hourly standard deviations per hour.
        symbols: Number of symbols.
        sharpe: Its annual Sharpe ratio, net of the costs of the search, in the measurement.
        trades_per_year: Its closed trades per year.
        params: Its values of the axes.
    """

    drift: float
    symbols: int
    sharpe: float
    trades_per_year: float
    params: dict[str, Value]


@dataclass(frozen=True)
class _Run:
    """Sums of daily returns (count, sum, sum of squares) and closed trades per year of K combos."""

    plan: SweepPlan
    numbers: Ints
    sums: Floats
    trades: Floats

    @property
    def ratios(self) -> Floats:
        """Annual Sharpe ratio of each combo, [K]."""
        return sharpe(*self.sums)


def measure(
    settings: Settings,
    spec: SweepSpec,
    drift: float,
    books: Sequence[int],
    rounds: Rounds,
    threads: int = 0,
    progress: Progress = silent,
) -> tuple[EdgeResult, ...]:
    """Return what the best combo of `spec` earns with each number of symbols; the rounds choose with the greatest one.

    Args:
        settings: Says where compiled kernels are.
        spec: The search, on 1h bars.
        drift: The planted drift; see `SyntheticMarket.edge_size`.
        books: Numbers of symbols; a book holds the first so many of `INSTRUMENTS`.
        rounds: How long the runs are.
        threads: Threads to use; 0 means one per processor.
        progress: Told of each run.

    Raises:
        ConfigError: The search can't run on these markets, no combo trades often enough, or a book is empty or larger
            than `INSTRUMENTS`.
    """
    check_spec(spec)
    if not books or not set(books) <= set(range(1, len(INSTRUMENTS) + 1)):
        raise ConfigError(f"calibration: symbols are {list(books)}; allowed: numbers from 1 to {len(INSTRUMENTS)}")
    total = len(rounds.chosen) + len(books)
    seed, numbers = rounds.seed, None
    for done, (years, kept) in enumerate(rounds.chosen, start=1):
        run = _run(settings, spec, drift, max(books), range(seed, seed + years // RUN_YEARS), numbers, threads)
        ratios = np.where(run.trades >= rounds.trades_per_year, run.ratios, -np.inf) if numbers is None else run.ratios
        best = np.argsort(-ratios, kind="stable")[:kept]
        numbers = run.numbers[best[np.isfinite(ratios[best])]]
        if not len(numbers):
            raise ConfigError(
                f"calibration: none of {run.plan.combos:,} combos closes {rounds.trades_per_year} trades per year with "
                f"drift {drift:g}"
            )
        seed += years // RUN_YEARS
        progress(done, total, f"drift {drift:g}")
    found = []
    for book in books:
        run = _run(settings, spec, drift, book, range(seed, seed + rounds.years // RUN_YEARS), numbers, threads)
        found.append(_best(run, drift, book))
        progress(len(rounds.chosen) + len(found), total, f"drift {drift:g}")
    return tuple(found)


def _best(run: _Run, drift: float, symbols: int) -> EdgeResult:
    best = int(run.ratios.argmax())
    combo = run.plan.combo(int(run.numbers[best]))
    return EdgeResult(
        drift=drift,
        symbols=symbols,
        sharpe=float(run.ratios[best]),
        trades_per_year=float(run.trades[best]),
        params={path: combo[path] for path, _ in run.plan.axes},
    )


def _run(
    settings: Settings,
    spec: SweepSpec,
    drift: float,
    book: int,
    seeds: Sequence[int],
    numbers: Ints | None,
    threads: int,
) -> _Run:
    """Run combos, all where `numbers` is None, on the markets of all seeds."""
    source = SyntheticMarkets(tuple(sorted(list(INSTRUMENTS)[:book])), (), drift)
    parts = []
    for seed in seeds:
        bars = source.bars(seed, source.searched, DAYS)
        bars = replace(bars, steps=replace(bars.steps, funding=np.zeros_like(bars.steps.funding)))
        plan = make_plan(spec, bars, DEFAULT_FROM_MS + WARMUP_DAYS * DAY_MS, DEFAULT_FROM_MS + DAYS * DAY_MS)
        which = all_numbers(settings, plan) if numbers is None else numbers
        outcome = run_numbers(settings, bars, features_of(bars, plan.columns(), threads), plan, which, threads)
        parts.append((*outcome.days.sum(axis=0), outcome.results["trades"]))
    *sums, trades = np.sum(parts, axis=0)
    # pyrefly: ignore[unbound-name]  # the line above has failed where there are no seeds
    return _Run(plan, which, np.stack(sums), trades / (len(seeds) * RUN_YEARS))
