"""A paper lane that dies while it sends orders goes on as if it had not."""

import pytest
from paper_kit import ALPHA, CROSS, config, events_of, fills_of, make_bars, replay_of, start_lane
from polars.testing import assert_frame_equal

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
    lane = start_lane(mei_settings, bars, resolved)
    lane.crashes = {3, 20.5, 40, 60.5}
    lane.run_through_crashes(events_of(bars))
    assert lane.sent > 65
    assert_frame_equal(fills_of(lane.rows), replay_of(mei_settings, bars, resolved).fills, check_exact=True)
