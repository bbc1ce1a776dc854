import json
import math

import pytest
import structlog

from mei_pipeline.cli import main, output
from mei_pipeline.errors import Fatal


def test_json_is_one_line_on_stdout_with_sorted_keys(capsys):
    output.print_json({"b": 1, "a": [None, "ü"]})
    captured = capsys.readouterr()
    assert captured.out == '{"a": [null, "\\u00fc"], "b": 1}\n'
    assert captured.err == ""
    assert json.loads(captured.out) == {"a": [None, "ü"], "b": 1}


@pytest.mark.parametrize("figure", [math.nan, math.inf, -math.inf])
def test_json_refuses_what_json_cannot_say(capsys, figure):
    with pytest.raises(Fatal, match="NaN or infinite"):
        output.print_json({"sharpe": {"mean": figure}})
    assert capsys.readouterr().out == ""


def test_table_shows_every_cell_on_stdout_and_takes_markup_literally(capsys):
    output.table("Bars [b]", ["symbol", "bars", "share"], [["BTC", 128_290, 0.5], ["[red]ETH", None, 1234.5]])
    captured = capsys.readouterr()
    for cell in ("Bars [b]", "symbol", "BTC", "128,290", "0.5", "[red]ETH", "1,234.50"):
        assert cell in captured.out
    assert captured.err == ""


@pytest.mark.parametrize("columns", [20, 40, 200])
def test_table_folds_to_the_width_and_loses_nothing(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    output.table("", ["config"], [["0123456789abcdef" * 4]])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    assert "0123456789abcdef" * 4 in "".join(line.strip() for line in lines)


def test_notes_and_warnings_leave_stdout_to_results(capsys):
    output.note("looking at [BTC]")
    output.warn("stale")
    output.fail("missing")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "looking at [BTC]\nwarning: stale\nerror: missing\n"


HOSTILE = "BTC\x1b]0;owned\x07\x9b2J\u202e\r\x08"
SHOWN = "BTC\\x1b]0;owned\\x07\\x9b2J\\u202e\\r\\x08"


def test_control_characters_are_shown_and_not_obeyed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    output.echo(HOSTILE)
    output.note(HOSTILE)
    output.warn(HOSTILE)
    output.fail(HOSTILE)
    output.table(HOSTILE, [HOSTILE], [[HOSTILE]])
    with output.bar() as progress:
        progress(1, 1, HOSTILE, HOSTILE)
    main.run([HOSTILE])
    main.run(["config", "explain", HOSTILE])
    captured = capsys.readouterr()
    printed = captured.out + captured.err
    assert printed.count(SHOWN) >= 10
    assert printed.isprintable() or set(filter(lambda char: not char.isprintable(), printed)) == {"\n"}


def test_control_characters_in_a_bar_and_in_the_log(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("NO_COLOR", "1")
    output.start_logging("console")
    structlog.get_logger().warning(HOSTILE, symbol=HOSTILE)
    assert capsys.readouterr().err.count(SHOWN) == 2
    monkeypatch.setenv("FORCE_COLOR", "1")
    with output.bar(HOSTILE) as progress:
        progress(1, 1, HOSTILE, HOSTILE)
    drawn = capsys.readouterr().err
    assert SHOWN in drawn
    assert "\x9b" not in drawn
    assert "\x1b]0;" not in drawn


def test_progress_without_a_terminal_is_sparse(capsys):
    with output.bar("sweep") as progress:
        for done in range(1001):
            progress(done, 1000, "combos")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "combos: 0 of 1,000\ncombos: 1,000 of 1,000\n"


def test_progress_in_a_terminal_is_a_bar_per_kind_of_work(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # how rich is told that it speaks to a terminal
    with output.bar("starting", total=2) as progress:
        progress(1, 2, "candles")
        progress(2, 2, "candles")
        progress(3, 3, "funding", "7 M bar-steps/s")
    shown = capsys.readouterr().err
    assert "2/2" in shown
    assert "7 M bar-steps/s" in shown
    assert "funding" in shown
    assert "candles" in shown


def test_no_color_is_respected(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    output.warn("stale")
    assert "\x1b[33m" not in capsys.readouterr().err


def test_service_logs_are_one_json_object_per_line(capsys):
    import structlog

    output.start_logging("json")
    structlog.get_logger().info("ingested", rows=3)
    captured = capsys.readouterr()
    assert captured.out == ""
    event = json.loads(captured.err)
    assert (event["event"], event["rows"], event["level"]) == ("ingested", 3, "info")
