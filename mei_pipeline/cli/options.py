"""Options that commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from mei_pipeline.cli import output

_Command = TypeVar("_Command", bound=Callable[..., Any])

JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")


def result_options(command: _Command) -> _Command:
    """Add `--json`, which the command takes as `as_json`, and `--wide`, which `output.table` obeys."""
    return JSON(_WIDE(command))


def _set_wide(_context: click.Context, _parameter: click.Parameter, wide: bool) -> None:
    output.set_wide(wide)


_WIDE = click.option(
    "--wide",
    is_flag=True,
    expose_value=False,
    callback=_set_wide,
    help="Print all columns of a table, however wide the terminal is.",
)
