"""`mei bench` and `mei warmup`: measure the speed of this machine, and compile kernels ahead of time."""

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from mei_pipeline.cli import output
from mei_pipeline.cli.days import FROM, TO
from mei_pipeline.cli.groups import Group
from mei_pipeline.cli.options import result_options

if TYPE_CHECKING:
    from mei_pipeline.bench.work import BenchWork
    from mei_pipeline.simulation.device import DeviceName

_THREADS = click.option("--threads", type=click.IntRange(0), default=0, help="Threads; default: one per processor.")
_DEVICE = click.option(
    "--device",
    type=click.Choice(("auto", "cpu", "cuda")),
    default="cpu",
    show_default=True,
    help="Device; `auto` selects the faster one.",
)
_FEWEST_DAYS = 16  # of a window


@click.group("bench", cls=Group)
def bench() -> None:
    """Time fixed work on synthetic markets, which needs no lake, and the kernels of a GPU."""


@bench.command()
@click.option(
    "--bars", type=click.IntRange(_FEWEST_DAYS * 24), help="Hours, rounded up to whole days; default: 17,520."
)
@click.option("--combos", type=click.IntRange(1), help="How many combos; default: all 1,024; more widen the grid.")
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True, help="Runs; the fastest counts.")
@click.option("--first", is_flag=True, help="Time a fresh process from its start to the result of one combo.")
@_DEVICE
@_THREADS
@result_options
def w1(
    bars: int | None, combos: int | None, repeats: int, first: bool, device: "DeviceName", threads: int, as_json: bool
) -> None:
    """Sweep ema_cross over one symbol, 17,520 hours, 1,024 combos: the workload that backtesters are compared by."""
    if first:
        _show("A fresh process", _first(), as_json=as_json)
        return
    from mei_pipeline.bench import w1
    from mei_pipeline.bench.work import run_work
    from mei_pipeline.settings import read_settings

    with output.bar() as progress:
        work = w1.make(bars or w1.BARS, combos or w1.COMBOS)
        figures, _ = run_work(
            read_settings(), work, "w1", threads=threads, repeats=repeats, device=device, progress=progress
        )
    _show("Sweep of one symbol", figures.to_dict(), as_json=as_json)


@bench.command()
@click.option("--exits", type=click.Choice(["5m", "15m", "30m"]), help="Decide exits at closes of these bars.")
@click.option("--combos", type=click.IntRange(1), help="How many combos; default: all 4,096; more widen the grid.")
@click.option("--symbols", type=click.IntRange(1, 256), default=50, show_default=True, help="Symbols of the book.")
@click.option("--days", type=click.IntRange(_FEWEST_DAYS, 3650), default=365, show_default=True, help="Days traded.")
@click.option("--repeats", type=click.IntRange(1), default=1, show_default=True, help="Runs; the fastest counts.")
@_DEVICE
@_THREADS
@result_options
def portfolio(
    exits: str | None,
    combos: int | None,
    symbols: int,
    days: int,
    repeats: int,
    device: "DeviceName",
    threads: int,
    as_json: bool,
) -> None:
    """Sweep mei_alpha over a book of 50 symbols, a year of hours, 20 places: config/bench/portfolio.yaml."""
    from mei_pipeline.bench import portfolio
    from mei_pipeline.bench.work import run_work
    from mei_pipeline.settings import read_settings

    name = f"portfolio, exits {exits}" if exits else "portfolio"
    with output.bar() as progress:
        work = portfolio.make(exits or "", symbols=symbols, days=days, combos=combos or 0, progress=progress)
        figures, _ = run_work(
            read_settings(), work, name, threads=threads, repeats=repeats, device=device, progress=progress
        )
    _show("Sweep of a book", figures.to_dict(), as_json=as_json)


@bench.command()
@result_options
def executor(as_json: bool) -> None:
    """Time the executor: decisions of 50 symbols, commits, a replay of 10 symbols, start-up, and an idle lane."""
    from live.bench import run_executor
    from mei_pipeline.settings import read_settings

    with output.bar() as progress:
        figures = run_executor(read_settings(), progress)
    _show("Executor", figures.to_dict(), as_json=as_json)


@bench.command()
@click.option("--seconds", type=click.IntRange(10, 86_400), default=600, show_default=True, help="How long to measure.")
@result_options
def feed(seconds: int, as_json: bool) -> None:
    """Time the feed of a venue: 1,000 messages a second on 50 symbols, from the exchange simulator to a lane."""
    from live.feed_bench import run_feed
    from mei_pipeline.settings import read_settings

    with output.bar() as progress:
        figures = run_feed(read_settings(), seconds, progress)
    _show("Feed of a venue", figures.to_dict(), as_json=as_json)


