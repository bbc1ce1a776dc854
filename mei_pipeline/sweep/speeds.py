"""Measured speeds of the CPU and the GPU by kind of sweep, stored for later sweeps of the same kind.

A small JSON file in the cache. Damaged entries, and those of other kernels, of another device or older than a month,
are ignored. A lost file costs one measurement.
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

_OLD_S = 30 * 24 * 3600.0  # age at which a measurement expires


@dataclass(frozen=True)
class SweepKind:
    """A kind of sweep on a machine; sweeps of one kind run at similar speeds.

    Attributes:
        device: Name of the GPU.
        threads: Threads of a sweep without a GPU.
        strategy: Strategy of the plan.
        method: Search method.
        intervals: Intervals of bars: signals change only at the close of the longest.
        symbols: Symbols of the book, as a power of two.
        combos: Combos that a GPU runs at a time, as a power of two.
        sharing: Combos with the same signals, as a power of two: the more share them, the less signals cost.
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
        """The kind, this machine and these kernels in one line."""
        sizes = f"2^{self.symbols} symbols, 2^{self.combos} combos, 2^{self.sharing} of them alike"
        of = f"{self.method} of {self.strategy}, {' '.join(self.intervals)}, {sizes}"
        return f"{socket.gethostname()}, {self.threads} threads, {self.device}: {of}, rules {rules_hash()}"


@dataclass(frozen=True)
class Speeds:
    """Measured bar-steps per second of each device.

    Attributes:
        cpu: Bar-steps per second of the CPU.
        cuda: Bar-steps per second of the GPU.
        measured_s: Time of the measurement, seconds since 1970.
    """

    cpu: float
    cuda: float
    measured_s: float


def read_speeds(settings: Settings, kind: SweepKind) -> Speeds | None:
    """Return the speeds of a kind measured within a month; None without a measurement."""
    return _read(settings).get(kind.key)


def write_speeds(settings: Settings, kind: SweepKind, speeds: Speeds) -> None:
    """Store the speeds of a kind. If the cache can't be written, the next sweep measures again."""
    stored = {key: each for key, each in _read(settings).items() if key.endswith(rules_hash())}
    stored[kind.key] = speeds
    try:
        files.write_json(settings.cache / FILE, {key: asdict(each) for key, each in sorted(stored.items())})
    except MeiError:
        return


_SPEEDS = TypeAdapter(dict[str, Speeds])


def _read(settings: Settings) -> Mapping[str, Speeds]:
    try:
        stored = _SPEEDS.validate_python(json.loads((settings.cache / FILE).read_bytes()))
    except (OSError, ValueError, RecursionError):
        return {}
    now_s = time.time()
    return {
        key: each
        for key, each in stored.items()
        if 0.0 <= now_s - each.measured_s < _OLD_S and 0.0 < each.cpu < math.inf and 0.0 < each.cuda < math.inf
    }
