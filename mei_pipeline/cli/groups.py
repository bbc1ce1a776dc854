"""Help of commands: full sentences, folded only at spaces."""

from collections.abc import Iterable

import click

_HYPHEN = "\N{NON-BREAKING HYPHEN}"


class HelpFormatter(click.HelpFormatter):
    """A formatter that folds help only at spaces; click also folds after a hyphen, within the name of an option."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Write a usage line."""
        super().write_usage(_joined(prog), _joined(args), prefix)

    def write_text(self, text: str) -> None:
        """Write a paragraph."""
        super().write_text(_joined(text))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write a list of terms and their meaning."""
        super().write_dl([(_joined(term), _joined(meaning)) for term, meaning in rows], col_max, col_spacing)

    def getvalue(self) -> str:
        """Return all that was written."""
        return super().getvalue().replace(_HYPHEN, "-")


class Group(click.Group):
    """A group that lists the whole first sentence of each command; click cuts it at the width of the terminal."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one entry per command; long ones fold."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        entries = [(name, summary(command)) for name, command in commands if command is not None]
        with formatter.section("Commands"):
            formatter.write_dl(entries)


def _joined(text: str) -> str:
    return text.replace("-", _HYPHEN)


def summary(command: click.Command) -> str:
    """Return the first sentence of a command's help, however long it is."""
    return command.get_short_help_str(limit=len(command.help or "") + 1)
