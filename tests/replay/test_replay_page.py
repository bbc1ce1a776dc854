"""The page of a report: whole, self-contained, and of the same trades as the report."""

import re

import pytest
from page_kit import read_page
from replay_kit import alpha, cross, inputs

from mei_pipeline.replay.page import page_of
from mei_pipeline.replay.report import decisions_of, report_of
from mei_pipeline.replay.run import replay


def made(settings, resolved, charts=()):
    on = inputs(settings, resolved)
    run = replay(settings, on)
    return page_of(on, run, report_of(on, run) | decisions_of(settings, on, run), charts), run


@pytest.mark.parametrize("resolved", [cross(), alpha(), cross(**{"entry.warmup_bars": 5000})])
def test_a_page_is_whole_and_fetches_nothing(mei_settings, resolved):
    page, _ = made(mei_settings, resolved)
    read_page(page)
    assert "nan" not in re.sub(r"[a-z]*nan[a-z]+|[a-z]+nan", "", page.lower())


def test_the_candles_of_the_symbols_asked_for_carry_each_of_their_trades(mei_settings):
    page, run = made(mei_settings, cross(), ("BBB",))
    headings = re.findall(r"<h3>(\w+)</h3><svg", page)
    assert headings == ["BBB"]
    assert read_page(page).count("g") == run.trades.filter(run.trades["symbol"] == "BBB").height > 5


def test_names_are_escaped(mei_settings):
    page, _ = made(mei_settings, cross())
    assert "<title>ema_cross on test 1h, 2025-01-11 00:00Z to 2025-02-20 00:00Z</title>" in page
