"""`python -m mei_pipeline.hyperliquid.simulator --port N`: run the exchange simulator until Ctrl-C or SIGTERM."""

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from mei_pipeline import streams
from mei_pipeline.candles.intervals import interval_ms, iso
from mei_pipeline.candles.lake import Lake
from mei_pipeline.errors import ConfigError
from mei_pipeline.failures import failure_of
from mei_pipeline.hyperliquid.simulator.app import run_simulator
from mei_pipeline.hyperliquid.simulator.clock import VirtualClock
from mei_pipeline.hyperliquid.simulator.faults import NO_FAULTS, FaultPlan, read_fault_plan
from mei_pipeline.hyperliquid.simulator.loading import LoadedMarket, load_lake, load_synthetic, warning_lines
from mei_pipeline.hyperliquid.simulator.pushing import UPDATES
from mei_pipeline.hyperliquid.simulator.state import SimulatorOptions
from mei_pipeline.settings import read_settings
from mei_pipeline.text import printable
from mei_pipeline.times import Time

_FASTEST = 1e6


@click.command()
@click.option("--port", type=click.IntRange(0, 65_535), required=True, help="TCP port on 127.0.0.1; 0 for a free one.")
@click.option("--venue", help="Venue of the lake whose candles are served.  [default: the only one]")
@click.option(
    "--lake", "folder", type=click.Path(path_type=Path), help="Folder of the lake.  [default: that of MEI_HOME]"
)
@click.option("--synthetic", type=click.IntRange(min=0), help="Serve a synthetic market with this seed instead.")
@click.option("--symbols", help="Symbols, separated by commas.  [default: all]")
@click.option(
    "--intervals", help="Intervals, such as 15m,1h.  [default: all of the lake; 15m,1h of a synthetic market]"
)
@click.option("--from", "from_ms", type=Time(), help="Start, as ISO time.  [default: 2 days before the last bar]")
@click.option(
    "--speed",
    type=click.FloatRange(0.0, _FASTEST, min_open=True),
    default=1.0,
    show_default=True,
    help="Seconds of the market per second.",
)
@click.option(
    "--updates",
    type=click.FloatRange(0.0, 100.0, min_open=True),
    default=UPDATES,
    show_default=True,
    help="Updates of a stream per second of the machine.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of quotes and faults.")
@click.option("--faults", type=click.Path(path_type=Path), help="YAML file with a fault plan.")
@click.option("--limits", is_flag=True, help="Refuse what exceeds the venue's limits.")
def command(  # noqa: PLR0913 - one argument for each option
    *,
    port: int,
    venue: str | None,
    folder: Path | None,
    synthetic: int | None,
    symbols: str | None,
    intervals: str | None,
    from_ms: int | None,
    speed: float,
    updates: float,
    seed: int,
    faults: Path | None,
    limits: bool,
) -> None:
    """Serve market data as Hyperliquid does, on loopback, from candles of the lake or synthetic ones."""
    if synthetic is not None and (venue is not None or folder is not None):
        raise ConfigError("--synthetic: it needs no lake; leave out --venue and --lake, or --synthetic")
    names, lengths = _names(symbols), _names(intervals)
    for name in lengths or ():
        interval_ms(name)
    if synthetic is None:
        lake = Lake(folder if folder is not None else read_settings().lake)
        loaded = load_lake(lake, venue, names, lengths, from_ms, seed)
    else:
        loaded = load_synthetic(synthetic, names, lengths, from_ms, seed)
    for line in warning_lines(loaded.market):
        _say(f"warning: {line}")
    plan = NO_FAULTS if faults is None else read_fault_plan(faults, loaded.market.coins)
    options = SimulatorOptions(seed=seed, updates=updates, limits=limits, report=_say)
    asyncio.run(_serve(loaded, speed, plan, options, port))


async def _serve(loaded: LoadedMarket, speed: float, plan: FaultPlan, options: SimulatorOptions, port: int) -> None:
    """Serve until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    clock = VirtualClock(loaded.start_ms, speed)
    async with run_simulator(loaded.market, clock, plan, options, port) as url:
        market = loaded.market
        text = (
            f"exchange simulator at {url}: {market.source}, {len(market.coins)} symbols, {','.join(market.intervals)}, "
            f"from {iso(loaded.start_ms)} to {iso(market.end_ms)} at speed {speed:g}"
        )
        click.echo(printable(text))
        sys.stdout.flush()
        await stop.wait()


def _names(text: str | None) -> list[str] | None:
    """Return the names of a list with commas."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _say(text: str) -> None:
    click.echo(printable(text), err=True)


def run(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code; each error becomes a message on stderr."""
    try:
        code = command.main(
            args=list(arguments), prog_name="python -m mei_pipeline.hyperliquid.simulator", standalone_mode=False
        )
    except streams.ReaderGone:
        return 0
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the one place of this process that catches all
        failure = failure_of(error, _say)
        if isinstance(error, click.UsageError):
            error.show()
        else:
            _say(f"error: {failure.message}")
        return failure.exit_code
    return code if isinstance(code, int) else 0


def main() -> None:
    """Entry point of `python -m mei_pipeline.hyperliquid.simulator`."""
    streams.watch_stdout()
    streams.forgive_stderr()
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
