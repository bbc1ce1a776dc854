"""The sensor that hands over: it tries again until the files of a lane can be written, and a running lane follows."""

import errno
from collections.abc import Generator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.defs_state.base import set_defs_state_storage
from disk_kit import refusing
from hand_over_kit import Desk, follow, make_desk, shown
from session_kit import CONFIG, LANE, OTHER

from assets.run import open_instance, run_job
from assets.sensors import hand_over, hand_over_run
from mei_pipeline.config.load import load_config
from mei_pipeline.errors import MeiError
from mei_pipeline.registry.lanes import drift, is_acknowledged, lane_folder, read_status
from mei_pipeline.registry.store import lane_pointer
from mei_pipeline.settings import Settings, read_settings

HOUR_S = 3_600
"""The longest wait between two attempts."""


@pytest.fixture
def desk(lane_home: Settings, monkeypatch: pytest.MonkeyPatch) -> Generator[Desk]:
    monkeypatch.setenv("MEI_CONFIG", str(lane_home.config))
    monkeypatch.setenv("DAGSTER_HOME", "")
    with set_defs_state_storage(None):  # an instance that was entered leaves a storage behind
        yield make_desk(read_settings())


def test_a_hand_over_goes_on_until_the_files_are_written(desk: Desk) -> None:
    """The disk of the lane is full from the moment at which the registry has moved it."""
    first, second = desk.judged(CONFIG), desk.judged(OTHER)
    desk.promote(first, 0)
    follow(desk.settings, to_step=4)
    folder, config, full = lane_folder(desk.settings.lanes, LANE), load_config(desk.settings.config), False

    def refuse(path: Path, writes: bool) -> int:
        return errno.ENOSPC if full and writes and path.is_relative_to(folder) else 0

    def fill(step: str) -> None:
        nonlocal full
        full = full or step == "pointer moved"

    with open_instance(desk.settings, config) as instance, refusing(refuse):
        with pytest.raises(MeiError, match="No space left"):
            desk.promote(second, 1, fault_hook=fill)
        pointer = lane_pointer(desk.registry, LANE)
        assert pointer is not None
        assert (pointer.config_id, len(drift(desk.registry, desk.settings.lanes, LANE).differences)) == (second, 1)
        [request] = hand_over(dg.build_sensor_context(instance=instance)).run_requests or []
        keys = {request.run_key}
        for _ in range(2):
            with pytest.raises(MeiError, match="No space left"):
                run_job("hand_over", desk.settings, config, instance, tags=request.tags)
            assert len(drift(desk.registry, desk.settings.lanes, LANE).differences) == 1
            assert isinstance(hand_over(dg.build_sensor_context(instance=instance)), dg.SkipReason)
            ended_s = max(record.end_time or 0.0 for record in instance.get_run_records())
            request = hand_over_run(instance, LANE, pointer.transition_id, ended_s + HOUR_S)
            assert request is not None
            keys.add(request.run_key)
        assert len(keys) == 3
        full = False
        run_job("hand_over", desk.settings, config, instance, tags=request.tags)
        assert isinstance(hand_over(dg.build_sensor_context(instance=instance)), dg.SkipReason)
    assert drift(desk.registry, desk.settings.lanes, LANE).differences == ()
    assert follow(desk.settings) == []
    assert is_acknowledged(pointer, read_status(desk.settings.lanes, LANE))
    assert shown(desk.settings)["config_id"] == second
