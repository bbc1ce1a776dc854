"""The command `mei`: its subcommands, and errors as messages and exit codes.

A command lives in a module beside this one, which exports `COMMANDS: list[click.Command]`; the module is imported when
its command is used, so that `mei --help` is instant.
"""

import contextlib
import io
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import NamedTuple

import click

from mei_pipeline import interrupts, log, streams
from mei_pipeline.cli import output
from mei_pipeline.cli.groups import HelpFormatter
from mei_pipeline.errors import EXIT_CODES, INTERRUPTED, MeiError
from mei_pipeline.failures import Failure, failure_of
from mei_pipeline.text import printable


class CommandEntry(NamedTuple):
    """The module of a command, and its line in `mei --help`."""

    module: str
    summary: str


SECTIONS: dict[str, dict[str, CommandEntry]] = {
    "Start here": {
        "demo": CommandEntry("demo", "Run the whole pipeline offline, on a synthetic market with a planted edge."),
        "doctor": CommandEntry("doctor", "Check this machine, checkout and home; print remedies."),
        "ui": CommandEntry("ui", "Start the web page: lineage, runs, checks, schedules."),
    },
    "Candles": {
        "ingest": CommandEntry("ingest", "Load candles and funding from files or sources into the lake."),
        "coverage": CommandEntry("lake", "Show stored and missing bars by symbol and month."),
        "lake": CommandEntry("lake", "Inspect the lake: show, verify, revisions, undo, spikes, confirm."),
        "backup": CommandEntry("lake", "Write everything that can't be recomputed to one archive."),
        "restore": CommandEntry("lake", "Restore a backup into the home."),
    },
    "Find": {
        "nightly": CommandEntry("nightly", "Ingest new data, then search, judge and promote."),
        "report": CommandEntry("report", "Print the report of a nightly run."),
        "backtest": CommandEntry("research", "Replay one config over the lake: trades, decisions, report."),
        "why": CommandEntry("why", "Explain the decision of a config on one symbol at one bar."),
        "sweep": CommandEntry("sweep", "Run sweeps over the lake; list, inspect, resume and compare them."),
    },
    "Configure": {
        "config": CommandEntry("config", "Check the configuration files; explain the origin of a value."),
    },
    "Decide": {
        "registry": CommandEntry("registry", "Inspect configs and verdicts; promote, pause, roll back, retire."),
        "replay": CommandEntry("replay", "Repeat days of a lane, and name the cause of each difference."),
        "lane": CommandEntry("lane", "Show and operate lanes: status, trades, why; pause, halt, resume, flatten."),
    },
    "Measure": {
        "experiment": CommandEntry("experiment", "Measure how often the selection promotes noise, and finds an edge."),
        "bench": CommandEntry("bench", "Measure the speed of this machine on synthetic markets."),
        "warmup": CommandEntry("bench", "Compile all kernels ahead of time."),
        "kernels": CommandEntry("kernels", "Compile GPU kernels ahead of time."),
    },
}
_ENTRIES = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class _Commands(click.Group):
    """A group that lists its commands without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(_ENTRIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in _ENTRIES:
            return None
        commands: list[click.Command] = import_module(f"mei_pipeline.cli.{_ENTRIES[cmd_name].module}").COMMANDS
        return next(command for command in commands if command.name == cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        for title, entries in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.summary) for name, entry in entries.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in EXIT_CODES.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in _ENTRIES and not name.startswith("-"):
            raise click.exceptions.NoSuchCommand(name, possibilities=_ENTRIES, ctx=ctx)
        return super().resolve_command(ctx, args)


def _show_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        output.echo(f"mei {version()}")
        ctx.exit()


# Contexts of all commands, however deep, make their formatter from this attribute of the class.
click.Context.formatter_class = HelpFormatter  # pyrefly: ignore[instance-var-assign]  # click says that it is one


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def mei() -> None:
    """Turn candles into deploy-ready configs of perpetual-futures strategies.

    State lives under MEI_HOME (default: var/ of the checkout), configuration under MEI_CONFIG (default: config/).
    Results go to stdout, everything else to stderr. With --json a command prints one JSON object on stdout: its result,
    or the error that ended it.
    """
    from mei_pipeline.settings import read_settings

    log.set_up_with(partial(output.start_logging, read_settings().log_format))


def version() -> str:
    """Return the version of this checkout from the file VERSION."""
    from mei_pipeline.settings import CHECKOUT

    return (CHECKOUT / "VERSION").read_text().strip()


def run(arguments: Sequence[str], group: click.Group = mei) -> int:
    """Run one command of `group` and return its exit code; each error becomes a message on stderr.

    With `--json` among the arguments the error is also one JSON object on stdout, unless the command has printed its
    result there before it failed.
    """
    output.expect_answer()
    try:
        code = group.main(args=list(arguments), prog_name="mei", standalone_mode=False)
        sys.stdout.flush()
    except streams.ReaderGone:
        return 0
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the one place of this process that catches all
        failure = _report(error)
    else:
        return code if isinstance(code, int) else 0
    if "--json" in arguments and not output.answered():
        # A standard output that is closed or full changes nothing: stderr has the message.
        with contextlib.suppress(streams.ReaderGone, MeiError):
            output.print_json({"error": failure._asdict()})
            sys.stdout.flush()
    return failure.exit_code


def _report(error: BaseException) -> Failure:
    """Print an error on stderr and return it for programs."""
    failure = failure_of(error, output.note)
    if isinstance(error, click.ClickException):
        usage = io.StringIO()
        error.show(usage)
        sys.stderr.write(printable(usage.getvalue()))
    elif failure.exit_code == INTERRUPTED:
        output.note(failure.message)
    else:
        output.fail(failure.message)
    return failure


def main() -> None:
    """Entry point of the command `mei`."""
    interrupts.take()
    streams.watch_stdout()
    streams.forgive_stderr()
    code = run(sys.argv[1:])
    interrupts.ignore()
    sys.exit(code)


if __name__ == "__main__":
    main()
