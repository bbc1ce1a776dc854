"""A paper lane that dies while it sends orders goes on as if it had not."""

import pytest
from paper_kit import ALPHA, CROSS, FROM_MS, config, events_of, fills_of, make_bars, start_lane
from polars.testing import assert_frame_equal

from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.settings import Settings


@pytest.mark.parametrize(
    ("strategy", "params", "market"),
    [
        ("ema_cross", CROSS, {"market.fill": "close"}),
        ("ema_cross", CROSS, {"market.fill": "next_open", "market.delay_bars": 2}),
        ("mei_alpha", ALPHA, {"market.fill": "next_open"}),
    ],
)
def test_crashes_change_nothing(
    mei_settings: Settings, strategy: str, params: dict[str, object], market: dict[str, object]
) -> None:
    bars = make_bars()
    resolved = config(strategy, bars, params, market)
    plain, lane = (start_lane(mei_settings, bars, resolved) for _ in range(2))
    lane.crashes = {3, 8.5, 13, 16.5}
    plain.run(events_of(bars, FROM_MS, FROM_MS + 10 * DAY_MS))
    lane.run_through_crashes(FROM_MS + 10 * DAY_MS)
    assert lane.sent > 17
    assert_frame_equal(fills_of(lane.rows), fills_of(plain.rows), check_exact=True)
    assert lane.state.books[0].step.positions.tobytes() == plain.state.books[0].step.positions.tobytes()
    assert lane.broker.snapshot() == plain.broker.snapshot()
