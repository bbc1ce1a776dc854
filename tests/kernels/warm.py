"""Compile what tests call, so that no test waits for it: the kernels of MEI, and those that only tests have.

    MEI_CACHE=FOLDER PYTHONPATH=tests python tests/kernels/warm.py PART ...

A part is a strategy of MEI, or `scripted`. The fixture `compiled_kernels` looks in `FOLDER/kernels`. Parts
in one process share the rules that are compiled into them.
"""

import sys
from collections.abc import Sequence

import scripted
from kernel_kit import candle, one, run_scripted, script_of
from naive import Rules, Sizing

from kernels import bind
from mei_pipeline.bench.warmup import warm_up
from mei_pipeline.settings import read_settings
from mei_pipeline.simulation.kernel_cache import use_kernels


def main(parts: Sequence[str]) -> None:
    """Compile parts: `scripted` by a run over three bars, others as `mei warmup` does."""
    settings = read_settings()
    use_kernels(settings)
    for part in parts:
        if part == "scripted":
            run_scripted(bind.bind(scripted), [one([candle(100)] * 3)], Rules(), Sizing(), script_of({}, 3, 1))
        else:
            warm_up(settings, (part,))


if __name__ == "__main__":
    main(sys.argv[1:])
