"""The benchmark of the feed measures real processes: a simulator, a feed and a lane."""

import json
from pathlib import Path

import pytest

from live import feed_bench
from mei_pipeline.cli.main import run
from mei_pipeline.settings import Settings


def test_the_whole_way_is_measured(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(feed_bench, "SYMBOLS", 3)
    monkeypatch.setattr(feed_bench, "_STEPS", 5)
    monkeypatch.setattr("mei_pipeline.settings.read_settings", lambda: Settings(home=home, config=home))
    real = feed_bench.run_feed
    monkeypatch.setattr(feed_bench, "run_feed", lambda settings, _seconds, progress: real(settings, 3, progress))
    assert run(["bench", "feed", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["seconds"], found["symbols"], found["losses"], found["missing_steps"]) == (3, 3, 0, 0)
    assert found["steps"] >= 2
    assert found["messages_per_s"] > 0.0
    assert 0.0 < found["feed_to_lane_p50_ms"] <= found["feed_to_lane_p99_ms"]
    assert 0.0 < found["lag_p50_ms"] <= found["lag_p99_ms"]
    assert found["feed_end_mb"] > 10.0
