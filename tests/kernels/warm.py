"""Compile what only tests have, so that no test waits for it: engines of some strategies, threads of a fake card.

    PYTHONPATH=tests python tests/kernels/warm.py FOLDER

FOLDER is what the fixture `compiled_kernels` calls the folder of all kernels. `mei warmup` compiles those of the
strategies that MEI has.
"""

import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import cuda_kit
import scripted
from gpu_kit import FakeCupy, write_kernels
from kernel_kit import candle, one, run_scripted, script_of
from naive import Rules, Sizing

from kernels import bind
from kernels.cache import use_cache
from kernels.cuda.launch import Card, Job
from kernels.cuda.manifest import read
from kernels.strategies import load


def lean() -> SimpleNamespace:
    """The scripted strategy without exits of its own."""
    return SimpleNamespace(**{**vars(scripted), "NAME": f"{scripted.NAME}_lean", "EXITS": ()})


def launch(name: str) -> None:
    """Take combos of a strategy through one bar, on a card that is fake."""
    case, inputs = cuda_kit.inputs_for(load(name), 1)
    with tempfile.TemporaryDirectory() as root:
        folder = write_kernels(Path(root), name)
        card = Card(FakeCupy(), load(name), read(folder), folder)
        card.load(inputs.market, inputs.symbols, inputs.models, inputs.columns)
        few = (inputs.entry_of, inputs.params, inputs.entries, inputs.rows)
        card.run(Job(*few, case.first, case.first + 1, case.rules.initial_usd))


def main(folder: Path) -> None:
    """Run each engine once over three bars, and the threads once over one."""
    use_cache(folder)
    for strategy in (scripted, lean()):
        run_scripted(bind.bind(strategy), [one([candle(100)] * 3)], Rules(), Sizing(), script_of({}, 3, 1))
    launch("ema_cross")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
