"""The home of `mei demo`: a synthetic market with an edge of known size or without one, and its configuration.

Policy and search are those of the checkout, so configs of the demo pass the same gates as those of any nightly run.
"""

import shutil
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from mei_pipeline import files
from mei_pipeline.candles.ingest import ingest
from mei_pipeline.candles.lake import Lake
from mei_pipeline.candles.sources import build_source
from mei_pipeline.config.load import load_config
from mei_pipeline.errors import Refused
from mei_pipeline.execution.journal.opening import check_no_lane_runs
from mei_pipeline.settings import CHECKOUT, Settings

SYMBOLS = 10
SEED = 7
EDGE_SHARPE = 8.0
FROM, AS_OF = "2025-01-01T00:00:00Z", "2026-07-01T00:00:00Z"
TRADED_DAYS = 28
"""Days after `AS_OF` that the market goes on for in `mei demo --trade`."""
PROFILE = "nightly"

_MARK = ".mei-demo"

_PIPELINE = """\
# The market of the demo is synthetic: {edge}. Everything else is as on a real venue.
venue: synthetic
start: 2025-01
intervals: [1h]
anchors: {{1h: {start}}}
universe: all
sources:
  - kind: synthetic
    venue: synthetic
    seed: {seed}
    symbols: {symbols}
    interval: 1h
    from: {start}
    to: {end}
    edge_sharpe: {sharpe}
window:
  days: 500
  holdout_days: 42
profiles:
  smoke: {{sweep: cross, as_of: last}}
  nightly: {{sweep: cross, as_of: last}}
automation: off
"""

_LANE = """\
mode: paper
venue: synthetic
role: {role}
equity_usd: 10000
"""


@dataclass(frozen=True)
class Demo:
    """Settings of a demo.

    Attributes:
        home: Its home.
        edge_sharpe: Planted edge: net annual Sharpe ratio of the best parameters in the long run; 0 for none.
    """

    home: Path
    edge_sharpe: float

    @property
    def edge(self) -> str:
        """Description of the edge."""
        if self.edge_sharpe:
            return (
                f"its trends hold an edge; the best parameters earn a Sharpe ratio of about {self.edge_sharpe:g}, net"
            )
        return "no parameters have an edge in it"


def make_home(demo: Demo) -> None:
    """Create the demo's home again, without the files of an earlier demo.

    Raises:
        Refused: The folder is not empty and not the home of a demo.
        Busy: A lane of the earlier demo is running.
    """
    home = demo.home
    if home.exists() and any(home.iterdir()) and not (home / _MARK).exists():
        raise Refused(f"{home}: not empty and not made by `mei demo`; name another folder with --home")
    check_no_lane_runs(home / "lanes")
    home.mkdir(parents=True, exist_ok=True)
    (home / _MARK).touch()
    for entry in home.iterdir():
        if entry.name == _MARK:
            continue
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    config = home / "config"
    _write_pipeline(demo, AS_OF)
    for name, role in (("paper1", "primary"), ("paper2", "fallback"), ("paper3", "conservative")):
        files.write_bytes(config / "lanes" / f"{name}.yaml", _LANE.format(role=role).encode())
    for name in ("policy.yaml", "sweeps/cross.yaml"):
        files.write_bytes(config / name, (CHECKOUT / "config" / name).read_bytes())


def _write_pipeline(demo: Demo, end: str) -> None:
    pipeline = _PIPELINE.format(
        edge=demo.edge, start=FROM, end=end, seed=SEED, symbols=SYMBOLS, sharpe=demo.edge_sharpe
    )
    files.write_bytes(demo.home / "config" / "pipeline.yaml", pipeline.encode())


def extend_market(settings: Settings, demo: Demo) -> int:
    """Let the demo's market go on for `TRADED_DAYS`, import the new bars, and return its end in UTC milliseconds.

    The bars before `AS_OF` stay the same, so the promoted config has not seen the new ones.
    """
    end = datetime.fromisoformat(AS_OF) + timedelta(days=TRADED_DAYS)
    _write_pipeline(demo, end.isoformat().replace("+00:00", "Z"))
    config = load_config(settings.config)
    now_ms = time.time_ns() // 1_000_000
    for source in config.pipeline.sources:
        ingest(Lake(settings.lake), build_source(source), config.pipeline.intervals, now_ms=now_ms)
    return int(end.timestamp()) * 1000
