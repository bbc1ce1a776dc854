"""Small lakes with seeded random walks, and the pieces of a night over them."""

import atexit
import functools
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from policy_kit import policy_text

from mei_pipeline.candles.instruments import default_instruments
from mei_pipeline.candles.lake import Lake, merge_candles, merge_funding, merge_instruments
from mei_pipeline.config.load import Configuration, load_config
from mei_pipeline.config.models import SweepSpec
from mei_pipeline.settings import Settings

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
START_MS = 1_735_689_600_000  # 2025-01-01
MOST_DAYS = 90
SYMBOLS = ("AAA", "BBB", "CCC")
VENUE = "test"


def walk(symbol: str, days: int, seed: int, start_ms: int = START_MS, drift: float = 0.0) -> pl.DataFrame:
    """Hourly candles of one symbol: a random walk whose drift per bar turns round every sixty bars."""
    rng = np.random.default_rng([seed, *symbol.encode()])
    bars = MOST_DAYS * 24
    trend = np.where(np.arange(bars) // 60 % 2 == 0, drift, -drift)
    close = 100.0 * np.exp(np.cumsum(rng.normal(trend, 0.006)))
    opened = np.concatenate(([100.0], close[:-1]))
    spread = np.abs(rng.normal(0.0, 0.002, (2, bars)))
    return pl.DataFrame(
        {
            "venue": VENUE,
            "symbol": symbol,
            "interval": "1h",
            "open_ms": start_ms + HOUR_MS * np.arange(bars, dtype=np.int64),
            "open": opened,
            "high": np.maximum(opened, close) * (1.0 + spread[0]),
            "low": np.minimum(opened, close) * (1.0 - spread[1]),
            "close": close,
            "volume": rng.uniform(1.0, 100.0, bars),
            "trades": pl.Series([None] * bars, dtype=pl.Int64),
            "source": "walk",
        }
    ).head(days * 24)


def quarters(hourly: pl.DataFrame) -> pl.DataFrame:
    """Four bars for each hourly one, on a straight line from its open to its close."""
    parts = [
        hourly.with_columns(
            interval=pl.lit("15m"),
            open_ms=pl.col("open_ms") + part * HOUR_MS // 4,
            open=pl.col("open") + (pl.col("close") - pl.col("open")) * part / 4,
            close=pl.col("open") + (pl.col("close") - pl.col("open")) * (part + 1) / 4,
            volume=pl.col("volume") / 4,
        )
        for part in range(4)
    ]
    bounded = pl.concat(parts).with_columns(
        high=pl.max_horizontal("open", "close"), low=pl.min_horizontal("open", "close")
    )
    return bounded.sort("symbol", "open_ms")


def fill_lake(
    settings: Settings, days: int = 60, symbols: Sequence[str] = SYMBOLS, seed: int = 1, drift: float = 0.0
) -> Lake:
    """A lake with `days` of hourly bars and eight-hourly funding of each symbol; the same one is made once."""
    if settings.lake.exists():
        return _fill(Lake(settings.lake), days, tuple(symbols), seed, drift)
    shutil.copytree(_made(days, tuple(symbols), seed, drift), settings.lake)
    return Lake(settings.lake)


@functools.cache
def _made(days: int, symbols: tuple[str, ...], seed: int, drift: float) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="mei-lake-", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")))
    atexit.register(shutil.rmtree, folder)
    return _fill(Lake(folder / "lake"), days, symbols, seed, drift).root


def _fill(lake: Lake, days: int, symbols: tuple[str, ...], seed: int, drift: float) -> Lake:
    now_ms = START_MS + (days + 1) * DAY_MS
    merge_candles(lake, pl.concat([walk(name, days, seed, drift=drift) for name in symbols]), now_ms=now_ms)
    times = START_MS + 8 * HOUR_MS * np.arange(1, days * 3, dtype=np.int64) + 37
    merge_funding(
        lake,
        pl.concat(
            [
                pl.DataFrame(
                    {
                        "venue": VENUE,
                        "symbol": name,
                        "time_ms": times,
                        "rate": 0.0001,
                        "premium": pl.Series([None] * len(times), dtype=pl.Float64),
                        "source": "walk",
                    }
                )
                for name in symbols
            ]
        ),
        now_ms=now_ms,
    )
    merge_instruments(lake, default_instruments(VENUE, dict.fromkeys(symbols, 100.0)), now_ms=now_ms)
    return lake


def spec(**changes: object) -> SweepSpec:
    """A sweep of twelve combos."""
    return SweepSpec.model_validate(
        {
            "strategy": "ema_cross",
            "venue": VENUE,
            "interval": "1h",
            "params": {"entry.warmup_bars": 50},
            "axes": {
                "trade.sl_atr_mult": (1.5, 3.0),
                "indicators.ema_fast_window": (5, 9, 13),
                "indicators.ema_slow_window": (21, 34),
            },
            "chunk_combos": 5,
        }
        | changes
    )


def write_config(
    folder: Path,
    *,
    universe: str = "all",
    days: int = 50,
    holdout: int = 10,
    fetched: tuple[str, ...] = ("1h",),
    sweep: str = "",
    **policy: object,
) -> Configuration:
    """A configuration folder for nights over `fill_lake`, and what it says.

    `sweep` is added to the search, and `policy` is what `policy_kit.policy` is told.
    """
    anchors = ", ".join(f"{interval}: 2025-01-01T00:00:00Z" for interval in fetched)
    (folder / "sweeps").mkdir(parents=True)
    (folder / "lanes").mkdir()
    (folder / "pipeline.yaml").write_text(
        f"venue: {VENUE}\nstart: 2025-01\nintervals: [{', '.join(fetched)}]\nanchors: {{{anchors}}}\n"
        f"universe: {universe}\nsources: []\n"
        f"window: {{days: {days}, holdout_days: {holdout}}}\nprofiles: {{smoke: {{sweep: smoke}}}}\n"
    )
    (folder / "policy.yaml").write_text(policy_text(**policy))
    (folder / "sweeps" / "smoke.yaml").write_text(
        f"strategy: ema_cross\ninterval: 1h\n{sweep}\nparams: {{entry.warmup_bars: 50}}\nchunk_combos: 5\n"
        "axes: {indicators.ema_fast_window: [5, 9, 13], indicators.ema_slow_window: [21, 34], "
        "trade.sl_atr_mult: [1.5, 3.0]}\n"
    )
    (folder / "lanes" / "paper1.yaml").write_text(f"mode: paper\nvenue: {VENUE}\nrole: primary\n")
    return load_config(folder)
