import numpy as np
import polars as pl
import pytest

from mei_pipeline.candles.instruments import default_instruments
from mei_pipeline.candles.lake import Lake, merge_candles, merge_instruments
from mei_pipeline.candles.sources.synthetic_config import SyntheticMarket
from mei_pipeline.candles.sources.synthetic_edge import drift_for
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.experiment.markets import BLOCK_HOURS, SEARCHED, shuffled_markets, synthetic_markets
from mei_pipeline.settings import Settings
from tests.market_kit import DAY_MS, HOUR_MS, START_MS, VENUE, fill_lake, walk

DAYS = 80


@pytest.fixture
def lake(tmp_path):
    return fill_lake(Settings(home=tmp_path), days=DAYS)


def test_the_edge_is_that_of_the_symbols_that_are_searched():
    source = synthetic_markets(3.0, 3)
    assert source.edge_size == SyntheticMarket(edge_sharpe=3.0, symbols=source.searched).trend_drift
    assert (len(source.searched), len(source.holdout_symbols)) == (SEARCHED, 3)
    assert not set(source.searched) & set(source.holdout_symbols)
    assert synthetic_markets(0.0, 3).edge_size == 0.0
    assert (
        synthetic_markets(3.0, 3, strategy="mei_alpha").edge_size
        == drift_for(3.0, SEARCHED, "mei_alpha")
        > source.edge_size
    )


def test_more_symbols_can_be_held_out_than_have_constants_of_their_own():
    source = synthetic_markets(0.0, 9)
    assert len({*source.searched, *source.holdout_symbols}) == SEARCHED + 9
    assert source.bars(1, source.holdout_symbols, 2).prices.shape == (4, 48, 9)


def test_symbols_held_out_live_in_the_same_market():
    source = synthetic_markets(0.0, 3)
    searched, holdout_symbols = (
        source.bars(5, symbols, 60).prices[3] for symbols in (source.searched, source.holdout_symbols)
    )
    moves = np.diff(np.log(np.column_stack([searched[:, 0], holdout_symbols[:, 0]])), axis=0)
    assert np.corrcoef(moves.T)[0, 1] > 0.4


def moves(source, seed, symbols, days):
    """Whether prices differ from the same market without edge, [symbols] in the first and in the last days."""
    plain, planted = (each.bars(seed, symbols, days).prices[3] for each in (synthetic_markets(0.0, 3), source))
    ratio = np.diff(np.log(planted), axis=0) - np.diff(np.log(plain), axis=0)
    half = len(ratio) // 2
    # The venue rounds prices to five figures: what a drift adds is more than that in the sum of many hours.
    return [np.abs(part).mean(axis=0) > 2e-4 for part in (ratio[:half], ratio[half + 1 :])]


def test_a_decayed_edge_ends_at_its_share_of_the_days():
    source = synthetic_markets(6.0, 3, alive_frac=0.5)
    for symbols in (source.searched, source.holdout_symbols):
        first, last = moves(source, 4, symbols, 20)
        assert first.all()
        assert not last.any()


@pytest.mark.parametrize("seed", [4, 7])
def test_an_edge_of_one_symbol_is_in_no_other_one(seed):
    source = synthetic_markets(3.0, 3, one_symbol=True)
    first, last = moves(source, seed, source.searched, 20)
    assert [name for name, there in zip(source.searched, first, strict=True) if there] == [source.searched[seed]]
    assert (first == last).all()
    assert not any(part.any() for part in moves(source, seed, source.holdout_symbols, 20))


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5])
def test_a_share_of_days_that_is_none_is_refused(share):
    with pytest.raises(ConfigError, match=r"alive_frac is .*allowed: above 0 and at most 1"):
        synthetic_markets(3.0, 3, alive_frac=share)


def test_an_edge_above_the_table_is_refused():
    with pytest.raises(ConfigError, match="edge_sharpe is 40"):
        synthetic_markets(40.0, 3)


def test_shuffled_days_are_days_of_the_lake_with_all_symbols(lake):
    source = shuffled_markets(lake, VENUE, 1)
    bars = source.bars(3, source.searched, 5)
    close = bars.prices[3]
    names = source.instruments["symbol"].to_list()
    pool = source.ratios[3][..., [names.index(name) for name in source.searched]] - 1.0
    mirrored = 0
    for day in range(1, 5):
        first = day * BLOCK_HOURS
        moves = close[first : first + BLOCK_HOURS] / close[first - 1 : first + BLOCK_HOURS - 1] - 1.0
        same = (np.abs(np.abs(pool) - np.abs(moves)).max(axis=(1, 2)) < 1e-9).nonzero()[0]
        assert len(same) == 1
        signs = np.sign(pool[same[0]] * moves)
        assert (signs == signs[:, :1]).all()  # an hour is mirrored with all of its symbols
        mirrored += int((signs[:, 0] < 0.0).sum())
    assert 0.25 < mirrored / (4 * BLOCK_HOURS) < 0.75


