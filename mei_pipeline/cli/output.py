"""Output of commands: results on stdout, messages and progress on stderr.

Control characters in foreign text are shown as escapes, so that a name or a reason can't control the terminal.
Colours and bars appear only in a terminal and respect `NO_COLOR`; `rich` is imported when something is drawn.
"""

import json
import shutil
import sys
from collections.abc import Generator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from mei_pipeline.errors import Fatal
from mei_pipeline.progress import Lines, Progress
from mei_pipeline.text import printable

if TYPE_CHECKING:
    from rich.console import Console

_PIPED_WIDTH = 160  # characters of a line where stderr is no terminal
_REPORT_EVERY_S = 10.0  # seconds between progress lines where no bar can be drawn
_WHOLE_FROM = 1000.0  # a figure this large is shown with two decimals, a smaller one with four digits
_ANSWERED = ContextVar("answered", default=False)
_WIDE = ContextVar("wide", default=False)


def expect_answer() -> None:
    """Start a command whose JSON object is not printed yet."""
    _ANSWERED.set(False)


def answered() -> bool:
    """Return whether the command has printed its JSON object."""
    return _ANSWERED.get()


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on one line of stdout, keys sorted, at once: another program may wait for the line.

    Raises:
        Fatal: `value` holds NaN or an infinity, which JSON has no word for.
    """
    try:
        text = json.dumps(value, sort_keys=True, allow_nan=False)
    except ValueError as error:
        raise Fatal(f"result can't be printed as JSON: {error}; a figure is NaN or infinite") from error
    _ANSWERED.set(True)
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def echo(text: str = "", *, end: str = "\n") -> None:
    """Print text on stdout, at once: another program may wait for the line."""
    sys.stdout.write(f"{printable(text)}{end}")
    sys.stdout.flush()


def note(text: str) -> None:
    """Print a message on stderr."""
    _console(stderr=True).print(printable(text), markup=False, highlight=False, soft_wrap=True)


def warn(text: str) -> None:
    """Print a warning on stderr; the command continues."""
    _print_labelled("warning", "yellow", text)


def fail(text: str) -> None:
    """Print the error that ends the command on stderr."""
    _print_labelled("error", "red", text)


def set_wide(wide: bool) -> None:
    """Choose whether tables have all their columns, however wide the terminal is."""
    _WIDE.set(wide)


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, important: Sequence[str] = ()
) -> None:
    """Print a table on stdout. Figures are right-aligned.

    A terminal that is too narrow gets the most important columns, and a line that names the others. Sentences are
    folded between words. After `set_wide(True)`, and where stdout is no terminal, every column has the width it needs.

    Args:
        title: What the table shows; empty for none.
        columns: One heading per column.
        rows: One cell per column; None is shown as a dash.
        important: Headings, the most important first. Other columns come after them, in the order of the table.

    Raises:
        ValueError: `important` names a heading that is not in `columns`.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from mei_pipeline.cli.layout import GAP, fit, fold

    order = [columns.index(heading) for heading in important]
    order += [index for index in range(len(columns)) if index not in order]
    headings = list(map(printable, columns))
    cells = [[printable(cell_text(value)) for value in row] for row in rows]
    room = None if _WIDE.get() else shutil.get_terminal_size(fallback=(0, 0)).columns or None
    layout = fit(headings, cells, order, room)
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, width in zip(*layout, strict=True):
        figures = bool(rows) and all(_is_figure(row[index]) for row in rows)
        heading = Text(fold(headings[index], width))
        grid.add_column(heading, justify="right" if figures else "left", width=width, no_wrap=True)
    for row in cells:
        grid.add_row(*(Text(fold(row[index], width)) for index, width in zip(*layout, strict=True)))
    console = _console(stderr=False, width=sum(layout.widths) + GAP * len(layout.columns))
    if title:
        title = printable(title)
        console.print(Text(fold(title, room) if room else title, style="table.title"), soft_wrap=True)
    console.print(grid)
    if hidden := [columns[index] for index in order if index not in layout.columns]:
        echo(_hidden_columns(hidden, room or 0))


def _hidden_columns(names: Sequence[str], room: int) -> str:
    """Return a line that names as many of the hidden columns as `room` cells hold."""
    for count in range(len(names), 0, -1):
        more = [f"{len(names) - count} more"] if count < len(names) else []
        line = f"not shown: {' | '.join([*names[:count], *more])} (--wide or --json shows all)"
        if len(line) <= room:
            return line
    return f"columns not shown: {len(names)} (--wide)"


@contextmanager
def bar(title: str = "", total: int | None = None) -> Generator[Progress]:
    """Return a `Progress` that draws bars on stderr, one per kind of work.

    If stderr is not a terminal, it writes a line at the start and the end, and every ten seconds between.

    Args:
        title: Shown before the first report comes; empty for none.
        total: Units of work expected before the first report, if known.
    """
    if _console(stderr=True).is_terminal:
        with _drawn(title, total) as progress:
            yield progress
    else:
        yield Lines(note, _REPORT_EVERY_S, first=True)


def start_logging(form: str) -> None:
    """Send structlog events to stderr: `console` for people, `json` one object per line for services."""
    import structlog

    def logger(*_: object) -> structlog.PrintLogger:
        return structlog.PrintLogger(sys.stderr)

    renderer = (
        structlog.processors.JSONRenderer(sort_keys=True)
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=_console(stderr=True).color_system is not None)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([] if form == "json" else [_escape_event]),
            structlog.processors.dict_tracebacks if form == "json" else structlog.processors.ExceptionPrettyPrinter(),
            renderer,
        ],
        logger_factory=logger,
    )


def _console(*, stderr: bool, width: int | None = None) -> "Console":
    from rich.console import Console

    return Console(stderr=stderr, width=width or shutil.get_terminal_size(fallback=(_PIPED_WIDTH, 24)).columns)


def _escape_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    return {name: printable(value) if isinstance(value, str) else value for name, value in event.items()}


def _print_labelled(label: str, colour: str, text: str) -> None:
    from rich.text import Text

    _console(stderr=True).print(Text(f"{label}: ", style=f"bold {colour}") + Text(printable(text)), soft_wrap=True)


@contextmanager
def _drawn(title: str, total: int | None) -> Generator[Progress]:
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        progress.TextColumn("{task.fields[speed]}", markup=False),
    )
    with progress.Progress(*columns, console=_console(stderr=True)) as bars:
        tasks = {title: bars.add_task(printable(title), total=total, speed="")} if title else {}

        def report(done: int, total: int, what: str, speed: str = "") -> None:
            if what not in tasks:
                # The first kind of work takes the place of the title.
                tasks[what] = tasks.pop(title) if title in tasks else bars.add_task(printable(what), speed="")
            bars.update(tasks[what], description=printable(what), completed=done, total=total, speed=printable(speed))

        yield report


def _is_figure(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def cell_text(value: object) -> str:
    """Return a value as a table shows it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) >= _WHOLE_FROM else f"{value:.4g}"
    return str(value)
