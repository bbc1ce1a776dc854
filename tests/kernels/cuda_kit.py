"""Combos that differ in all that a sweep may vary, run by the simulation on this processor: what a GPU must equal."""

from types import ModuleType
from typing import NamedTuple

import numpy as np
from kernel_kit import Case, Inputs, inputs_of
from random_markets import BOLD, random_case, random_values

from kernels import bind
from kernels.book import make_book
from kernels.params import SIGNAL_ROLES
from kernels.strategies import load

COMBOS = 6
SIGNAL_GROUPS = 3


class Told(NamedTuple):
    """What combos did, as plain numbers."""

    accounts: np.ndarray
    days: np.ndarray


def told(accounts: np.ndarray, days: np.ndarray) -> Told:
    return Told(np.array(accounts.tolist(), dtype=np.float64), np.array(days))


def same(one: Told, other: Told) -> bool:
    """Equal to the last bit."""
    return all(a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


def inputs_for(strategy: ModuleType, seed: int) -> tuple[Case, Inputs]:
    """A market, and `COMBOS` combos in `SIGNAL_GROUPS` groups, in order; the last one has sizes that liquidate it."""
    rng = np.random.default_rng(seed)
    case = random_case(rng, strategy.PARAMETERS)
    inputs = inputs_of(strategy, case)
    params = np.repeat(inputs.params, COMBOS, axis=0)
    signal_params = np.repeat(inputs.signal_params, SIGNAL_GROUPS, axis=0)
    signal_group_of = np.arange(COMBOS, dtype=np.int64) * SIGNAL_GROUPS // COMBOS
    for k in range(COMBOS):
        other = random_values(rng, strategy.PARAMETERS)
        for parameter in strategy.PARAMETERS:
            if k and parameter.role in {"exit", "sizing"}:
                params[parameter.name][k] = parameter.encode(other[parameter.path])
    for parameter in strategy.PARAMETERS:
        if parameter.path in BOLD:
            params[parameter.name][-1] = parameter.encode(BOLD[parameter.path])
    for e in range(1, SIGNAL_GROUPS):
        other = random_values(rng, strategy.PARAMETERS)
        for parameter in strategy.PARAMETERS:
            if parameter.role in SIGNAL_ROLES - {"feature"} and rng.random() < 0.3:
                signal_params[parameter.name][e] = parameter.encode(other[parameter.path])
                params[parameter.name][signal_group_of == e] = signal_params[parameter.name][e]
    rows = np.repeat(inputs.column_of, SIGNAL_GROUPS, axis=0)
    return case, inputs._replace(
        params=params, signal_params=signal_params, signal_group_of=signal_group_of, column_of=rows
    )


def on_processor(name: str, case: Case, inputs: Inputs, last: int = 0) -> Told:
    """Results of the simulation for them up to the step `last` (0: to the end)."""
    simulation = bind.simulation(name)
    book = make_book(load_memory(name), COMBOS, len(case.symbols), 16)
    simulation.open_books(book, case.rules.initial_usd)
    simulation.run(*inputs, case.first, last or case.steps, book)
    return told(book.accounts, book.days)


def load_memory(name: str) -> tuple[str, ...]:
    return getattr(load(name), "MEMORY", ())
