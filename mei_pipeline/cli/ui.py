"""`mei ui`: Dagster's webserver and daemon for this home, started and stopped together."""

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from mei_pipeline.cli import interrupts, output
from mei_pipeline.errors import ConfigError, MeiError
from mei_pipeline.settings import CHECKOUT, Settings, read_settings

LOOPBACK = "127.0.0.1"
GROUPS = ("ingest", "research", "selection", "deploy", "lanes")
LINEAGE = "/asset-groups?expanded=" + ",".join(f"global@global:{group}" for group in GROUPS)
_FIRST_PORT = 3000
_PORTS_TRIED = 20
_START_WITHIN_S = 120.0
_STOP_WITHIN_S = 15.0
_LOOK_EVERY_S = 0.5
_TAIL_LINES = 15


@dataclass(frozen=True)
class Server:
    """One process that `mei ui` watches.

    Attributes:
        name: What it is called in messages.
        process: The process; it leads a session of its own, so that a Ctrl-C reaches it through us alone.
        log: The file that takes what it says.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path


@click.command()
@click.option(
    "--port", type=click.IntRange(1, 65535), help=f"Port of the page. Default: first free from {_FIRST_PORT}."
)
@click.option("--host", help=f"Address to listen on. Default: {LOOPBACK}; the page has no authentication.")
def ui(port: int | None, host: str | None) -> None:
    """Start the web page of this home: assets, lineage, runs, schedules.

    Ctrl-C stops it, and with it every run that was launched from it.
    """
    from mei_pipeline import dagster_home
    from mei_pipeline.config.load import load_config
    from mei_pipeline.files import locked

    settings = read_settings()
    ticks_days = load_config(settings.config).pipeline.retention.ticks_days
    if not dagster_home.make(settings.dagster, ticks_days=ticks_days):
        output.note(f"{settings.dagster / 'dagster.yaml'} was edited by hand and is used as it is")
    dagster_home.enter(settings.dagster, settings.dagster_home)
    address = host or LOOPBACK
    if not _is_loopback(address):
        output.warn(f"the page has no authentication: whoever reaches {address} can launch runs and read everything")
    with locked(settings.dagster / "ui.lock", "mei ui"):
        chosen = port or first_free_port(address)
        check_port(address, chosen)
        _serve(settings, address, chosen)


def first_free_port(host: str) -> int:
    """The first port from 3000 on that nobody listens on.

    Raises:
        ConfigError: Twenty in a row are taken, or `host` is no address of this machine.
    """
    for port in range(_FIRST_PORT, _FIRST_PORT + _PORTS_TRIED):
        if _bind_error(host, port) != errno.EADDRINUSE:
            return port
    raise ConfigError(
        f"ports {_FIRST_PORT} to {_FIRST_PORT + _PORTS_TRIED - 1} on {host} are taken; choose one by --port"
    )


def check_port(host: str, port: int) -> None:
    """Make sure that a server can listen on `host` and `port`.

    Raises:
        ConfigError: The port is taken or needs rights, or `host` is no address of this machine.
    """
    code = _bind_error(host, port)
    if code == errno.EADDRINUSE:
        raise ConfigError(f"port {port} on {host} is taken; stop what listens there, or choose another by --port")
    if code == errno.EACCES:
        raise ConfigError(f"port {port} needs the rights of root; choose one of 1024 to 65535 by --port")
    if code:
        raise ConfigError(f"{host} is no address of this machine ({os.strerror(code)}); use {LOOPBACK}")


def _serve(settings: Settings, host: str, port: int) -> None:
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    workspace = str(CHECKOUT / "workspace.yaml")
    interrupts.take_one()
    servers: list[Server] = []
    try:
        servers.append(_start(settings, "dagster-webserver", ["-w", workspace, "-h", host, "-p", str(port)]))
        output.note("starting Dagster ...")
        _wait_until_up(f"{url}/server_info", servers)
        click.echo(f"lineage: {url}{LINEAGE}")
        # The daemon loads the same definitions: one after the other, the page is there in half the time.
        servers.append(_start(settings, "dagster-daemon", ["run", "-w", workspace]))
        output.note("Ctrl-C stops it")
        while True:
            _raise_if_dead(servers)
            time.sleep(_LOOK_EVERY_S)
    except KeyboardInterrupt:
        output.note("stopping ...")
    finally:
        _stop(servers)


def _start(settings: Settings, name: str, options: Sequence[str]) -> Server:
    log = settings.logs / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [str(Path(sys.executable).with_name(name)), *options]
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603 - the command is made above, from this environment's own scripts
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=CHECKOUT,
            start_new_session=True,
        )
    return Server(name, process, log)


def _stop(servers: Sequence[Server]) -> None:
    """Ask every server to end, and end what is left of its session: itself, or code servers that outlived it."""
    interrupts.ignore()
    for server in servers:
        server.process.send_signal(signal.SIGINT)
    deadline_s = time.monotonic() + _STOP_WITHIN_S
    for server in servers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(max(0.0, deadline_s - time.monotonic()))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait()


def _wait_until_up(url: str, servers: Sequence[Server]) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline_s = time.monotonic() + _START_WITHIN_S
    while time.monotonic() < deadline_s:
        _raise_if_dead(servers)
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError), opener.open(url, timeout=2):
            return
        time.sleep(_LOOK_EVERY_S)
    raise MeiError(f"{servers[0].name} did not answer within {_START_WITHIN_S:.0f} s; see {servers[0].log}")


def _raise_if_dead(servers: Sequence[Server]) -> None:
    for server in servers:
        if (code := server.process.poll()) is not None:
            last = click.unstyle(server.log.read_text(errors="replace")).splitlines()[-_TAIL_LINES:]
            raise MeiError("\n  ".join([f"{server.name} ended with {code}; its last lines, from {server.log}:", *last]))


def _is_loopback(host: str) -> bool:
    return host in {LOOPBACK, "localhost", "::1"} or host.startswith("127.")


def _bind_error(host: str, port: int) -> int:
    """Errno of trying to listen there; 0 when it can be done."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror:
        return errno.EADDRNOTAVAIL
    except OSError as error:
        return error.errno or errno.EADDRNOTAVAIL
    return 0


COMMANDS = [ui]
