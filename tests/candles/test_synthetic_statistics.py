"""The synthetic market looks like real candles, and without an edge nothing about its past tells its future."""

from dataclasses import replace

import numpy as np
import pytest

from mei_pipeline.candles.intervals import HOUR_MS
from mei_pipeline.candles.sources.stylised import correlations, facts_by_symbol, synthetic_frame
from mei_pipeline.candles.sources.synthetic import SyntheticMarket, make_bars
from mei_pipeline.candles.sources.synthetic_config import INSTRUMENTS, Regimes
from mei_pipeline.candles.sources.synthetic_hours import make_hours, regime_path, season

WEEK = 168 * HOUR_MS
MARKET = SyntheticMarket(symbols=tuple(INSTRUMENTS))

# Least and greatest of 14 Binance USD-M perpetuals, 1h, May 2025 to May 2026; kurtosis with returns limited to 10
# standard deviations, because one crash made most of the rest.
MEASURED = {
    "clipped_kurtosis": (5.5, 11.0),
    "abs_ac1": (0.204, 0.278),
    "abs_ac5": (0.102, 0.162),
    "abs_ac24": (0.059, 0.166),
    "volume_correlation": (0.53, 0.69),
}
MEASURED_KURTOSIS = (5.5, 84.0)
MEASURED_CORRELATION = (0.504, 0.883)


def markets(few, many):
    """How many markets a test looks at: `few`, and `many` in the tier `long`."""
    return pytest.mark.parametrize("count", [few, pytest.param(many, marks=pytest.mark.long)])


@markets(4, 8)
def test_statistics_lie_in_the_measured_ranges(count):
    figures, kurtosis, pairs = [], [], []
    for seed in range(count):
        frame = synthetic_frame(replace(MARKET, seed=seed), MARKET.from_ms + 55 * WEEK)
        found = facts_by_symbol(frame).values()
        figures += [(one.clipped_kurtosis, *one.abs_autocorrelation, one.volume_correlation) for one in found]
        kurtosis += [one.kurtosis for one in found]
        pairs += correlations(frame).values()
    for (name, (low, high)), column in zip(MEASURED.items(), np.array(figures).T, strict=True):
        assert low < np.median(column) < high, name
        assert np.mean((column > 0.7 * low) & (column < 1.3 * high)) > 0.9, name
    assert MEASURED_KURTOSIS[0] < np.median(kurtosis) < MEASURED_KURTOSIS[1]
    assert MEASURED_CORRELATION[0] <= min(pairs)
    assert max(pairs) <= MEASURED_CORRELATION[1]
    assert max(pairs) - min(pairs) > 0.2


@pytest.mark.parametrize(
    ("base", "weeks", "clipped", "ac1"), [("5m", 8, (7.1, 15.3), (0.17, 0.43)), ("1m", 2, (8, 20), (0.2, 0.4))]
)
def test_shorter_bars_have_fatter_tails_and_clusters(base, weeks, clipped, ac1):
    market = replace(MARKET, interval=base, symbols=("SOL", "DOGE", "LINK"))
    found = list(facts_by_symbol(synthetic_frame(market, market.from_ms + weeks * WEEK)).values())
    assert clipped[0] < np.median([one.clipped_kurtosis for one in found]) < clipped[1]
    assert ac1[0] < np.median([one.abs_autocorrelation[0] for one in found]) < ac1[1]


def t_statistic(values):
    return np.mean(values) / (np.std(values, ddof=1) / np.sqrt(len(values)))


def forecasts(seed, edge_size):
    """Mean product of next hour's return, in standard deviations, with things known before it; one market of a year."""
    market = SyntheticMarket(seed=seed, edge_size=edge_size)
    close = make_bars(market, market.from_ms, market.from_ms + 52 * WEEK).close
    returns = close[:, 1:] / close[:, :-1] - 1.0
    returns /= returns.std(axis=1, keepdims=True)
    regime = make_hours(market, 24 * 366).regime[: close.shape[1]]
    fast, slow = (ema(close, window) for window in (12, 60))
    known = {
        "drift": np.ones_like(close),
        "last return": np.concatenate((np.zeros((10, 1)), returns), axis=1),
        "ema cross": np.sign(fast - slow),
        "regime": np.broadcast_to(regime, close.shape),
        "day's return": np.concatenate((np.zeros((10, 24)), np.sign(close[:, 24:] - close[:, :-24])), axis=1),
    }
    return {name: float(np.mean(signal[:, :-1] * returns)) for name, signal in known.items()}


