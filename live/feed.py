"""The feed of a venue for all lanes of a machine: `python -m live.feed --network mainnet|testnet|simulator`."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

import click

from live.feed_server import listen
from live.lane_feed import socket_path
from live.venue_feed.service import START_PATIENCE_S, start_service
from mei_pipeline import streams
from mei_pipeline.errors import ConfigError, MeiError
from mei_pipeline.files import explain, locked, refused
from mei_pipeline.hyperliquid.budget import PER_MINUTE, RateBudget, budget_path
from mei_pipeline.hyperliquid.client import InfoClient
from mei_pipeline.hyperliquid.network import Endpoints, endpoints_of
from mei_pipeline.settings import Settings, read_settings
from mei_pipeline.text import printable

VENUE = "hyperliquid"
"""Name of the venue, unless an option says otherwise."""

_SIMULATOR_WEIGHT = 100 * PER_MINUTE  # a simulator may run at many times the real speed


def report(text: str) -> None:
    """Print a line for people."""
    click.echo(printable(f"feed: {text}"), err=True)


async def serve(
    settings: Settings, endpoints: Endpoints, venue: str, listener: socket.socket, patience_s: float
) -> None:
    """Serve a venue until SIGINT or SIGTERM.

    Raises:
        MeiError: The venue can't be served.
    """
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        if task is not None:
            loop.add_signal_handler(number, task.cancel)
    simulated = endpoints.network == "simulator"
    # Beside the compiled kernels: the venue counts by address, whatever home a process has.
    path = budget_path(settings.cache, endpoints.network)
    budget = RateBudget(path, per_minute=_SIMULATOR_WEIGHT if simulated else PER_MINUTE)
    with contextlib.suppress(asyncio.CancelledError):
        async with InfoClient(endpoints, budget) as client:
            service = await start_service(endpoints, venue, client, listener, report=report, patience_s=patience_s)
            report(f"{venue} on {endpoints.network}: {len(service.core.terms)} symbols; consumers can connect")
            await service.run()


def _make_own(folder: Path) -> None:
    """Make the folder of a socket; that of another user is refused, because lanes trust what the socket says.

    Raises:
        ConfigError: Another user owns the folder.
        DataError, Retryable: It can't be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise refused(error, f"{folder}: can't be made: {explain(error)}") from error
    if folder.stat().st_uid != os.getuid():
        raise ConfigError(f"{folder}: another user owns it; remove it, or set --socket")


@click.command()
@click.option("--network", required=True, help="Network: mainnet, testnet or simulator.")
@click.option("--simulator-url", help="URL of the exchange simulator.  [default: http://127.0.0.1:3001]")
@click.option("--venue", default=VENUE, show_default=True, help="Venue of the lanes to serve.")
@click.option(
    "--socket", "path", type=click.Path(path_type=Path), help="Unix socket.  [default: in feeds/ of MEI_HOME]"
)
@click.option(
    "--patience", "patience_s", type=float, default=START_PATIENCE_S, show_default=True,
    help="Seconds to wait for the venue at the start.",
)  # fmt: skip
def main(network: str, simulator_url: str | None, venue: str, path: Path | None, patience_s: float) -> None:
    """Serve the market data of a venue to the lanes of this machine, until Ctrl-C."""
    try:
        endpoints = endpoints_of(network) if simulator_url is None else endpoints_of(network, simulator_url)
        if simulator_url is not None and network != "simulator":
            raise ConfigError(f"--simulator-url: the network {network} has its own address; leave the option out")
        settings = read_settings()
        _make_own(settings.feeds)
        if path is None:
            path = socket_path(settings, venue, network)
            _make_own(path.parent)
        lock = settings.feeds / f"{venue}.{network}.lock"
        with locked(lock, f"feed of {venue} on {network}"), listen(path) as listener:
            try:
                asyncio.run(serve(settings, endpoints, venue, listener, patience_s))
            finally:
                path.unlink(missing_ok=True)
    except MeiError as error:
        click.echo(printable(f"error: {error}"), err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    streams.forgive_stderr()
    main()
