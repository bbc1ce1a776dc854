"""The two processes of `mei ui`: Dagster's web app behind the guard, and Dagster's daemon.

`python -m mei_pipeline.cli.servers webserver|daemon ...`. Each ends when its standard input closes, so
that it ends with a `mei ui` that was killed.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncGenerator

import click

from mei_pipeline.cli.guard import Access, guarded
from mei_pipeline.settings import CHECKOUT, read_settings

WORKSPACE = CHECKOUT / "workspace.yaml"
_POLL_MS = 2000  # how often the page asks for news; what dagster-webserver has
_STATEMENT_MS, _RECYCLE_S, _POOL = 15_000, 3_600, 20  # as in dagster-webserver
_END_WITHIN_S = 10.0

_parent_gone = threading.Event()


@click.group()
def servers() -> None:
    """Start one of the processes of `mei ui`."""


@servers.command()
@click.option("--listener", type=int, required=True)
@click.option("--allow", "allowed", multiple=True)
def webserver(listener: int, allowed: tuple[str, ...]) -> None:
    """Serve Dagster's web app behind `guarded`, on the inherited socket with file descriptor `listener`."""
    import uvicorn
    from dagster import DagsterInstance
    from dagster._core.workspace.context import WorkspaceProcessContext  # what dagster-webserver makes of its options
    from dagster._core.workspace.load_target import WorkspaceFileTarget
    from dagster_webserver.app import create_app_from_workspace_process_context
    from dagster_webserver.version import __version__

    from assets.run_context import now_ms
    from assets.run_processes import close_dead_runs

    settings = read_settings()
    access = Access(frozenset(allowed), settings.ui_token)
    with DagsterInstance.get() as instance:
        close_dead_runs(settings, instance, now_ms(), launcher_gone=True)
        instance.optimize_for_webserver(_STATEMENT_MS, _RECYCLE_S, _POOL)
        with WorkspaceProcessContext(instance, WorkspaceFileTarget([str(WORKSPACE)]), __version__) as context:
            app = create_app_from_workspace_process_context(
                context, live_data_poll_rate=_POLL_MS, lifespan=_quiet_lifespan
            )
            server = uvicorn.Server(uvicorn.Config(guarded(app, access), log_level="warning"))
            with socket.socket(fileno=listener) as inherited:
                server.run(sockets=[inherited])


@servers.command()
def daemon() -> None:
    """Run schedules, sensors and the queue of runs."""
    from dagster._daemon.cli import run_command

    run_command.main(["-w", str(WORKSPACE)], standalone_mode=False)


@contextlib.asynccontextmanager
async def _quiet_lifespan(_app: object) -> AsyncGenerator[None]:
    with contextlib.suppress(asyncio.CancelledError):  # a Ctrl-C while it serves: uvicorn issue 1160
        yield


def _watch_parent() -> None:
    """Wait until `mei ui` closes its end of the pipe, then stop this process as a Ctrl-C does."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    _parent_gone.set()
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(_END_WITHIN_S)
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Run one of the processes; when `mei ui` has ended, end its child processes, too: runs and code servers."""
    threading.Thread(target=_watch_parent, daemon=True).start()
    try:
        servers()
    finally:
        if _parent_gone.is_set():
            os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
