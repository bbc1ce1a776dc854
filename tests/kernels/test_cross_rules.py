"""The rules of `ema_cross`, called one by one."""

from collections import namedtuple

import numpy as np
import pytest
from kernel_kit import blank_book

from kernels.params import record_of
from kernels.strategies import ema_cross

Features = namedtuple("Features", [use.name for use in ema_cross.FEATURES])  # noqa: PYI024 - names are data

NOT_LEAD = False
ABOVE, EQUAL, BELOW = Features(2.0, 1.0, 4.0), Features(1.0, 1.0, 4.0), Features(0.5, 1.0, 4.0)


def params(**changed):
    values = [changed.get(parameter.name, parameter.default) for parameter in ema_cross.PARAMETERS]
    row = tuple(parameter.encode(value) for parameter, value in zip(ema_cross.PARAMETERS, values, strict=True))
    return np.array([row], record_of(ema_cross.PARAMETERS))[0]


@pytest.mark.parametrize(
    ("before", "now", "side"),
    [
        (BELOW, ABOVE, 1),
        (EQUAL, ABOVE, 1),
        (ABOVE, BELOW, -1),
        (ABOVE, EQUAL, -1),
        (BELOW, EQUAL, 0),
        (ABOVE, ABOVE, 0),
        (BELOW, BELOW, 0),
    ],
)
def test_a_cross_is_a_change_of_above_and_equal_is_not_above(before, now, side):
    assert ema_cross.signal(9.0, 200, NOT_LEAD, now, before, 0.0, params()) == side
    assert ema_cross.signal(9.0, 199, NOT_LEAD, now, before, 0.0, params()) == 0
    assert ema_cross.signal(9.0, 7, NOT_LEAD, now, before, 0.0, params(warmup_bars=7)) == side


@pytest.mark.parametrize(
    ("changed", "most", "wanted"),
    [
        ({}, 50.0, (2.5, 3.0)),
        ({"size_frac": 0.2}, 50.0, (5.0, 3.0)),
        ({"size_mode": "units"}, 50.0, (1.0, 3.0)),
        ({"size_mode": "units", "size_units": 7.0}, 50.0, (7.0, 3.0)),
        ({"leverage": 10.0}, 50.0, (2.5, 10.0)),
        ({"leverage": 10.0}, 5.0, (2.5, 5.0)),
    ],
)
def test_size_is_a_fraction_of_equity_or_a_number_of_coins(changed, most, wanted):
    """A tenth of 10,000 USD at 400."""
    for code in (1, -1):
        assert ema_cross.size(code, 10_000.0, 400.0, most, ABOVE, params(**changed)) == wanted


@pytest.mark.parametrize(("side", "stop", "target"), [(1.0, 94.0, 108.0), (-1.0, 106.0, 92.0)])
def test_stop_and_target_hang_on_the_price_paid(side, stop, target):
    position = blank_book((), 1, 1, tile=1, log_rows=0, steps=0).positions[0, 0]
    position.note_a, position.note_b, position.note_c = ema_cross.plan(
        1, 99.0, ABOVE, params(sl_atr_mult=1.5, tp_atr_mult=2.0)
    )
    assert (position.note_a, position.note_b, position.note_c) == (6.0, 8.0, 0.0)
    ema_cross.begin(position, side, 100.0)
    assert (position.stop, position.target) == (stop, target)


@pytest.mark.parametrize(
    ("age", "before", "now", "rows"),
    [
        (200, BELOW, ABOVE, [(200, 200, 1), (2, 1, 1), (1, 0, 1)]),
        (199, ABOVE, EQUAL, [(199, 200, 0), (1, 1, 0), (0, 1, 1)]),
        (201, EQUAL, BELOW, [(201, 200, 1), (0.5, 1, 0), (0, 0, 0)]),
    ],
)
def test_the_trace_says_value_threshold_and_verdict_of_every_gate(age, before, now, rows):
    out = np.full((len(ema_cross.GATES), 3), 7.0)
    ema_cross.trace(9.0, age, NOT_LEAD, now, before, 0.0, params(), out)
    assert list(map(tuple, out.tolist())) == rows
