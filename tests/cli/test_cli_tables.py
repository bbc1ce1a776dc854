"""Tables and help in narrow and wide terminals: nothing is wider than the terminal, and no word is broken."""

import ast
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_kit import check_table_text, words_of

from mei_pipeline.cli import main, output
from mei_pipeline.cli.layout import GAP, fit, fold
from mei_pipeline.text import column_headings, short_paths

CLI = Path(output.__file__).parent
WIDTHS = (80, 160)
VALUES = (
    "max_search_loss_probability",
    "62d3bfa8d73a",
    2_886_066.37,
    "2026-11-30 16:09:01Z",
    "best Sharpe ratio of 3 configs that no other lane takes: 3.854 out of sample",
    "/home/trader/mei/var/cache/kernels/23285ad8b241eac5/walk_mei_alpha.nbi",
    None,
)
"""Cells as long as those of a real home."""


def tables() -> Iterator[tuple[str, Sequence[str], Sequence[str]]]:
    """Yield place, headings and important headings of every `output.table` whose headings the source states."""
    for path in sorted(CLI.glob("*.py")):
        known = vars(import_module(f"mei_pipeline.cli.{path.stem}"))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "output.table":
                given = {word.arg: word.value for word in node.keywords}
                parts = [node.args[1], given.get("important", ast.Tuple([], ast.Load()))]
                try:
                    headings, important = (eval(ast.unparse(part), dict(known)) for part in parts)  # noqa: S307 - our own source
                except NameError:
                    continue
                yield f"{path.stem}:{node.lineno}", headings, important


TABLES = list(tables())


