"""Compile what tests call, so that no test waits for it: the kernels of MEI, and those that only tests have.

    MEI_CACHE=FOLDER PYTHONPATH=tests python tests/kernels/warm.py

The fixture `compiled_kernels` looks in `FOLDER/kernels`. One process does it all: engines share most of their rules.
"""

import tempfile
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


def main() -> None:
    """Compile what `mei warmup` does, run the engine of the tests over three bars, and the threads over one."""
    warm_up(read_settings())
    run_scripted(bind.bind(scripted), [one([candle(100)] * 3)], Rules(), Sizing(), script_of({}, 3, 1))
    launch("ema_cross")


if __name__ == "__main__":
    main()