def ema(close, window):
    out = np.empty_like(close)
    value = close[:, 0]
    for at in range(close.shape[1]):
        value = value + 2.0 / (window + 1.0) * (close[:, at] - value)
        out[:, at] = value
    return out


@markets(12, 60)
def test_without_an_edge_nothing_known_forecasts_a_return(count):
    made = [forecasts(seed, 0.0) for seed in range(count)]
    for name in made[0]:
        assert abs(t_statistic([one[name] for one in made])) < 3.0, name


@markets(8, 12)
def test_a_planted_edge_is_found_by_the_same_measures(count):
    made = [forecasts(seed, 0.12) for seed in range(count)]
    for name in ("ema cross", "regime", "day's return"):
        assert t_statistic([one[name] for one in made]) > 5.0, name


@markets(60, 400)
def test_a_price_without_an_edge_is_a_martingale_over_months(count):
    ends = []
    for seed in range(count):
        hours = make_hours(SyntheticMarket(seed=seed, symbols=("BTC", "OP")), 24 * 60)
        ends.append(np.exp(hours.log_price[-1] - hours.log_price[0]) - 1.0)
    assert (np.abs(t_statistic(np.array(ends)[:, 0])) < 3.0).all()
    assert abs(t_statistic(np.array(ends)[:, 1])) < 3.0


@pytest.mark.parametrize("side", [1.0, pytest.param(-1.0, marks=pytest.mark.long)])
@pytest.mark.parametrize("distance", [0.005, pytest.param(0.02, marks=pytest.mark.long)])
@markets(16, 80)
def test_a_stop_inside_a_bar_is_a_fair_bet(side, distance, count):
    means = []
    for seed in range(count):
        bars = make_bars(SyntheticMarket(seed=seed), MARKET.from_ms, MARKET.from_ms + 8 * WEEK)
        stop = bars.open * (1.0 - side * distance)
        hit = (bars.low <= stop) if side > 0.0 else (bars.high >= stop)
        means.append(np.mean(side * (np.where(hit, stop, bars.close) / bars.open - 1.0)))
        assert 0.001 < hit.mean() < 0.9
    assert abs(t_statistic(means)) < 3.0


def test_regimes_switch_as_configured():
    regimes = Regimes(range_hours=20.0, trend_hours=50.0, reversal_frac=0.4)
    path = regime_path(5, "", 400_000, regimes)
    change = np.flatnonzero(np.diff(path))
    stays, states, after = np.diff(change), path[change[:-1] + 1], path[change[1:] + 1]
    assert path[0] == 0.0
    assert stays[states == 0.0].mean() == pytest.approx(20.5, rel=0.05)
    assert stays[states != 0.0].mean() == pytest.approx(50.5, rel=0.05)
    assert np.mean(after[states == 1.0] == -1.0) == pytest.approx(0.4, abs=0.04)
    assert np.mean(after[states == 0.0] == 1.0) == pytest.approx(0.5, abs=0.04)
    assert not ((states == after) & (states != 0.0)).any()


@pytest.mark.parametrize(("share", "same"), [(1.0, 1.0), (0.0, 0.0)])
def test_the_market_share_of_trends_decides_how_alike_drifts_are(share, same):
    regimes = Regimes(trend_market_share=share)
    hours = make_hours(SyntheticMarket(symbols=("BTC", "ETH"), edge_size=0.1, regimes=regimes), 20_000)
    sides = np.sign(hours.drift)
    assert np.mean(sides[:, 0] * sides[:, 1]) == pytest.approx(same * np.mean(sides[:, 0] ** 2), abs=0.1)


def test_activity_follows_the_hour_of_the_day():
    monday = 1_746_403_200_000
    week = season(monday, 168)
    assert np.mean(week**2) == pytest.approx(1.0)
    assert week[14] > 1.5 * week[10]
    assert week[5 * 24 : 6 * 24].mean() < 0.8 * week[:24].mean()