def test_the_source_states_the_headings_of_most_tables():
    assert len(TABLES) >= 35


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize(("headings", "important"), [each[1:] for each in TABLES], ids=[each[0] for each in TABLES])
def test_every_table_fits_with_long_values(capsys, monkeypatch, headings, important, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    rows = [[VALUES[(row + column) % len(VALUES)] for column in range(len(headings))] for row in range(len(VALUES))]
    output.table("Lanes", headings, rows, important=important)
    shown = capsys.readouterr().out
    known = words_of("Lanes", *headings, *map(output.cell_text, VALUES))
    check_table_text(shown, columns, known)
    output.set_wide(True)
    try:
        output.table("Lanes", headings, rows, important=important)
    finally:
        output.set_wide(False)
    whole = capsys.readouterr().out
    assert "not shown" not in whole
    assert len(whole.splitlines()) == len(rows) + 5
    for value in (*headings, *map(output.cell_text, VALUES)):
        assert value in whole


def test_only_one_module_draws_tables():
    drawing = [path.stem for path in CLI.glob("*.py") if "rich.table" in path.read_text()]
    assert drawing == ["output"]


def test_the_least_important_columns_are_left_out_and_named(capsys, monkeypatch):
    headings, row = ("lane", "generation", "config", "state", "why"), ("paper1", 3, "62d3bfa8d73a" * 3, "paper", "")
    for columns, shown, hidden in (
        (60, ["lane", "config", "state"], "generation | why"),
        (66, ["lane", "config", "state", "why"], "generation"),
        (48, ["lane", "config"], ""),
    ):
        monkeypatch.setenv("COLUMNS", str(columns))
        output.table("", headings, [row], important=("config", "lane", "state"))
        lines = capsys.readouterr().out.splitlines()
        assert lines[1].split() == shown
        assert lines[3].split() == [row[headings.index(name)] for name in shown if name != "why"]
        assert lines[-1] == (
            f"not shown: {hidden} (--wide or --json shows all)" if hidden else "columns not shown: 3 (--wide)"
        )


def test_a_line_of_hidden_columns_is_never_wider_than_the_terminal(capsys, monkeypatch):
    headings = [f"figure number {number}" for number in range(12)]
    rows = [["a" * 30] * len(headings)]
    for columns in (80, 100, 160):
        monkeypatch.setenv("COLUMNS", str(columns))
        output.table("", headings, rows)
        last = capsys.readouterr().out.splitlines()[-1]
        assert last.startswith("not shown: figure number ")
        assert last.endswith(" more (--wide or --json shows all)")
        assert len(last) <= columns


def test_a_pipe_gets_every_column_in_full(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("sys.__stdout__", None)  # what the standard library asks for the width of the terminal
    output.table("", ("lane", "why"), [("paper1", "because " * 60 + "of it")])
    assert "because " * 60 + "of it" in capsys.readouterr().out


def test_an_unknown_important_heading_is_refused():
    with pytest.raises(ValueError, match="not in"):
        output.table("", ("lane", "why"), [], important=("size",))


WORDS = st.text("ab/ ", min_size=0, max_size=60)


@given(
    st.lists(st.text("ab ", max_size=30), min_size=1, max_size=9).flatmap(
        lambda names: st.tuples(
            st.just(names),
            st.lists(st.lists(WORDS, min_size=len(names), max_size=len(names)), max_size=4),
            st.permutations(range(len(names))),
        )
    ),
    st.integers(20, 200),
)
def test_a_layout_never_exceeds_the_room_and_takes_columns_by_importance(table, room):
    headings, rows, important = table
    layout = fit(headings, rows, important, room)
    assert sum(layout.widths) + GAP * len(layout.widths) <= room
    assert set(important[:2]) <= set(layout.columns)
    assert list(layout.columns) == sorted(layout.columns)
    for column, width in zip(*layout, strict=True):
        for text in (headings[column], *(row[column] for row in rows)):
            folded = fold(text, width)
            assert all(len(line) <= width for line in folded.split("\n"))
            assert "".join(folded.split()) == "".join(text.split())


def test_paths_of_axes_are_shortened_where_the_last_part_is_unique():
    assert short_paths(["entry.window", "exit.window", "exit.atr"]) == ["entry.window", "exit.window", "atr"]
    assert column_headings(["max_drawdown_pct", "exit.atr", "trade.combo", "combo"]) == [
        "drawdown, %",
        "atr",
        "trade.combo",
        "combo",
    ]


def commands(command: click.Command, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
    yield command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            member = command.get_command(context, name)
            assert member is not None
            yield from commands(member, click.Context(member, info_name=name, parent=context))


def test_help_fits_and_breaks_no_word():
    for command, context in commands(main.mei, click.Context(main.mei, info_name="mei")):
        context.terminal_width = 5000
        whole = words_of(command.get_help(context))
        context.terminal_width = None
        context.max_content_width = 80
        for width in (78, 80):
            context.terminal_width = width
            narrow = command.get_help(context)
            assert words_of(narrow) <= whole, context.command_path
            assert max(map(len, narrow.splitlines())) <= width, context.command_path


def test_wide_is_a_flag_of_every_command_but_those_without_tables():
    without = {
        context.command_path
        for command, context in commands(main.mei, click.Context(main.mei, info_name="mei"))
        if not isinstance(command, click.Group) and not any("--wide" in option.opts for option in command.params)
    }
    pages, files = {"report", "config reference", "config schema", "ui"}, {"backup", "restore", "registry export"}
    assert without == {f"mei {name}" for name in pages | files}


def test_wide_prints_every_column_in_a_narrow_terminal(capsys, monkeypatch, home):
    monkeypatch.setenv("COLUMNS", "40")
    assert home.parent.exists()
    assert main.run(["sweep", "list"]) == 0
    assert "not shown: " in capsys.readouterr().out
    assert main.run(["sweep", "list", "--wide"]) == 0
    shown = capsys.readouterr().out
    assert "reason to keep" in shown
    assert "not shown" not in shown
    assert main.run(["sweep", "list"]) == 0
    assert "reason to keep" not in capsys.readouterr().out.splitlines()[2]
