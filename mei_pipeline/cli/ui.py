"""`mei ui`: start and stop Dagster's web server and daemon for this home."""

import contextlib
import errno
import ipaddress
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from mei_pipeline import interrupts
from mei_pipeline.cli import output
from mei_pipeline.errors import ConfigError, DataError, MeiError
from mei_pipeline.settings import CHECKOUT, Settings, read_settings

LOOPBACK = "127.0.0.1"
GROUPS = ("ingest", "research", "selection", "deploy", "lanes")
LINEAGE = "/asset-groups?expanded=" + ",".join(f"global@global:{group}" for group in GROUPS)
_LOOPBACKS = (LOOPBACK, "localhost", "::1")
_WILDCARDS = {"0.0.0.0": LOOPBACK, "::": "::1"}  # noqa: S104 - not listened on, but recognised
_HOST_NAME = re.compile(r"[A-Za-z0-9.-]+|[0-9A-Fa-f:]+")
_FIRST_PORT = 3000
_PORTS_TRIED = 20
_START_WITHIN_S = 120.0
_STOP_WITHIN_S = 15.0
_LOOK_EVERY_S = 0.5
_ANSWER_WITHIN_S = 10.0
_TAIL_LINES = 15
_DAEMON = "{ instance { daemonHealth { allDaemonStatuses { required lastHeartbeatTime } } } }"
_BACKLOG = 2048  # connections that wait until the web server accepts them; what uvicorn has


@dataclass(frozen=True)
class Server:
    """One process that `mei ui` watches.

    Attributes:
        name: Name in messages.
        process: The process; it leads a session of its own, so that a Ctrl-C reaches it through us alone.
        log: File that receives its output.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path


@dataclass(frozen=True)
class Page:
    """Address of the page, and its access rules.

    Attributes:
        host: Address that it listens on.
        port: Its port.
        allowed: Host names that requests may use.
        token: Secret that a request must present; empty for none.
    """

    host: str
    port: int
    allowed: tuple[str, ...]
    token: str


@click.command()
@click.option(
    "--port", type=click.IntRange(1, 65535), help=f"Port of the page. Default: first free from {_FIRST_PORT}."
)
@click.option("--host", help=f"Address to listen on. Default: {LOOPBACK}. Another one needs --why, and has a token.")
@click.option(
    "--allow-host",
    "names",
    multiple=True,
    metavar="NAME",
    help="Another host name of the page, such as that of a proxy. Needs --why; requests then need a token.",
)
@click.option("--why", default="", help="Reason for access from other machines; kept in logs/ui.jsonl.")
@click.option("--json", "as_json", is_flag=True, help="Print the address as one JSON object.")
def ui(port: int | None, host: str | None, names: tuple[str, ...], why: str, as_json: bool) -> None:
    """Start the web page of this home: assets, lineage, runs, schedules.

    Ctrl-C stops the page and every run that was launched from it.
    """
    from mei_pipeline import dagster_home
    from mei_pipeline.config.load import load_config
    from mei_pipeline.files import locked

    settings = read_settings()
    address = host or LOOPBACK
    exposed = bool(names) or not is_loopback(address)
    allowed = allowed_hosts(address, names)
    if exposed and not why.strip():
        option = f"--allow-host {names[0]}" if names else f"--host {address}"
        raise ConfigError(f"{option}: other machines could launch runs and read everything; add --why TEXT")
    ticks_days = load_config(settings.config).pipeline.retention.ticks_days
    if not dagster_home.make(settings.dagster, ticks_days=ticks_days):
        output.note(f"{settings.dagster / 'dagster.yaml'} was edited by hand and is used as it is")
    dagster_home.enter(settings.dagster, settings.dagster_home)
    with locked(settings.dagster / "ui.lock", "mei ui"):
        listener = listen(address, port) if port else listen_first_free(address)
        token = settings.ui_token or (secrets.token_urlsafe(32) if exposed else "")
        page = Page(address, listener.getsockname()[1], allowed, token)
        if exposed:
            _keep_reason(settings, {"host": address, "port": page.port, "names": list(names), "why": why})
            output.warn("anyone who reaches the page and has its token can launch runs and read everything")
        _serve(settings, page, listener, as_json=as_json)


def allowed_hosts(address: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the host names that requests may use: loopback, `address` and `names`.

    Raises:
        ConfigError: One of `names` is not a bare host name or address.
    """
    for name in names:
        if not _HOST_NAME.fullmatch(name):
            raise ConfigError(f"--allow-host {name!r}: write a name or address only, such as mei.example.org")
    own = socket.gethostname() if address in _WILDCARDS else address
    return tuple(sorted({*_LOOPBACKS, own.lower(), *(name.lower() for name in names)}))


