"""A lane under other kernels than those that measured its config: exits go on, and nothing is entered."""

import hashlib
import json
import sqlite3
from contextlib import closing
from typing import Any

from session_kit import CONFIG, FROM_MS, LANE, START_MS, feed_of, left_in, run_session

from kernels.cache import source_hash
from live.bench_home import promote_config
from live.running import Watch
from mei_pipeline.candles.intervals import HOUR_MS
from mei_pipeline.execution.commands import Alert  # noqa: TC001 - of annotations
from mei_pipeline.execution.journal.opening import journal_path
from mei_pipeline.settings import Settings

OLD = "a" * 64
WAITING_MS, HELD_MS, RENEWED_MS = (FROM_MS + hours * HOUR_MS for hours in (2, 3, 8))


def age(settings: Settings) -> None:
    """Turn a journal into the one that a MEI with other kernels would have left."""
    with closing(sqlite3.connect(journal_path(settings.lanes, LANE))) as connection:
        connection.execute("DROP TRIGGER events_update")
        for seq, event, body in connection.execute("SELECT seq, event, body FROM events").fetchall():
            aged = body.replace(source_hash(), OLD)
            if event == "Checkpoint":
                [(packed,)] = connection.execute("SELECT body FROM checkpoints WHERE seq = ?", (seq,))
                packed = packed.replace(source_hash().encode(), OLD.encode())
                connection.execute("UPDATE checkpoints SET body = ? WHERE seq = ?", (packed, seq))
                aged = json.dumps({**json.loads(body), "sha256": hashlib.sha256(packed).hexdigest()})
            connection.execute("UPDATE events SET body = ? WHERE seq = ?", (aged, seq))
        connection.execute("UPDATE meta SET kernel_hash = ?", (OLD,))
        connection.commit()


def purposes(left: dict[str, Any]) -> list[str]:
    return [purpose for _, _, purpose, *_ in left["tables"]["orders"]]


def status(settings: Settings) -> dict[str, Any]:
    return json.loads((settings.lanes / LANE / "status.json").read_text())


def test_a_lane_under_other_kernels_keeps_its_exits_and_enters_nothing(lane_home: Settings) -> None:
    run_session(lane_home, open_feed=feed_of(lane_home, HELD_MS))
    assert len(left_in(lane_home)["tables"]["positions"]) == 1
    age(lane_home)
    promote_config(lane_home, CONFIG, START_MS, kernel_hash=OLD)

    alerts: list[Alert] = []
    run_session(lane_home, Watch(alert=alerts.append), feed_of(lane_home, RENEWED_MS))
    left = left_in(lane_home)
    assert purposes(left) == ["entry", "exit"]
    assert left["tables"]["positions"] == []
    assert "blocked" in {verdict for _, _, _, verdict, *_ in left["tables"]["decisions"]}
    assert [alert.key for alert in alerts] == ["hold-kernels"]
    assert left["tables"]["holds"] == [["kernels", "", "close_only", None]]
    shown = status(lane_home)
    assert (shown["health"], list(shown["holds"])) == ("degraded", ["kernels"])
    assert OLD[:12] in shown["holds"]["kernels"]["reason"]

    # The same config, measured by the present kernels, is promoted: the lane enters again.
    promote_config(lane_home, CONFIG, START_MS, generation=2)
    run_session(lane_home)
    left = left_in(lane_home)
    assert purposes(left) == ["entry", "exit", "entry", "entry"]
    assert left["tables"]["holds"][0][3] is not None
    assert status(lane_home)["holds"] == {}


def test_an_opening_order_that_waits_is_withdrawn_under_other_kernels(lane_home: Settings) -> None:
    run_session(lane_home, open_feed=feed_of(lane_home, WAITING_MS))
    left = left_in(lane_home)
    assert (purposes(left), left["tables"]["positions"]) == (["entry"], [])
    age(lane_home)
    run_session(lane_home)
    left = left_in(lane_home)
    assert [order[4] for order in left["tables"]["orders"]] == ["CANCELLED"]
    assert left["tables"]["fills"] == []


def test_the_features_of_other_kernels_are_computed_again(lane_home: Settings, undisturbed: dict[str, Any]) -> None:
    """These kernels compute the same features, so nothing but the hold may differ from an undisturbed lane."""
    run_session(lane_home, open_feed=feed_of(lane_home, HELD_MS))
    age(lane_home)
    promote_config(lane_home, CONFIG, START_MS, generation=2)
    run_session(lane_home)
    left, expected = left_in(lane_home), undisturbed
    for table in ("orders", "fills", "funding", "trades", "positions", "decisions", "equity"):
        assert left["tables"][table] == expected["tables"][table], table
    for book, same in zip(left["state"]["books"], expected["state"]["books"], strict=True):
        assert book["features"] == same["features"]
        assert book["account"] == same["account"]
