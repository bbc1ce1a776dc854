"""Options that commands share."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from mei_pipeline.cli import output

_Command = TypeVar("_Command", bound=Callable[..., Any])

_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class _Duration(click.ParamType[int, object]):
    """A length of time such as 30m, in milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the milliseconds of a text."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"([1-9]\d{0,5})([smhd])", str(value).strip())
        if found is None:
            self.fail(
                f"{value!r} is no length of time; write a whole number and a unit, such as 30m, 2h or 1d", param, ctx
            )
        return int(found[1]) * _UNITS_MS[found[2]]


DURATION = _Duration()

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
