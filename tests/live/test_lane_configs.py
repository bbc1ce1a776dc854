"""A config that is promoted while the lane runs: a second book, other symbols, and cash that is conserved."""

import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager

import pytest
from session_kit import FROM_MS, START_MS, TO_MS, Steps, feed_of, run_session

from live.bench_home import LANE, lane_config, promote_config
from live.feed_protocol import Subscribe
from live.lane_feed import Feed
from mei_pipeline.candles.intervals import HOUR_MS
from mei_pipeline.execution.journal.opening import journal_path
from mei_pipeline.params.identity import ResolvedConfig, config_id
from mei_pipeline.settings import Settings

WINDOWS = {"indicators.ema_fast_window": 3, "indicators.ema_slow_window": 9, "entry.warmup_bars": 20}


def config(*symbols: str) -> ResolvedConfig:
    return lane_config("ema_cross", symbols, WINDOWS)


def rows(settings: Settings, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(journal_path(settings.lanes, LANE))) as journal:
        return journal.execute(query).fetchall()


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_config_of_other_symbols_is_followed_without_a_restart(lane_home: Settings, size: int) -> None:
    first, second = config("ETH"), config("BTC")
    promote_config(lane_home, first, START_MS, generation=2)
    wanted_by_time: list[Subscribe] = []

    class Promoting(Steps):
        """Promotes the second config while the first one trades."""

        read_before = 0

        def read(self, timeout_s: float):
            piece = super().read(timeout_s)
            self.read_before += len(piece)
            if self.read_before >= 12 and len(wanted_by_time) == 1:
                promote_config(lane_home, second, START_MS, generation=3)
            return piece

    @contextmanager
    def open_feed(wanted: Subscribe) -> Generator[Feed]:
        wanted_by_time.append(wanted)
        with feed_of(lane_home, size=10_000)(wanted) as whole:
            yield Promoting(whole.read(0.0), size)

    result = run_session(lane_home, open_feed=open_feed)
    assert result.reason == "the lake ends here"
    assert [wanted.symbols for wanted in wanted_by_time] == [("ETH",), ("BTC", "ETH")]
    steps = rows(lane_home, "SELECT step_ms FROM events WHERE event = 'StepClosed' ORDER BY seq")
    assert steps == [(time_ms,) for time_ms in range(FROM_MS, TO_MS, HOUR_MS)]

    changes = set(rows(lane_home, "SELECT config_id, change FROM config_changes"))
    assert changes >= {(config_id(first), change) for change in ("waiting", "opened", "draining")}
    assert changes >= {(config_id(second), change) for change in ("waiting", "opened")}
    bought = rows(lane_home, "SELECT DISTINCT symbol, config_id FROM fills WHERE reason = 'entry' ORDER BY symbol")
    assert ("BTC", config_id(second)) in bought

    # What the books have gained is the profit of their trades and what their positions are worth more.
    [(equity, cash)] = rows(lane_home, "SELECT equity_usd, cash_usd FROM equity ORDER BY step_ms DESC LIMIT 1")
    [(profit,)] = rows(lane_home, "SELECT total(pnl_usd) FROM trades")
    assert cash == pytest.approx(10_000.0 + profit, abs=1e-6)
    assert equity > 0.0
