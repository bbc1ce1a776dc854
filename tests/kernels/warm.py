"""Compile what tests call, so that no test waits for it: the kernels of MEI, and those that only tests have.

    MEI_CACHE=FOLDER PYTHONPATH=tests python tests/kernels/warm.py PART ...

A part is a strategy of MEI, `scripted`, or `threads`. The fixture `compiled_kernels` looks in `FOLDER/kernels`. Parts
in one process share the rules that are compiled into them.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cuda_kit
import scripted
from gpu_kit import FakeCupy, write_kernels
from kernel_kit import candle, one, run_scripted, script_of
from naive import Rules, Sizing

from kernels import bind
from kernels.cuda.launch import Card, Job
from kernels.cuda.manifest import read
from kernels.strategies import load
from mei_pipeline.bench.warmup import warm_up
from mei_pipeline.settings import read_settings


def launch(name: str) -> None:
    """Take combos of a strategy through one bar, on a card that is fake."""
    case, inputs = cuda_kit.inputs_for(load(name), 1)
    with tempfile.TemporaryDirectory() as root:
        folder = write_kernels(Path(root), name)
        card = Card(FakeCupy(), load(name), read(folder), folder)
        card.load(inputs.market, inputs.symbols, inputs.models, inputs.columns)
        few = (inputs.entry_of, inputs.params, inputs.entries, inputs.rows)
        card.run(Job(*few, case.first, case.first + 1, case.rules.initial_usd))


def main(parts: Sequence[str]) -> None:
    """Compile parts: `scripted` by a run over three bars, `threads` by one over one, others as `mei warmup` does."""
    for part in parts:
        if part == "scripted":
            run_scripted(bind.bind(scripted), [one([candle(100)] * 3)], Rules(), Sizing(), script_of({}, 3, 1))
        elif part == "threads":
            launch("ema_cross")
        else:
            warm_up(read_settings(), (part,))


if __name__ == "__main__":
    main(sys.argv[1:])