def listen_first_free(host: str) -> socket.socket:
    """Listen on the first free port from 3000 on.

    Raises:
        ConfigError: Twenty ports in a row are taken, or `host` is not an address of this machine.
    """
    for port in range(_FIRST_PORT, _FIRST_PORT + _PORTS_TRIED):
        try:
            return _open(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise _refusal(host, port, error) from error
    raise ConfigError(
        f"ports {_FIRST_PORT} to {_FIRST_PORT + _PORTS_TRIED - 1} on {host} are taken; choose one by --port"
    )


def listen(host: str, port: int) -> socket.socket:
    """Listen on `host` and `port`, which reserves the port.

    The web server inherits this socket. If it bound the port itself when it is up, another process could have taken
    the port by then, and the printed link would lead to the page of another home.

    Raises:
        ConfigError: The port is taken or needs rights, or `host` is no address of this machine.
    """
    try:
        return _open(host, port)
    except OSError as error:
        raise _refusal(host, port, error) from error


def _open(host: str, port: int) -> socket.socket:
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    return socket.create_server(address[:2], family=family, backlog=_BACKLOG)


def _refusal(host: str, port: int, error: OSError) -> ConfigError:
    """Return the error of a command that can't listen on `host` and `port`."""
    if error.errno == errno.EADDRINUSE:
        return ConfigError(f"port {port} on {host} is taken; stop what listens there, or choose another by --port")
    if error.errno == errno.EACCES:
        return ConfigError(f"port {port} needs the rights of root; choose one of 1024 to 65535 by --port")
    # The numbers of `gaierror` are not those of the system.
    reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or errno.EADDRNOTAVAIL)
    return ConfigError(f"{host} is no address of this machine ({reason}); use {LOOPBACK}")


def _serve(settings: Settings, page: Page, listener: socket.socket, *, as_json: bool) -> None:
    # The web server reads the token from its environment: the command line of a process is public.
    os.environ["MEI_UI_TOKEN"] = page.token
    interrupts.take_one()
    servers: list[Server] = []
    try:
        allowed = [part for name in page.allowed for part in ("--allow", name)]
        with listener:  # from here on the web server alone holds it: its end is the end of the port
            options = ["webserver", "--listener", str(listener.fileno()), *allowed]
            servers.append(_start(settings, "dagster-webserver", options, listener.fileno()))
        output.note("starting Dagster ...")
        _wait_until_up(page, servers)
        # The web server first closes the runs that an earlier session left; a daemon beside it would launch new ones.
        started_s = time.time()
        servers.append(_start(settings, "dagster-daemon", ["daemon"]))
        _wait_for_daemon(page, servers, started_s)
        secret = f"&token={page.token}" if page.token else ""
        lineage = f"{_url(_shown(page.host), page.port)}{LINEAGE}{secret}"
        if as_json:
            output.print_json({"lineage": lineage})
        else:
            output.echo(f"lineage: {lineage}")
        output.note("Ctrl-C stops it")
        while True:
            _raise_if_dead(servers)
            time.sleep(_LOOK_EVERY_S)
    except KeyboardInterrupt:
        output.note("stopping ...")
    finally:
        _stop(servers)
        _close_runs(settings)


def _close_runs(settings: Settings) -> None:
    """Mark the runs that ended with the servers as failed; left as they are, they would block later nightly runs."""
    if not any((settings.dagster / "running").glob("*")):
        return  # no run began: spare the import of Dagster
    from dagster import DagsterInstance

    from assets.run_context import now_ms
    from assets.run_processes import close_dead_runs

    with DagsterInstance.get() as instance:
        closed = close_dead_runs(settings, instance, now_ms(), launcher_gone=True, retry=False)
    for run_id in closed:
        output.warn(f"run {run_id} was stopped and counts as failed; {settings.logs / 'alerts' / run_id}.json")


