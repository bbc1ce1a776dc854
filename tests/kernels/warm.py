"""Compile what tests call, so that no test waits for it: the kernels of MEI, and those that only tests have.

    MEI_CACHE=FOLDER PYTHONPATH=tests python tests/kernels/warm.py PART ...

A part is a strategy of MEI, or `scripted`. The fixture `compiled_kernels` looks in `FOLDER/kernels`. Parts
in one process share the rules that are compiled into them.
"""

import sys
from collections.abc import Sequence
from types import ModuleType

import numpy as np
import scripted
from kernel_kit import (
    NO_CROSS,
    Case,
    candle,
    inputs_of,
    one,
    plain_values,
    run_scripted,
    script_columns,
    script_of,
)
from lane_kit import follow, new_lane
from naive import Rules, Sizing

from kernels import bind
from kernels.book import AT_CLOSE, MANUAL
from kernels.strategies import load
from mei_pipeline.bench.warmup import warm_up
from mei_pipeline.settings import read_settings
from mei_pipeline.simulation.kernel_cache import use_kernels


def warm_drivers(drivers: ModuleType, strategy: ModuleType, given: tuple | None = None) -> None:
    """Follow three bars, and call the drivers that they don't."""
    values = {parameter.path: parameter.default for parameter in strategy.PARAMETERS}
    case = Case([one([candle(100)] * 3)], Rules(), values | (plain_values(Sizing(), NO_CROSS) if given else {}))
    inputs = inputs_of(strategy, case, given)
    lane = new_lane(drivers, inputs, 1e4)
    for _ in follow(lane, inputs, 0, 3):
        pass
    drivers.apply_fill_step(lane.symbols, lane.book, 0, 1.0, 100.0, 0.0, np.nan, MANUAL, AT_CLOSE, 0)
    drivers.end_order_step(lane.book, 0, True, True)  # noqa: FBT003 - by position in compiled code
    drivers.apply_funding_step(lane.book, 0, 0.0)
    drivers.apply_transfer_step(lane.book, 0.0)


def main(parts: Sequence[str]) -> None:
    """Compile parts: `scripted` by a run over three bars, others as `mei warmup` does; and the executor's drivers."""
    settings = read_settings()
    use_kernels(settings)
    for part in parts:
        if part == "scripted":
            simulation, script = bind.bind(scripted), script_of({}, 3, 1)
            run_scripted(simulation, [one([candle(100)] * 3)], Rules(), Sizing(), script)
            drivers = bind.bind_executor(simulation, scripted.NAME)
            warm_drivers(drivers, scripted, script_columns(script))
        else:
            warm_up(settings, (part,))
            warm_drivers(bind.executor(part), load(part))


if __name__ == "__main__":
    main(sys.argv[1:])
