"""The rules as threads of numba's CUDA simulator, one for each combo: the same bits as compiled for this processor."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import simulated
from kernel_kit import bits, new_book

from kernels import bind
from kernels.strategies import load

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.mark.parametrize(("name", "seed"), [("ema_cross", 49), ("mei_alpha", 6)])
def test_simulated_threads_equal_the_processor(tmp_path: Path, name: str, seed: int):
    file = tmp_path / "told.npz"
    done = subprocess.run(
        [sys.executable, str(HERE / "simulated.py"), name, str(seed), str(file)],
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
    engine, strategy = bind.engine(name), load(name)
    case, inputs = simulated.inputs_for(strategy, seed)
    fills = 0
    with np.load(file) as told:
        for k in range(simulated.COMBOS):
            for recorded in (case.steps, 0):
                book = new_book(engine, case, log_rows=simulated.LOG_ROWS, recorded=recorded > 0)
                engine.run(
                    *inputs._replace(params=inputs.params[[k]], entry_of=inputs.entry_of[[k]]),
                    case.first,
                    case.steps,
                    book,
                )
                assert bits(told[f"accounts {recorded}"][k]) == bits([book.accounts[0].tolist()])
                assert bits(told[f"log {recorded}"][k]) == bits([list(row) for row in book.log.tolist()])
                assert bits(told[f"equity {recorded}"][k]) == bits(book.equity)
                assert (told[f"verdicts {recorded}"][k] == book.verdicts).all()
                assert bits(told[f"days {recorded}"][:, :, k]) == bits(book.days[:, :, 0])
            fills += int(book.accounts[0].fills)
    assert fills > 10  # else the seed says nothing