def _start(settings: Settings, name: str, options: Sequence[str], *handed_over: int) -> Server:
    log = settings.logs / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mei_pipeline.cli.servers", *options]
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603 - the command is made above, from this environment's own module
            command,
            stdin=subprocess.PIPE,  # closed when this process ends, however it ends: the sign to end as well
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=CHECKOUT,
            start_new_session=True,
            pass_fds=handed_over,
        )
    return Server(name, process, log)


def _stop(servers: Sequence[Server]) -> None:
    """Ask every server to end, then kill the rest of its session, such as code servers."""
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
        if server.process.stdin is not None:
            server.process.stdin.close()


def _wait_until_up(page: Page, servers: Sequence[Server]) -> None:
    if not _wait_until(servers, lambda: _request(page, "/server_info") is not None):
        raise MeiError(f"{servers[0].name} did not answer within {_START_WITHIN_S:.0f} s; see {servers[0].log}")


def _wait_for_daemon(page: Page, servers: Sequence[Server], started_s: float) -> None:
    """Wait until every part of the daemon has reported since `started_s`; until then the page warns that it is down."""

    def reported() -> bool:
        answer = _request(page, "/graphql", {"query": _DAEMON})
        if answer is None:
            return False
        parts = json.loads(answer)["data"]["instance"]["daemonHealth"]["allDaemonStatuses"]
        beats = [part["lastHeartbeatTime"] for part in parts if part["required"]]
        return all(beat is not None and beat >= started_s for beat in beats)

    if not _wait_until(servers, reported):
        output.warn(f"{servers[-1].name} is not up after {_START_WITHIN_S:.0f} s; see {servers[-1].log}")


def _wait_until(servers: Sequence[Server], condition: Callable[[], bool]) -> bool:
    """Return True once a condition holds; False after the time-out, or if a server ends."""
    deadline_s = time.monotonic() + _START_WITHIN_S
    while time.monotonic() < deadline_s:
        _raise_if_dead(servers)
        if condition():
            return True
        time.sleep(_LOOK_EVERY_S)
    return False


def _request(page: Page, path: str, question: Mapping[str, str] | None = None) -> bytes | None:
    """Return the answer of the page, by POST if a query is given; None if it does not answer yet."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    origin = _url(_WILDCARDS.get(page.host, page.host), page.port)
    headers = {"Authorization": f"Bearer {page.token}", "Content-Type": "application/json", "Origin": origin}
    body = None if question is None else json.dumps(question).encode()
    request = urllib.request.Request(f"{origin}{path}", body, headers)  # noqa: S310 - the address is our own
    with (
        contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError),
        opener.open(request, timeout=_ANSWER_WITHIN_S) as answer,
    ):
        return bytes(answer.read())
    return None


def _raise_if_dead(servers: Sequence[Server]) -> None:
    for server in servers:
        if (code := server.process.poll()) is not None:
            last = click.unstyle(server.log.read_text(errors="replace")).splitlines()[-_TAIL_LINES:]
            raise MeiError("\n  ".join([f"{server.name} ended with {code}; its last lines, from {server.log}:", *last]))


def is_loopback(host: str) -> bool:
    """Return True if only this machine reaches `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _shown(host: str) -> str:
    return socket.gethostname() if host in _WILDCARDS else host


def _url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _keep_reason(settings: Settings, facts: Mapping[str, object]) -> None:
    """Append the person and the reason for access from other machines to `logs/ui.jsonl`."""
    from mei_pipeline.cli.moves import login_name

    path = settings.logs / "ui.jsonl"
    line = json.dumps({"at": datetime.now(UTC).isoformat(), "who": login_name(), **facts}, sort_keys=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
    except OSError as error:
        raise DataError(f"{path}: the reason can't be kept: {error.strerror}") from error


COMMANDS = [ui]
