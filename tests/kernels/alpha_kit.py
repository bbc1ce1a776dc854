"""Scenes for the rules of `mei_alpha`, and edges at which exactly one rule flips.

A scene names everything that a rule may look at. `but` changes some of it: a parameter by the last part of its path,
a feature by its name, a feature of the bar before with `before_`, a field of the symbol's record with `held_`, and the
fields of `Scene` by theirs. An edge gives a scene the numbers just below a value, at it, and just above it.
"""

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from kernel_kit import blank_book

from kernels.params import record_of
from kernels.strategies import mei_alpha
from kernels.strategies.mei_alpha.gates import MarketContext
from kernels.strategies.mei_alpha.signals import HIGH, LOW, MEDIUM, code_of, may_open, mode_of, tier_of

Features = namedtuple("Features", [use.name for use in mei_alpha.FEATURES])  # noqa: PYI024 - names are data

PARAMETERS = {parameter.name: parameter for parameter in mei_alpha.PARAMETERS}
TIERS = {"low": LOW, "medium": MEDIUM, "high": HIGH}
MODES = {1: "trend", 2: "pullback", 3: "drift"}

LONG_FEATURES = {
    "close": 100.0,
    "volume": 300.0,
    "ema_fast": 99.0,
    "ema_slow": 98.0,
    "ema_macro": 97.0,
    "adx": 30.0,
    "adx_slope": 0.25,
    "rsi": 60.0,
    "stoch_k": 0.5,
    "atr": 1.0,
    "atr_slope": 0.0,
    "atr_mean": 1.0,
    "bb_ratio": 1.0,
    "volume_mean": 100.0,
    "volume_short": 100.0,
    "slope": 0.001,
    "macd_hist": 0.5,
    "macd_run": 1.0,
}
"""A rising market that the default parameters enter long, at tier high."""

NEAR = 1e-9
"""How near, relative to the edge, just below and just above are: nearer would be lost in what rules compute."""

SHORT_FEATURES = LONG_FEATURES | {
    "ema_fast": 101.0,
    "ema_slow": 102.0,
    "ema_macro": 103.0,
    "rsi": 40.0,
    "slope": -0.001,
    "macd_hist": -0.5,
    "macd_run": -1.0,
}
"""Its mirror image."""


@dataclass(frozen=True)
class Scene:
    """What rules see: see the module."""

    now: dict[str, float]
    before: dict[str, float]
    price: float = 100.0
    age: int = 200
    is_benchmark: bool = False
    breadth: float = 50.0
    benchmark: str = "unknown"
    code: int = 0
    value: float = 10_000.0
    most_leverage: float = 50.0
    minutes: float = 1e9
    leaving: bool = False
    lots: float = 100.0
    params: dict[str, Any] = field(default_factory=dict)
    held: dict[str, float] = field(default_factory=dict)

    def but(self, **changes: Any) -> "Scene":
        """The same scene with these changes."""
        parts = {name: dict(getattr(self, name)) for name in ("now", "before", "params", "held")}
        fields: dict[str, Any] = {}
        for name, value in changes.items():
            if name in PARAMETERS:
                parts["params"][name] = value
            elif name in parts["now"]:
                parts["now"][name] = value
            elif name.startswith("before_"):
                assert name.removeprefix("before_") in parts["before"]
                parts["before"][name.removeprefix("before_")] = value
            elif name.startswith("held_"):
                parts["held"][name.removeprefix("held_")] = value
            else:
                fields[name] = value
        return replace(self, **parts, **fields)


LONG = Scene(LONG_FEATURES, LONG_FEATURES | {"close": 99.5, "ema_fast": 98.5})
SHORT = Scene(SHORT_FEATURES, SHORT_FEATURES | {"close": 100.5, "ema_fast": 101.5})


def record(scene: Scene) -> np.record:
    """Parameters as the kernels see them: the defaults, and the scene's."""
    values = [scene.params.get(name, parameter.default) for name, parameter in PARAMETERS.items()]
    row = tuple(
        value if isinstance(value, float) else parameter.encode(value)
        for parameter, value in zip(PARAMETERS.values(), values, strict=True)
    )
    return np.array([row], record_of(mei_alpha.PARAMETERS))[0]


def features(values: dict[str, float]) -> Features:
    return Features(**values)


def market_context(scene: Scene) -> MarketContext:
    flags = {"unknown": (0.0, 0.0, 0.0), "up": (1.0, 0.0, 1.0), "down": (0.0, 1.0, 1.0), "level": (0.0, 0.0, 1.0)}
    return MarketContext(scene.breadth, *flags[scene.benchmark])


def slot_of(scene: Scene) -> np.record:
    """A symbol's record; everything that the scene doesn't name is as in a flat book."""
    position = blank_book(mei_alpha.MEMORY, 1, 1, tile=1, log_rows=0, steps=0).positions[0, 0]
    for name, value in scene.held.items():
        assert name in position.dtype.names
        position[name] = value
    return position


def signal_code(scene: Scene) -> int:
    return int(
        mei_alpha.signal(
            scene.price,
            scene.age,
            scene.is_benchmark,
            features(scene.now),
            features(scene.before),
            market_context(scene),
            record(scene),
        )
    )


def told(scene: Scene) -> str:
    """The signal in words, as in `long high trend`; `barred` where SSF or REEF lets it neither open nor add."""
    code = signal_code(scene)
    if code == 0:
        return "none"
    tier = next(name for name, number in TIERS.items() if number == tier_of(code))
    words = ["long" if code > 0 else "short", tier, MODES[int(mode_of(code))]]
    return " ".join([*words, *([] if may_open(code) else ["barred"])])


def code(side: int, tier: str = "high", mode: int = 1, *, opens: bool = True) -> int:
    """The integer of a signal."""
    return int(code_of(side > 0, TIERS[tier], mode, opens))


def look(ask: Callable[[Scene], Any], scene: Scene, name: str, edge: float) -> list[Any]:
    """What `ask` says just below an edge of the number called `name`, at it, and just above it."""
    little = abs(edge or 1.0) * NEAR
    return [ask(scene.but(**{name: value})) for value in (edge - little, edge, edge + little)]


def edges(*rows: tuple[str, Scene, str, float, tuple[Any, Any, Any]]) -> pytest.MarkDecorator:
    """Rows of (what it shows, scene, what changes, edge, answers below, at and above)."""
    return pytest.mark.parametrize(
        ("scene", "name", "edge", "answers"), [row[1:] for row in rows], ids=[row[0] for row in rows]
    )


def flips(*rows: tuple[str, Scene, dict[str, Any], Any, Any]) -> pytest.MarkDecorator:
    """Rows of (what it shows, scene, change, answer without it, answer with it)."""
    return pytest.mark.parametrize(
        ("scene", "change", "without", "with_it"), [row[1:] for row in rows], ids=[row[0] for row in rows]
    )
