"""Why the later half of a record tells an edge that has ended: its power against other tests of the same size."""

import numpy as np
import pytest

DAYS, RECORDS, LOSS = 280, 10_000, 0.05
CHOSEN = 2.17
"""Statistic of the whole record from which it is promoted: the null's measured rate is 1.5 %."""


def scores(returns):
    """Statistic of the mean, [RECORDS], of daily returns [RECORDS, days] of deviation 1."""
    return returns.mean(axis=1) * np.sqrt(returns.shape[1])


def statistics_of(returns):
    """What could tell that an edge has ended, the lower the surer."""
    found = {}
    for name, share in (("half", 2), ("third", 3), ("quarter", 4)):
        late, early = returns[:, -(DAYS // share) :], returns[:, : -(DAYS // share)]
        found[name] = scores(late)
        found[f"{name} against the rest"] = late.mean(axis=1) - early.mean(axis=1)
    bridge = np.cumsum(returns - returns.mean(axis=1, keepdims=True), axis=1)
    found["CUSUM"] = -bridge.max(axis=1)
    return found


@pytest.mark.parametrize("alive_days", [113, 140])
def test_the_later_half_finds_an_edge_that_ended_by_the_middle_more_often_than_other_tests(alive_days):
    draw = np.random.default_rng(alive_days)
    edge = 3.0 / np.sqrt(365)
    lasting = draw.standard_normal((RECORDS, DAYS)) + edge
    ended = draw.standard_normal((RECORDS, DAYS)) + np.where(np.arange(DAYS) < alive_days, edge, 0.0)
    lasting, ended = (each[scores(each) >= CHOSEN] for each in (lasting, ended))
    limits = {name: np.quantile(each, LOSS) for name, each in statistics_of(lasting).items()}
    left = {name: float((each >= limits[name]).mean()) for name, each in statistics_of(ended).items()}
    assert min(left, key=left.__getitem__) == "half"
    assert left["half"] < 0.75
