"""Plots of a replay: what is drawn lies where its values are, and nothing is cut off."""

import itertools
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from market_kit import DAY_MS, START_MS

from mei_pipeline import svg
from mei_pipeline.replay.axes import LEFT, RIGHT, WIDTH, Scale, dates
from mei_pipeline.replay.equity_plots import equity_plot, sharpe_plot
from mei_pipeline.replay.trade_plots import histogram_plot

SVG = "{http://www.w3.org/2000/svg}"


def read(picture):
    return ET.fromstring(picture)  # noqa: S314 - our own picture


def points(root, colour):
    """Points of the line of a colour, [N, 2]."""
    (line,) = (
        each.get("d")
        for each in root.iter(f"{SVG}path")
        if each.get("fill") == "none" and each.get("stroke") == colour and "L" in each.get("d")
    )
    return np.array([float(value) for value in re.findall(r"[\d.]+", line)]).reshape(-1, 2)


def words(root):
    return [each.text for each in root.iter(f"{SVG}text")]


def times(count):
    return START_MS + DAY_MS * np.arange(1, count + 1)


def test_strategy_and_benchmark_share_one_scale_from_the_same_start():
    strategy, held = np.array([100.0, 150.0, 200.0]), np.array([100.0, 50.0, 400.0])
    root = read(equity_plot(times(3), [("strategy", strategy), ("buy and hold of BTC", held)], 100.0))
    blue, grey = points(root, svg.BLUE), points(root, svg.SOFT)
    assert blue[0].tolist() == grey[0].tolist()
    assert blue[:, 0].tolist() == grey[:, 0].tolist() == [LEFT, (LEFT + WIDTH - RIGHT) / 2, WIDTH - RIGHT]
    pixels = (grey[1, 1] - grey[2, 1]) / 350.0
    assert blue[0, 1] - blue[:, 1] == pytest.approx(pixels * np.array([0.0, 50.0, 100.0]), abs=0.11)
    assert words(root)[-2:] == ["strategy", "buy and hold of BTC"]


def test_equity_without_a_benchmark_has_one_curve():
    root = read(equity_plot(times(3), [("strategy", np.array([100.0, 90.0, 120.0]))], 100.0))
    assert len(points(root, svg.BLUE)) == 3
    assert "buy and hold" not in "".join(words(root))


def test_small_equity_has_different_labels_and_no_drawdown_is_no_negative_zero():
    found = words(read(equity_plot(times(3), [("strategy", np.array([1.0, 1.2, 1.4]))], 1.0)))
    assert found[:5] == ["1", "1.1", "1.2", "1.3", "1.4"]
    assert found.count("0.0 %") == 2


def test_the_legend_names_curves_and_days_beside_one_another():
    spans = [("search", START_MS, START_MS + DAY_MS), ("holdout", START_MS + DAY_MS, START_MS + 3 * DAY_MS)]
    name = "equal-weight buy and hold of 999 symbols"
    curves = [("strategy", np.ones(3)), (name, np.ones(3))]
    places = {
        each.text: float(each.get("x")) for each in read(equity_plot(times(3), curves, 1.0, spans)).iter(f"{SVG}text")
    }
    shown = [(places[each], len(each)) for each in ("strategy", name, "search", "holdout")]
    for (x, length), (following, _) in itertools.pairwise(shown):
        assert x + svg.CHARACTER * length < following
    assert shown[-1][0] + svg.CHARACTER * shown[-1][1] < WIDTH


def test_names_cannot_break_a_picture():
    root = read(equity_plot(times(2), [("strategy", np.ones(2)), ("<b>\x1b[31m&", np.ones(2))], 1.0))
    assert "\x1b" not in "".join(words(root))
    assert words(root)[-1].startswith("<b>")


def test_the_rolling_ratio_begins_with_the_end_of_its_first_window():
    ratios = np.array([0.0, 2.0, -2.0])
    root = read(sharpe_plot(START_MS + DAY_MS * np.arange(2, 5), ratios, 2, 1.5, (START_MS, START_MS + 4 * DAY_MS)))
    line = points(root, svg.BLUE)
    assert line[:, 0].tolist() == [(LEFT + WIDTH - RIGHT) / 2, LEFT + 0.75 * (WIDTH - RIGHT - LEFT), WIDTH - RIGHT]
    assert line[2, 1] - line[0, 1] == pytest.approx(line[0, 1] - line[1, 1])
    assert words(root)[-2:] == ["2 days", "all days: 1.50"]


@pytest.mark.parametrize("ratios", [np.empty(0), np.zeros(3)])
def test_a_rolling_ratio_without_days_or_variation_still_makes_a_picture(ratios):
    read(sharpe_plot(START_MS + DAY_MS * np.arange(2, 2 + len(ratios)), ratios, 2, 0.0, (START_MS, START_MS + DAY_MS)))


@pytest.mark.parametrize("values", [[], [0.0], [0.0, 0.0], [-3.0, -1.0, 1e9], [1e-12, -1e-12]])
def test_a_histogram_counts_every_value(values):
    root = read(histogram_plot(np.array(values), "Daily returns", "There was no day.", {"mean": 0.0}))
    told = [int(each.text.partition(" ")[0]) for each in root.iter(f"{SVG}title")]
    assert sum(told) == len(values)
    counts = [each for each in words(root) if "%" not in each and each != "There was no day."]
    assert all(each.isdigit() for each in counts)


def test_marks_of_a_histogram_stand_at_their_values():
    values = np.linspace(-1.0, 1.0, 101)
    root = read(histogram_plot(values, "Daily returns", "", {"5 % quantile": -0.9, "mean": 0.0}))
    lines = [each.get("d") for each in root.iter(f"{SVG}path") if each.get("stroke") == svg.INK]
    low, high = (float(re.match(r"M([\d.]+)", line)[1]) for line in lines)
    assert high == pytest.approx((LEFT + WIDTH - RIGHT) / 2, abs=0.1)
    assert LEFT < low < high
    assert {"5 % quantile -0.90 %", "mean 0.00 %"} <= set(words(root))


@pytest.mark.parametrize("days", [60, 120, 200, 365, 546, 1200])
def test_no_name_of_a_month_is_cut_off(days):
    for first in range(0, 400, 31):
        span = np.array([START_MS + first * DAY_MS, START_MS + (first + days) * DAY_MS])
        scale = Scale(float(span[0]), float(span[1]), LEFT, WIDTH - RIGHT)
        for mark in dates(span, scale, 100.0):
            if mark.startswith("<text"):
                name = ET.fromstring(mark)  # noqa: S314 - our own picture
                share = {"middle": 0.5, "end": 0.0}[name.get("text-anchor")]
                assert float(name.get("x")) + share * svg.CHARACTER * len(name.text) <= WIDTH
