"""What the gates of a strategy say of one symbol at one step, and the signal: by the rules that trade."""

import numpy as np
import pytest
from alpha_kit import LONG_FEATURES
from kernel_kit import Case, candle, inputs_of, new_book, one, plain_values
from naive import Rules, Sizing
from random_markets import CLOCKS, on_clock

from kernels import bind
from kernels.strategies import ema_cross, mei_alpha

UNTOUCHED = -7.0


def explained(simulation, inputs, t: int, s: int) -> tuple[int, np.ndarray]:
    """The signal, and the gates as (value, threshold, verdict)."""
    out = np.full((len(simulation.GATES), 3), UNTOUCHED)
    code = simulation.explain(inputs.market, inputs.columns, inputs.column_of, inputs.signal_params, 0, t, s, out)
    return int(code), out


def crossing(*series, clock=CLOCKS[0], own=None) -> Case:
    """Closes of some symbols, None for none; the fast mean is the close, the slow one that of three bars."""
    symbols = [on_clock(one([close and candle(close) for close in closes]), clock) for closes in series]
    values = plain_values(Sizing(), (1, 3, 1, 1, 1.0, 1.0))
    return Case(symbols, Rules(), values, own or {}, clock=clock)


def test_gates_are_those_of_the_symbol_at_the_step(cross_simulation):
    """Closes 10, 8, 12 have slow means 10, 9 and 10.5: the third bar crosses, where there are bars enough."""
    rises, stays = [10.0, 8.0, 12.0], [10.0, 10.0, 10.0]
    inputs = inputs_of(ema_cross, crossing(rises, stays, rises, own={2: {"entry.warmup_bars": 3}}))
    code, gates = explained(cross_simulation, inputs, 2, 0)
    assert (code, gates.tolist()) == (1, [[2, 1, 1], [12, 10.5, 1], [1, 0, 1]])
    code, gates = explained(cross_simulation, inputs, 2, 1)
    assert (code, gates.tolist()) == (0, [[2, 1, 1], [10, 10, 0], [0, 0, 0]])
    code, gates = explained(cross_simulation, inputs, 2, 2)
    assert (code, gates.tolist()) == (0, [[2, 3, 0], [12, 10.5, 1], [1, 0, 1]])


def test_the_first_bar_has_gates(cross_simulation):
    code, gates = explained(cross_simulation, inputs_of(ema_cross, crossing([10.0, 8.0])), 0, 0)
    assert (code, gates.tolist()) == (0, [[0, 1, 0], [10, 10, 0], [0, 0, 0]])


def test_nothing_is_said_where_nothing_is_asked(cross_simulation):
    """Without a bar, and before the first main bar has closed."""
    late = inputs_of(ema_cross, crossing([10.0, None, 12.0], [None, 8.0, 12.0]))
    finer = inputs_of(ema_cross, crossing([10.0, 8.0, 12.0, 12.0], clock=CLOCKS[2]))
    for inputs, t, s in ((late, 1, 0), (late, 0, 1), (finer, 0, 0)):
        code, gates = explained(cross_simulation, inputs, t, s)
        assert code == 0
        assert np.all(gates == UNTOUCHED)
    assert explained(cross_simulation, finer, 1, 0)[1][1].tolist() == [8, 8, 0]


NAMES = [use.name for use in mei_alpha.FEATURES]
PARAMETERS = {parameter.path: parameter.default for parameter in mei_alpha.PARAMETERS}
BENCHMARK_ALLOWS_A_LONG = mei_alpha.GATES.index("benchmark allows a long")


@pytest.mark.parametrize("benchmark", ["BTC", "XRP"])
def test_the_lead_bars_others_and_never_itself(benchmark):
    """Both rise at the step; the first one's last main bar closed below its slow mean, which bars the other's long."""
    simulation = bind.simulation("mei_alpha")
    values = {**PARAMETERS, "entry.warmup_bars": 1, "filters.require_btc_alignment": True}
    tables = [[{**LONG_FEATURES, "close": LONG_FEATURES["ema_slow"] - 0.1}] * 2, [LONG_FEATURES] * 2]
    symbols = [one([candle(100)] * 2) for _ in tables]
    columns = np.array([[[row[name] for row in table] for table in tables] for name in NAMES]).transpose(0, 2, 1)
    case = Case(symbols, Rules(), values, names=[benchmark, "ETH"])
    given = (np.ascontiguousarray(columns), np.arange(len(NAMES)).reshape(1, 1, -1))
    inputs = inputs_of(mei_alpha, case, given)
    book = new_book(simulation, case)
    simulation.run(*inputs, 0, 2, book)
    for s in (0, 1):
        code, gates = explained(simulation, inputs, 1, s)
        free = s == 0 or benchmark != "BTC"
        assert code == book.codes[1, s]
        assert (code > 0) == free
        assert gates[BENCHMARK_ALLOWS_A_LONG, 2] == float(free)
