"""Run combos in numba's CUDA simulator, one thread each, and write what they did; a process of its own does this.

Usage: simulated.py STRATEGY SEED FILE. The simulator is chosen by the environment when numba is imported:
NUMBA_ENABLE_CUDASIM=1, and NUMBA_DISABLE_JIT=1, so that a thread calls the engine as plain Python.
"""

import sys
from types import ModuleType

import numpy as np
from kernel_kit import Case, Inputs, fields_win, inputs_of
from numba import cuda
from random_markets import random_case, random_values

from kernels import bind
from kernels.book import Book, make_book
from kernels.ledger import BLOCKS
from kernels.strategies import load

COMBOS = 6
TILE = 7
LOG_ROWS = 400

BY_COMBO = ("accounts", "slots", "active")
SHARED = tuple(name for name in Book._fields if name not in {*BY_COMBO, "days"})
"""What the combos of a book share: in threads of their own, each has one."""


def inputs_for(strategy: ModuleType, seed: int) -> tuple[Case, Inputs]:
    """A market, and `COMBOS` combos that differ in what is not about signals."""
    rng = np.random.default_rng(seed)
    case = random_case(rng, strategy.PARAMETERS)
    one_combo = inputs_of(strategy, case)
    params = np.repeat(one_combo.params, COMBOS, axis=0)
    for k in range(1, COMBOS):
        other = random_values(rng, strategy.PARAMETERS)
        for parameter in strategy.PARAMETERS:
            if parameter.role in {"exit", "sizing"}:
                params[parameter.name][k] = parameter.encode(other[parameter.path])
    return case, one_combo._replace(params=params, entry_of=np.zeros(COMBOS, np.int64))


def books(memory: tuple[str, ...], symbols: int, recorded: int) -> Book:
    """A book for each thread: what combos share has a row for each of them."""
    whole = make_book(memory, COMBOS, symbols, TILE, log_rows=LOG_ROWS, recorded_steps=recorded)
    rows = {name: np.repeat(getattr(whole, name)[None], COMBOS, axis=0) for name in SHARED}
    return whole._replace(slots=whole.slots.view(fields_win(whole.slots.dtype)), **rows)


def simulate(engine: ModuleType, case: Case, inputs: Inputs, recorded: int) -> Book:
    """Run every combo in a thread of its own; more threads than combos are started."""

    @cuda.jit
    def kernel(given: Inputs, book: Book, usd: float, first: int, last: int) -> None:
        k = cuda.grid(1)
        if k >= COMBOS:
            return
        parts = {name: getattr(book, name)[k] for name in SHARED}
        parts |= {name: getattr(book, name)[k : k + 1] for name in BY_COMBO}
        mine = Book(**parts, days=book.days[:, :, k : k + 1])
        engine.open_books(mine, usd)
        engine.run(
            given.market,
            given.models,
            given.symbols,
            given.columns,
            given.rows,
            given.entries,
            given.entry_of[k : k + 1],
            given.params[k : k + 1],
            first,
            last,
            mine,
        )

    book = books(engine.MEMORY, len(case.symbols), recorded)
    kernel[2, 4](inputs, book, case.rules.initial_usd, case.first, case.steps)
    return book


def told(book: Book) -> dict[str, np.ndarray]:
    """What a book says, as plain arrays."""
    return {
        "accounts": np.array(book.accounts.tolist(), dtype=np.float64),
        "log": np.array(book.log.tolist(), dtype=np.float64).reshape(COMBOS, LOG_ROWS, -1),
        "equity": book.equity,
        "verdicts": book.verdicts,
        "days": book.days.reshape(BLOCKS, 3, COMBOS),
    }


def main(name: str, seed: str, file: str) -> None:
    """Write both kinds of run: with equity and verdicts kept, and without."""
    engine, strategy = bind.engine(name), load(name)
    case, inputs = inputs_for(strategy, int(seed))
    found = {}
    for recorded in (case.steps, 0):
        for key, array in told(simulate(engine, case, inputs, recorded)).items():
            found[f"{key} {recorded}"] = array
    np.savez(file, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
