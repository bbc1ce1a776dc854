"""Run the kernels of the GPU in numba's CUDA simulator and write what the combos did; a process of its own does this.

Usage: simulated.py STRATEGY FILE SEED... The simulator is chosen by the environment when numba is imported:
NUMBA_ENABLE_CUDASIM=1, and NUMBA_DISABLE_JIT=1, so that a thread runs the rules as plain Python.
"""

import inspect
import sys

import cuda_kit
import numpy as np
from kernel_kit import Case, Inputs
from numba import cuda

from kernels.cuda import build
from kernels.cuda.launch import run_tiles
from kernels.cuda.layout import LayoutSizes, batch_arrays
from kernels.strategies import load

TILE = 23
_THREADS = 5  # of a block: the last block has threads without work


def simulate(name: str, case: Case, inputs: Inputs) -> cuda_kit.Told:
    """Take every combo through the market, in a thread of its own."""
    threads = build.bind(name, cuda, "simulator")
    _, groups, features = inputs.column_of.shape
    sizes = LayoutSizes(cuda_kit.COMBOS, cuda_kit.SIGNAL_GROUPS, TILE, len(case.symbols), groups, features)
    arrays = {
        each: np.zeros(array.shape, array.dtype, order=array.order)
        for each, array in batch_arrays(load(name), sizes).items()
    }
    arrays |= inputs._asdict()

    def launch(kernel: str, count: int, scalars: dict[str, float]) -> None:
        function = getattr(threads, kernel)
        known = arrays | scalars
        given = [known[each] for each in inspect.signature(function).parameters]
        cuda.jit(function)[-(-count // _THREADS), _THREADS](*given)

    since = inputs.market.since.tolist()
    for _ in run_tiles(launch, sizes, case.first, case.steps, case.rules.initial_usd, since):
        pass
    return cuda_kit.told(arrays["accounts"], arrays["days"])


def main(name: str, file: str, *seeds: str) -> None:
    found = {}
    for seed in seeds:
        done = simulate(name, *cuda_kit.inputs_for(load(name), int(seed)))
        found |= {f"accounts {seed}": done.accounts, f"days {seed}": done.days}
    np.savez(file, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
