"""Merge into copies of a lake while the process dies, or the disk refuses, at every point; print what was left as JSON.

Run as `python crash_run.py FOLDER MODE`. Each attempt is a fork of this process, which has imported everything and
started no thread: it never touches a frame itself. In mode `kill` an attempt is ended by SIGKILL at the n-th change of
a name, in `kill-all` also at the n-th opening of a file for writing; in `full` it meets a limit on the size of files
(RLIMIT_FSIZE) as it would meet a full disk. Mode `kill-some` is `kill` at every eighth change.
"""

import json
import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The first merge imports these, which takes longer than the rest of a fork.
import hypothesis.strategies  # noqa: F401 - imported before the fork, so that no child imports it again
import pandera.polars  # noqa: F401 - as above
import polars as pl
from candle_kit import MAY, NOW, bars, contents, data_hash, with_row

from mei_pipeline.candles.lake import Lake, ingests, merge_candles, read_candles, revisions, verify
from mei_pipeline.errors import Retryable

NAMING = {"os.rename", "os.remove", "os.rmdir", "os.mkdir"}
LIMITS = (0, 400, 3_000, 8_000, 15_000, 20_000, 60_000)


def main(folder: Path, mode: str) -> None:
    forked(lambda: merge(folder / "start", old()))
    shutil.copytree(folder / "start", folder / "whole")
    forked(lambda: merge(folder / "whole", new()))
    results = []
    points = LIMITS if mode == "full" else range(1, 1_000, 8 if mode == "kill-some" else 1)
    for point in points:
        copy = folder / f"{mode}-{point}"
        shutil.copytree(folder / "start", copy)
        said, status = forked(lambda: attempt(copy, mode, point))  # noqa: B023 - called before the loop goes on  (it runs before the next turn)
        (left, again), _ = forked(lambda: (inspect(copy), merge(copy, new()) and None, inspect(copy))[::2])  # noqa: B023 - called before the loop goes on
        results.append({"point": point, "status": status, "said": said, "left": left, "again": again})
        shutil.rmtree(copy)
        if status == 0 and mode != "full":
            break
    start, _ = forked(lambda: inspect(folder / "start"))
    whole, _ = forked(lambda: inspect(folder / "whole"))
    sys.stdout.write(json.dumps({"start": start, "whole": whole, "results": results}))


def old() -> pl.DataFrame:
    return bars(("BTC", "ETH"), 24 * 31, MAY)


def new() -> pl.DataFrame:
    """Adds bars to two months and revises one."""
    return with_row(bars(("BTC", "ETH", "SOL"), 24 * 40, MAY), 5, volume=77.0)


def merge(root: Path, frame: pl.DataFrame) -> str | None:
    return merge_candles(Lake(root), frame, now_ms=NOW, source="crash").ingest_id


def attempt(root: Path, mode: str, point: int) -> str | None:
    if mode == "full":
        resource.setrlimit(resource.RLIMIT_FSIZE, (point, point))
        try:
            return merge(root, new())
        except Retryable as error:
            return f"Retryable: {error}"
    remaining = point

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal remaining
        opens = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in NAMING or (mode == "kill-all" and (opens or event == "os.chmod")):
            if not str(arguments[0]).startswith(str(root)):
                return
            remaining -= 1
            if remaining == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return merge(root, new())


def inspect(root: Path) -> dict[str, Any]:
    lake = Lake(root)
    frame = read_candles(lake, "binance", "1h")
    return {
        "hash": data_hash(lake, "binance", "1h"),
        "rows": frame.height,
        "damages": [damage.path for damage in verify(lake)],
        "revisions": revisions(lake).height,
        "ingests": len(ingests(lake)),
        "files": contents(root / "candles"),
        "pending": (root / ".pending").exists(),
    }


def forked(action: Callable[[], Any]) -> tuple[Any, int]:
    """Run `action` in a fork; return its result (None if it died) and the status it ended with."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        try:
            # A pipe is no regular file, so the limit does not meet it.
            os.write(send, json.dumps(action()).encode())
            os._exit(0)
        finally:
            traceback.print_exc()
            os._exit(1)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    return json.loads(text) if text else None, status


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
