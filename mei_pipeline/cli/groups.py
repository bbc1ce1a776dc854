"""A group of commands whose help is not cut off."""

import click


class Group(click.Group):
    """A group that lists the whole first sentence of each command; click cuts it at the width of the terminal."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one entry per command; long ones fold."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        entries = [(name, summary(command)) for name, command in commands if command is not None]
        with formatter.section("Commands"):
            formatter.write_dl(entries)


def summary(command: click.Command) -> str:
    """Return the first sentence of a command's help, however long it is."""
    return command.get_short_help_str(limit=len(command.help or "") + 1)
