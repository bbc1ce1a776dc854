"""Measured speeds of this machine's processors and its GPU by kind of sweep, kept for the next sweep of that kind.

A small JSON file in the cache. What is damaged, of other rules, another device or older than a month is measured anew;
a lost file costs one measurement.
"""

import json
import math
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter

from kernels.cache import rules_hash
from mei_pipeline import files
from mei_pipeline.errors import MeiError
from mei_pipeline.settings import Settings

FILE = "speeds.json"
"""Name of the file in the cache."""

_OLD_S = 30 * 24 * 3600.0


@dataclass(frozen=True)
class SweepKind:
    """A kind of sweep on a machine: within a kind one speed is close to another.

    Attributes:
        device: Name of the GPU.
        threads: Threads at work where no GPU is.
        strategy: The strategy.
        method: Method of the search.
        intervals: Intervals of bars: between two bars of the longest no signal changes.
        symbols: Symbols of the book, as a power of two.
        combos: Combos that a GPU gets at a time, as a power of two.
        sharing: Combos that share their signals, as a power of two: to each of many, signals cost nothing.
    """

    device: str
    threads: int
    strategy: str
    method: str
    intervals: tuple[str, ...]
    symbols: int
    combos: int
    sharing: int

    @property
    def key(self) -> str:
        """The kind, this machine and these rules in one line."""
        sizes = f"2^{self.symbols} symbols, 2^{self.combos} combos, 2^{self.sharing} of them alike"
        of = f"{self.method} of {self.strategy}, {' '.join(self.intervals)}, {sizes}"
        return f"{socket.gethostname()}, {self.threads} threads, {self.device}: {of}, rules {rules_hash()}"


@dataclass(frozen=True)
class Speeds:
    """Bar-steps per second of each, and when that was measured.

    Attributes:
        cpu: Of the processors.
        cuda: Of the GPU.
        measured_s: Seconds since 1970.
    """

    cpu: float
    cuda: float
    measured_s: float


def read_speeds(settings: Settings, kind: SweepKind) -> Speeds | None:
    """The speeds of a kind that were measured within a month; None where there are none."""
    return _read(settings).get(kind.key)


def write_speeds(settings: Settings, kind: SweepKind, speeds: Speeds) -> None:
    """Keep the speeds of a kind; where the cache can't be written, the next sweep measures again."""
    found = {key: each for key, each in _read(settings).items() if key.endswith(rules_hash())}
    found[kind.key] = speeds
    try:
        files.write_json(settings.cache / FILE, {key: asdict(each) for key, each in sorted(found.items())})
    except MeiError:
        return


_FIGURES = TypeAdapter(dict[str, Speeds])


def _read(settings: Settings) -> Mapping[str, Speeds]:
    try:
        found = _FIGURES.validate_python(json.loads((settings.cache / FILE).read_bytes()))
    except (OSError, ValueError, RecursionError):
        return {}
    now_s = time.time()
    return {
        key: each
        for key, each in found.items()
        if 0.0 <= now_s - each.measured_s < _OLD_S and 0.0 < each.cpu < math.inf and 0.0 < each.cuda < math.inf
    }
