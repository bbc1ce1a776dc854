"""Worker processes that end with the process that started them."""

import os
from multiprocessing import parent_process
from multiprocessing.connection import wait
from threading import Thread


def end_with_parent() -> None:
    """Make this worker exit without cleanup when its parent ends; call it when the worker starts.

    A killed parent can't stop its workers. They would wait for work without end, because each of them also holds the
    writing end of the pipe that it reads. A process that `multiprocessing` did not start has no parent to watch.
    """
    if (parent := parent_process()) is not None:
        Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
