"""Workers of a process that is killed."""

import os
import select
import signal
import subprocess
import sys
from multiprocessing import process

from mei_pipeline.workers import end_with_parent

PARENT = """
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from os import getpid
from mei_pipeline.workers import end_with_parent

if __name__ == "__main__":
    with ProcessPoolExecutor(2, get_context("spawn"), initializer=end_with_parent) as pool:
        print(pool.submit(getpid).result(), flush=True)
        input()
"""


def test_a_worker_ends_when_its_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        handle = os.pidfd_open(worker)
        parent.kill()
    try:
        ended = select.select([handle], [], [], 30)[0]
        if not ended:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        assert ended, "it outlived its parent"
    finally:
        os.close(handle)


def test_a_process_without_a_parent_stays():
    assert process.parent_process() is None
    end_with_parent()
