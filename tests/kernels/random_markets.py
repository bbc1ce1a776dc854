"""Random and adversarial books for hypothesis: the shape is drawn, the numbers come from a drawn seed."""

import math

import numpy as np
from hypothesis import strategies as st
from kernel_kit import Script
from naive import Bar, Rules, Sizing, Symbol

SHAPES = ("walk", "zigzag", "jumps", "points", "constant", "denormal", "enormous")


def _path(rng: np.random.Generator, shape: str, bars: int) -> list[Bar]:
    start = {"denormal": 5e-322, "enormous": 1e295}.get(shape, float(np.exp(rng.normal(3, 1))))
    step = {"constant": 0.0, "jumps": 0.9, "zigzag": 0.1}.get(shape, 0.02)
    moves = rng.normal(0, step, (bars, 4)) if step else np.zeros((bars, 4))
    if shape == "zigzag":
        moves = np.abs(moves) * np.where(np.arange(bars) % 6 < 3, 1, -1)[:, None]
    prices = np.maximum(start * np.exp(np.cumsum(moves.ravel()).reshape(bars, 4)), math.ulp(0.0))
    bars_made = []
    for opened, one, two, closed in prices.tolist():
        if shape == "points":
            bars_made.append(Bar(closed, closed, closed, closed))
        else:
            group = (opened, one, two, closed)
            bars_made.append(Bar(opened, max(group), min(group), closed))
    return bars_made


def _symbol(rng: np.random.Generator, shape: str, bars: int, gaps: float) -> Symbol:
    made: list[Bar | None] = list(_path(rng, shape, bars))
    if gaps:
        listed, ends = sorted(rng.integers(0, bars + 1, 2)) if rng.random() < 0.3 else (0, bars)
        made = [bar if listed <= t < ends and rng.random() >= gaps else None for t, bar in enumerate(made)]
    funding = np.where(rng.random(bars) < 0.3, rng.normal(0, 0.003, bars), 0.0).tolist()
    return Symbol(
        made,
        funding if rng.random() < 0.6 else [0.0] * bars,
        lots=float(10 ** rng.integers(0, 9)),
        min_notional_usd=float(rng.choice([0.0, 0.0, 10.0, 300.0])),
        max_leverage=float(rng.choice([3.0, 20.0, 50.0])),
        maintenance_frac=float(rng.choice([0.0, 0.01, 0.2])),
    )


@st.composite
def symbol_lists(draw, max_bars: int = 60, max_symbols: int = 6) -> list[Symbol]:
    """One to six symbols, with all kinds of paths, gaps, listings and endings."""
    bars = draw(st.sampled_from([max_bars, max_bars, max_bars // 2, max_bars // 2, 9, 2, 1]))
    usual = st.sampled_from(SHAPES[:3])
    shapes = draw(st.lists(usual | st.sampled_from(SHAPES), min_size=1, max_size=max_symbols))
    gaps = draw(st.sampled_from([0.0, 0.0, 0.1, 0.5]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return [_symbol(rng, shape, bars, gaps) for shape in shapes]


def all_rules() -> st.SearchStrategy[Rules]:
    """Every fill model, cheap and dear, rich and poor."""
    return st.builds(
        Rules,
        next_open=st.booleans(),
        intrabar=st.booleans(),
        delay_bars=st.sampled_from([0, 0, 1, 2, 5]),
        fee=st.sampled_from([0.0, 0.00045, 0.01]),
        entry_slip=st.sampled_from([0.0, 0.0005, 0.03]),
        exit_slip=st.sampled_from([0.0, 0.0005, 0.03]),
        initial_usd=st.sampled_from([10_000.0, 100.0, 1e6]),
    )


def all_sizings() -> st.SearchStrategy[Sizing]:
    """Fractions of equity, far too much of it included, and fixed sizes."""
    places = st.integers(1, 6)
    fractions = [(0.1, 3.0), (0.7, 2.0), (4.0, 10.0), (15.0, 40.0), (1.0, 1.0)]
    by_equity = st.builds(
        lambda pair, places: Sizing(pair[0], 1.0, pair[1], places), st.sampled_from(fractions), places
    )
    by_units = st.builds(
        Sizing, st.none(), st.sampled_from([1.0, 0.29, 50.0, 1e9]), st.sampled_from([20.0, 1.0]), places
    )
    return by_equity | by_equity | by_units


@st.composite
def scripts(draw, symbols: list[Symbol]) -> Script:
    """Wishes in any order, equal ranks, distances from none to out of reach."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    often = draw(st.sampled_from([0.3, 0.1, 0.8]))
    script = []
    for t in range(len(symbols[0].bars)):
        row = []
        for symbol in symbols:
            bar = symbol.bars[t]
            price = bar.close if bar else 1.0
            side = float(rng.choice([-1.0, 1.0])) if rng.random() < often else 0.0
            stop, target = (price * float(x) for x in rng.choice([0.0, 0.01, 0.05, 2.0], 2))
            row.append((side, float(rng.integers(0, 3)), stop, target))
        script.append(row)
    return script