def test_shuffled_prices_are_martingales(lake):
    source = shuffled_markets(lake, VENUE, 1)
    close = source.bars(3, source.searched, 2_000).prices[3]
    moves = close[1:] / close[:-1] - 1.0
    errors = moves.std(axis=0) / np.sqrt(len(moves))
    assert (np.abs(moves.mean(axis=0)) < 4.0 * errors).all()
    after = (moves[1:] * moves[:-1]).mean(axis=0) / moves.var(axis=0)
    assert (np.abs(after) < 4.0 / np.sqrt(len(moves))).all()
    assert source.funding.mean(axis=(0, 1)) == pytest.approx(0.0, abs=1e-15)


def test_days_in_which_a_price_doubles_are_not_drawn(lake):
    before = shuffled_markets(lake, VENUE, 1).ratios.shape[1]
    jump = walk("AAA", DAYS, seed=1)
    hour = START_MS + (30 * BLOCK_HOURS + 5) * HOUR_MS
    at = pl.col("open_ms") == hour
    revised = jump.with_columns(high=pl.when(at).then(pl.col("open") * 2.5).otherwise(pl.col("high"))).filter(at)
    merge_candles(lake, revised, now_ms=START_MS + 100 * DAY_MS)
    assert shuffled_markets(lake, VENUE, 1).ratios.shape[1] == before - 1


def test_bars_of_shuffled_days_are_bars(lake):
    source = shuffled_markets(lake, VENUE, 1)
    opened, high, low, close = source.bars(3, source.searched, 30).prices
    assert (low <= np.minimum(opened, close)).all()
    assert (high >= np.maximum(opened, close)).all()


def test_a_shuffled_symbol_does_not_depend_on_those_beside_it(lake):
    source = shuffled_markets(lake, VENUE, 1)
    both, one = (source.bars(3, symbols, 10) for symbols in (source.searched, source.searched[1:]))
    assert np.array_equal(both.prices[:, :, 1:], one.prices)
    assert np.array_equal(both.steps.funding[:, 1:], one.steps.funding)


def test_another_seed_draws_other_days(lake):
    source = shuffled_markets(lake, VENUE, 1)
    assert not np.array_equal(*(source.bars(seed, source.searched, 10).prices for seed in (3, 4)))


def test_days_with_a_gap_are_not_drawn_and_symbols_with_many_are_left_out(lake):
    for name, missing in (("DDD", 3), ("EEE", 30)):
        bars = walk(name, DAYS, seed=1)
        hours = (pl.col("open_ms") - START_MS) // HOUR_MS
        holes = (hours % BLOCK_HOURS == 7) & (hours // BLOCK_HOURS).is_between(20, 19 + missing)
        merge_candles(lake, bars.filter(~holes), now_ms=START_MS + 100 * DAY_MS)
    merge_instruments(lake, default_instruments(VENUE, {"DDD": 100.0, "EEE": 100.0}), now_ms=START_MS + 100 * DAY_MS)
    source = shuffled_markets(lake, VENUE, 1)
    assert sorted((*source.searched, *source.holdout_symbols)) == ["AAA", "BBB", "CCC", "DDD"]
    # The first day has no close before it.
    assert source.ratios.shape == (4, DAYS - 1 - 3, BLOCK_HOURS, 4)
    assert np.isfinite(source.ratios).all()


def test_a_lake_without_candles_is_refused(tmp_path):
    with pytest.raises(DataError, match="no 1h bars"):
        shuffled_markets(Lake(tmp_path / "lake"), VENUE, 1)


def test_a_lake_with_too_few_symbols_is_refused(lake):
    with pytest.raises(DataError, match=r"3 symbols without gaps.*at least 4"):
        shuffled_markets(lake, VENUE, 3)


def test_a_short_lake_is_refused(tmp_path):
    with pytest.raises(DataError, match="complete days; a market needs at least 60"):
        shuffled_markets(fill_lake(Settings(home=tmp_path), days=40), VENUE, 1)
