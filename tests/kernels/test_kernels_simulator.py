"""The kernels of the GPU as threads of numba's CUDA simulator: the same bits as the simulation on this processor."""

import os
import subprocess
import sys
from pathlib import Path

import cuda_kit
import numpy as np
import pytest
import simulated

from kernels.ledger import ACCOUNT
from kernels.strategies import load

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

SEEDS = {"one": ("ema_cross", (9,)), "ema_cross": ("ema_cross", (9, 14, 77)), "mei_alpha": ("mei_alpha", (11, 15))}
"""Books of several symbols: finer steps than main bars, and not; groups of symbols with values of their own, and one
group, whose parameters a thread copies; fills at closes and at opens, stops inside bars; liquidations."""


@pytest.mark.parametrize(
    "books", ["one", *(pytest.param(books, marks=pytest.mark.long) for books in ("ema_cross", "mei_alpha"))]
)
def test_simulated_threads_equal_the_processor(tmp_path: Path, books: str):
    name, seeds = SEEDS[books]
    file = tmp_path / "told.npz"
    done = subprocess.run(
        [sys.executable, str(HERE / "simulated.py"), name, str(file), *map(str, seeds)],
        env={
            **os.environ,
            "NUMBA_ENABLE_CUDASIM": "1",
            "NUMBA_DISABLE_JIT": "1",
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, HERE.parent, HERE))),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    groups, tiles = set(), 0
    with np.load(file) as found:
        for seed in seeds:
            case, inputs = cuda_kit.inputs_for(load(name), seed)
            expected = cuda_kit.on_processor(name, case, inputs)
            assert cuda_kit.same(cuda_kit.Told(found[f"accounts {seed}"], found[f"days {seed}"]), expected)
            fills = expected.accounts[:, ACCOUNT.names.index("fills")]
            assert fills.sum() > 20  # else the seed says nothing
            assert len(set(fills)) > 2
            assert expected.accounts[:, ACCOUNT.names.index("liquidations")].any()
            groups.add(inputs.params.shape[1] > 1)
            tiles = max(tiles, case.steps // simulated.TILE)
    assert groups == {False, True} or len(seeds) == 1
    assert tiles > 2
