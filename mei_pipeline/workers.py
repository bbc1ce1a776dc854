"""Worker processes that end with the process that started them."""

import os
from multiprocessing import parent_process
from multiprocessing.connection import wait
from threading import Thread


def end_with_parent() -> None:
    """End this worker, without cleaning up, as soon as its parent has ended; call it when the worker starts.

    A parent that was killed can't stop its workers, and they would wait for work for ever: each of them holds the
    writing end of the pipe that it reads. A process that `multiprocessing` did not start has no parent to wait for.
    """
    if (parent := parent_process()) is not None:
        Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
