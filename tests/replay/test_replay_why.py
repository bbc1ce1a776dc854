"""`mei why`: the state at a step is the one that a backtest had there."""

from dataclasses import replace

import pytest
from market_kit import DAY_MS, HOUR_MS, START_MS
from replay_kit import FROM_MS, alpha, cross, inputs

from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.replay.run import replay
from mei_pipeline.replay.why import explain_step


@pytest.fixture(params=[cross, alpha])
def played(request, mei_settings):
    on = inputs(mei_settings, request.param())
    return on, replay(mei_settings, on)


def test_it_tells_the_fills_and_the_equity_of_the_backtest(mei_settings, played):
    on, run = played
    entries = run.fills.filter(run.fills["reason"] == "entry")
    for fill in entries.gather_every(max(1, entries.height // 4)).iter_rows(named=True):
        found = explain_step(mei_settings, on, fill["symbol"], int(on.bars.steps.open_ms[fill["bar"]]))
        there = run.fills.filter((run.fills["bar"] == fill["bar"]) & (run.fills["symbol"] == fill["symbol"]))
        assert [one["reason"] for one in found["done"]] == there["reason"].to_list()
        assert [one["price"] for one in found["done"]] == there["price"].to_list()
        assert found["after"]["equity_usd"] == run.equity["equity_usd"][fill["bar"] - on.cut.first]
        assert found["before"]["equity_usd"] == run.equity["equity_usd"][fill["bar"] - on.cut.first - 1]
        position = found["after"]["position"]
        held = there["held"][-1]
        assert (position is None) == (held == 0.0)
        if position is not None:
            assert position["size"] == abs(held)
            assert position["side"] == ("long" if held > 0 else "short")


def test_a_signal_that_opens_is_explained_to_the_end(mei_settings):
    on = inputs(mei_settings, alpha())
    run = replay(mei_settings, on)
    fill = run.fills.filter(run.fills["reason"] == "entry").row(3, named=True)
    found = explain_step(mei_settings, on, fill["symbol"], int(on.bars.steps.open_ms[fill["bar"]]))
    assert found["signal"]["code"] == fill["signal"]
    assert found["signal"]["side"] == ("long" if fill["size"] > 0 else "short")
    assert found["verdict"] == "entry ordered"
    assert found["rank"] >= 100.0 * ("low", "medium", "high").index(found["signal"]["tier"])
    modes = {gate["gate"][:6]: gate for gate in found["gates"]}
    assert modes["mode 1"]["open"] or modes["mode 2"]["open"]
    assert found["after"]["position"]["remembers.atr"] > 0.0
    assert found["after"]["margin_usd"] > found["before"]["margin_usd"] - 1e-9
    assert found["decided"] == found["after"]["at"]


def test_an_order_that_waits_holds_margin(mei_settings):
    on = inputs(mei_settings, cross())
    run = replay(mei_settings, on)
    bar = run.fills.filter(run.fills["reason"] == "entry").row(0, named=True)
    found = explain_step(mei_settings, on, bar["symbol"], int(on.bars.steps.open_ms[bar["bar"] - 1]))
    after = found["after"]
    assert found["done"] == []
    assert found["verdict"] == "entry ordered"
    assert after["order"] == {"opens": bar["size"]}
    together = run.fills.filter((run.fills["bar"] == bar["bar"]) & (run.fills["reason"] == "entry"))
    marks = dict(zip(on.bars.symbols, on.cut.market.last_price[bar["bar"] - 1], strict=True))
    notional = sum(abs(size) * marks[name] for name, size in together.select("symbol", "size").iter_rows())
    assert after["free_margin_usd"] == pytest.approx(after["equity_usd"] - notional / 3.0 - notional * 0.00045)


def test_the_first_step_begins_flat(mei_settings):
    on = inputs(mei_settings, cross())
    found = explain_step(mei_settings, on, "AAA", FROM_MS)
    assert found["before"]["equity_usd"] == 10_000.0
    assert found["before"]["at"] == "2025-01-11 00:00Z"
    assert found["before"]["position"] is None


def test_between_two_entries_only_exits_are_explained(mei_settings):
    on = inputs(mei_settings, replace(alpha(), exit_interval="15m"))
    run = replay(mei_settings, on)
    inside = run.fills.filter((run.fills["bar"] % 4 != 3) & ~run.fills["reason"].is_in(["entry", "funding"]))
    fill = inside.row(0, named=True)
    found = explain_step(mei_settings, on, fill["symbol"], int(on.bars.steps.open_ms[fill["bar"]]))
    assert (found["interval"], found["decides_entries"], found["decides_exits"]) == ("15m", False, True)
    assert (found["gates"], found["signal"], found["rank"]) == ([], None, None)
    assert found["verdict"] == "entries are not decided at this step"
    assert [one["reason"] for one in found["done"]] == [fill["reason"]]
    assert found["after"]["equity_usd"] == run.equity["equity_usd"][fill["bar"] - on.cut.first]


@pytest.mark.parametrize(
    ("symbol", "at_ms", "error", "says"),
    [
        ("ZZZ", FROM_MS, ConfigError, "the config trades AAA, BBB, CCC"),
        ("AAA", FROM_MS - HOUR_MS, ConfigError, "before the start of the replay, 2025-01-11 00:00Z"),
        ("AAA", FROM_MS + HOUR_MS // 3, DataError, "the nearest one opens 2025-01-11 00:00Z"),
        ("AAA", START_MS + 99 * DAY_MS, DataError, "the nearest one opens 2025-03-01 23:00Z"),
    ],
)
def test_a_step_that_is_not_there_is_an_error(mei_settings, symbol, at_ms, error, says):
    with pytest.raises(error, match=says):
        explain_step(mei_settings, inputs(mei_settings, cross()), symbol, at_ms)
