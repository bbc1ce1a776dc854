"""Calibration of planted edges: the Sharpe ratio of the best combo of a search on very long runs of the same process.

The search runs in rounds: all combos on a few years, the best of them on more years, and the best of those on very many
years. Rounds share no market, so selection bias of the first rounds does not reach the last one. The best combo of the
last round is selected on the markets that measure it, so its Sharpe ratio is slightly too high. A run consists of
markets of two years, each with its own seed. Funding is left out: it depends on the venue, not on the edge.
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
    """Rounds of a calibration.

    Attributes:
        chosen: Years of each round that selects combos, and the number of combos that it keeps.
        years: Years of the measurement.
        trades_per_year: Closed trades per year below which the first round drops a combo.
        seed: Seed of the first market; those of the others follow.
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
        sharpe: Annual Sharpe ratio of the combo in the measurement, net of costs.
        trades_per_year: Closed trades per year of the combo.
        params: Values of the axes of the combo.
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
    """Measure the best combo of `spec` for each number of symbols; the rounds select with the greatest number.

    Args:
        settings: Settings with the place of compiled kernels.
        spec: The search, on 1h bars.
        drift: The planted drift; see `SyntheticMarket.edge_size`.
        books: Numbers of symbols; a book holds the first symbols of `INSTRUMENTS`.
        rounds: The rounds.
        threads: Threads to use; 0 means one per processor.
        progress: Called after each run.

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
    results = []
    for book in books:
        run = _run(settings, spec, drift, book, range(seed, seed + rounds.years // RUN_YEARS), numbers, threads)
        results.append(_best(run, drift, book))
        progress(len(rounds.chosen) + len(results), total, f"drift {drift:g}")
    return tuple(results)


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
    """Run combos on the markets of all seeds; all combos if `numbers` is None."""
    source = SyntheticMarkets(tuple(sorted(list(INSTRUMENTS)[:book])), (), drift)
    parts = []
    for seed in seeds:
        bars = source.bars(seed, source.searched, DAYS)
        bars = replace(bars, steps=replace(bars.steps, funding=np.zeros_like(bars.steps.funding)))
        plan = make_plan(spec, bars, DEFAULT_FROM_MS + WARMUP_DAYS * DAY_MS, DEFAULT_FROM_MS + DAYS * DAY_MS)
        run_now = all_numbers(settings, plan) if numbers is None else numbers
        outcome = run_numbers(settings, bars, features_of(bars, plan.columns(), threads), plan, run_now, threads)
        parts.append((*outcome.days.sum(axis=0), outcome.results["trades"]))
    *sums, trades = np.sum(parts, axis=0)
    # pyrefly: ignore[unbound-name]  # the line above has failed where there are no seeds
    return _Run(plan, run_now, np.stack(sums), trades / (len(seeds) * RUN_YEARS))
