"""Threads of a computation: their number and their priority."""

import os
import threading

NICE = 10
"""Nice value of threads that compute for long: the executor on the same machine decides in milliseconds meanwhile."""


def thread_count(threads: int) -> int:
    """Return `threads`; for 0, the number of processors that this process may use."""
    return threads or len(os.sched_getaffinity(0))


def give_way() -> None:
    """Lower the priority of this thread, so that it delays no process that must answer soon.

    Linux keeps a priority for each thread; on an idle machine a low one costs nothing.
    """
    thread = threading.get_native_id()
    if os.getpriority(os.PRIO_PROCESS, thread) < NICE:
        os.setpriority(os.PRIO_PROCESS, thread, NICE)
