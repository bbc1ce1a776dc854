"""Threads that compute for long give way to a process that must answer soon."""

import os
import threading

from mei_pipeline.simulation.threads import NICE, give_way


def priority_after(before: int) -> int:
    found: list[int] = []

    def work() -> None:
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, before)
        give_way()
        found.append(os.getpriority(os.PRIO_PROCESS, thread))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return found[0]


def test_a_thread_gives_way_and_never_gains_priority():
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert priority_after(own) == max(own, NICE)
    assert priority_after(NICE + 5) == NICE + 5
    assert os.getpriority(os.PRIO_PROCESS, 0) == own  # the thread that asks for the computation keeps its own