@bench.command()
@click.argument("work", default="w1")
@FROM
@TO
@click.option("--combos", type=click.IntRange(1), help="How many combos; default: all, of a sweep 131,072 at most.")
@click.option("--bars", type=click.IntRange(_FEWEST_DAYS * 24), help="Hours of w1; default: 17,520.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True, help="Runs; the fastest counts.")
@result_options
def kernels(work: str, start: Any, end: Any, combos: int | None, bars: int | None, repeats: int, as_json: bool) -> None:
    """Time each GPU kernel for WORK: w1, portfolio, or a sweep over the lake as `mei sweep run` takes it."""
    from mei_pipeline.bench.kernels import run_kernels
    from mei_pipeline.settings import read_settings

    settings = read_settings()
    with output.bar() as progress:
        figures = run_kernels(
            settings, _work(work, start, end, combos, bars), work, repeats=repeats, progress=progress
        ).to_dict()
    if not as_json:
        figures |= {f"ms in {kernel}": ms for kernel, ms in figures.pop("ms").items()}
    _show("Kernels of a GPU", figures, as_json=as_json)


@bench.command()
@result_options
def live(as_json: bool) -> None:
    """Decide one bar of 50 symbols with 20 positions held, as an executor does, and print the time of each part."""
    from mei_pipeline.bench.live import run_live
    from mei_pipeline.settings import read_settings

    with output.bar() as progress:
        figures = run_live(read_settings(), progress=progress)
    _show("One bar of an executor", figures.to_dict(), as_json=as_json)


@bench.command()
@click.option("--axes", type=click.IntRange(2, 30), default=30, show_default=True, help="Axes of the grid.")
@click.option("--batch", type=click.IntRange(1, 1_000_000), default=4096, show_default=True, help="Combos at once.")
@click.option("--combos", type=click.IntRange(1), default=200_000, show_default=True, help="How many combos.")
@result_options
def tpe(axes: int, batch: int, combos: int, as_json: bool) -> None:
    """Measure how many combos per second method tpe proposes on one thread; no combo is run."""
    from mei_pipeline.bench.search import run_tpe

    with output.bar() as progress:
        figures = run_tpe(axes, batch, combos, progress)
    _show("Proposals", figures.to_dict(), as_json=as_json)


@click.command()
@click.option("--strategy", "strategies", multiple=True, help="Only this strategy; may be given more than once.")
@result_options
def warmup(strategies: tuple[str, ...], as_json: bool) -> None:
    """Compile the kernels of all strategies, so that later processes start faster."""
    start = time.perf_counter()
    from mei_pipeline.bench.warmup import warm_up
    from mei_pipeline.settings import read_settings

    with output.bar("kernels") as progress:
        folder, kernels = warm_up(read_settings(), strategies, progress)
    seconds = time.perf_counter() - start
    if as_json:
        parts = [vars(part) for part in kernels]
        compiled = sum(part.compiled for part in kernels)
        output.print_json({"folder": str(folder), "seconds": seconds, "compiled": compiled, "parts": parts})
        return
    rows = [(part.owner, part.function, "compiled" if part.compiled else "cached", part.seconds) for part in kernels]
    output.table("Kernels", ("owner", "function", "machine code", "seconds"), rows)
    output.note(f"{seconds:.1f} s; machine code: {folder}")


COMMANDS: list[click.Command] = [bench, warmup]


def _work(name: str, start: Any, end: Any, combos: int | None, bars: int | None) -> "BenchWork":
    """Return the work of a bench, or the first combos of a sweep."""
    from mei_pipeline.bench import portfolio, w1
    from mei_pipeline.bench.kernels import first_numbers
    from mei_pipeline.bench.work import BenchWork
    from mei_pipeline.cli.sweep import find_search
    from mei_pipeline.errors import ConfigError
    from mei_pipeline.simulation.window import cut_window
    from mei_pipeline.sweep.plan import make_plan

    if bars and name != "w1":
        raise ConfigError(f"--bars {bars}: belongs to w1; leave it out for {name}")
    if name in {"w1", "portfolio"}:
        if start or end:
            raise ConfigError(f"--from and --to: belong to sweeps; leave them out for {name}")
        if name == "w1":
            return w1.make(bars or w1.BARS, combos or w1.COMBOS)
        return portfolio.make(combos=combos or 0)
    spec, market_bars, from_ms, to_ms = find_search(name, start, end)
    plan = make_plan(spec, market_bars, from_ms, to_ms)
    return BenchWork(market_bars, cut_window(market_bars, from_ms, to_ms), plan, first_numbers(plan, combos or 0))


def _first() -> dict[str, Any]:
    """Start a process that runs one combo, and return its times."""
    command = [
        sys.executable,
        "-m",
        "mei_pipeline.cli.main",
        "bench",
        "w1",
        "--combos",
        "1",
        "--repeats",
        "1",
        "--json",
    ]
    start = time.perf_counter()
    process = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - this very program
    seconds = time.perf_counter() - start
    figures = json.loads(process.stdout)
    return {
        "work": "first result",
        "device": figures["device"],
        "first_result_s": seconds,
        "run_s": figures["seconds"],
    }


def _show(title: str, figures: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.print_json(figures)
    else:
        output.table(title, ("figure", "value"), list(figures.items()))
