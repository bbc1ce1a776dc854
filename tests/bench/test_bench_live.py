"""A bar at a time, with arrays prepared in place, an executor's book is that of the replay, to the last bit."""

import numpy as np
import pytest

from kernels.market import fill_model
from mei_pipeline.bench import live, portfolio
from mei_pipeline.errors import ConfigError
from mei_pipeline.simulation.combos import encode_combos
from mei_pipeline.simulation.memory import features_of
from mei_pipeline.simulation.run import RESULTS, record_combo

BUSY = {"trade.entry_min_confidence": "medium", "trade.allocation_frac": 0.02, "entry.warmup_bars": 50}


@pytest.fixture(scope="module")
def work():
    return portfolio.make(symbols=8, days=20, combos=1)


def replayed(settings, work, changes):
    plan = work.plan
    values = plan.combo(int(work.numbers[0]))
    features = features_of(work.bars, plan.columns())
    combos = encode_combos(plan.strategy, features, values | changes, 1, plan.symbols, benchmark=plan.benchmark)
    return record_combo(settings, work.cut, fill_model(plan.market, plan.initial_balance_usd), features, combos)


def test_every_bar_of_the_follower_is_that_of_the_replay(work, mei_settings):
    changes = BUSY | {"trade.max_open_positions": 4}
    follower = live.follow(mei_settings, work, changes)
    equity = []
    for t in range(work.cut.first, work.cut.last):
        follower.prepare(live.message_of(work.cut.market, t), t)
        follower.observe(work.bars.volume[t])
        follower.decide()
        equity.append(float(follower.book.accounts["equity"][0]))
    record = replayed(mei_settings, work, changes)
    assert np.array_equal(equity, record.equity)
    assert np.array_equal(follower.book.days, record.outcome.days)
    for name, field in RESULTS.items():
        assert follower.book.accounts[field][0] == record.outcome.results[name][0], name
    assert record.outcome.results["trades"][0] > 20


def test_what_is_timed_for_nothing_changes_nothing(work, mei_settings):
    follower = live.follow(mei_settings, work, BUSY)
    market = work.cut.market
    for t in range(100):
        follower.prepare(live.message_of(market, t), t)
        follower.observe(work.bars.volume[t])
        follower.decide()
    before = [part.copy() for part in (follower.book.accounts, follower.book.positions)]
    follower.observe_nothing()
    follower.decide_nothing()
    for part, copy in zip((follower.book.accounts, follower.book.positions), before, strict=True):
        assert part.tobytes() == copy.tobytes()


def test_figures_add_up(work, mei_settings):
    figures = live.run_live(mei_settings, work, places=3)
    parts = (figures.prepare_us, figures.observe_us, figures.decide_us)
    assert figures.us_per_bar == pytest.approx(sum(parts))
    assert figures.positions == 3.0
    assert figures.symbols == 8
    assert figures.bars > 0
    assert figures.to_dict()["work"] == "live"


def test_a_book_that_never_fills_says_so(work, mei_settings):
    with pytest.raises(ConfigError, match="8 symbols"):
        live.run_live(mei_settings, work, places=9)
