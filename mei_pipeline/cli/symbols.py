"""Options that take symbols."""

from typing import Any

import click


def check_option(_context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Return the value of an option that takes one symbol or several.

    Raises:
        ConfigError: A symbol's name is not allowed; the message shows it with control characters escaped.
    """
    from mei_pipeline.errors import ConfigError
    from mei_pipeline.names import RULE, symbol_problem

    for name in (value,) if isinstance(value, str) else value or ():
        if problem := symbol_problem(name):
            raise ConfigError(f"{parameter.opts[0]} {name!a}: {problem}; a symbol has {RULE}")
    return value
