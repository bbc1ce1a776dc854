"""Number of threads for a computation."""

import os


def thread_count(threads: int) -> int:
    """Return `threads`; for 0, the number of processors that this process may use."""
    return threads or len(os.sched_getaffinity(0))
