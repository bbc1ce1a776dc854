"""Run `mei sweep` in this process, and end it by SIGKILL at the n-th time that something is done to its folder.

Run as `python sweep_run.py POINT WORD...`: POINT counts changes of names and openings for writing below `sweeps/` of
the home; 0 means never. Standard output is that of the command.
"""

import itertools
import os
import signal
import sys
from typing import Any

from mei_pipeline.cli.main import run

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.chmod"}


def main(point: int, words: list[str]) -> int:
    below = f"{os.environ['MEI_HOME']}{os.sep}sweeps{os.sep}"
    count = itertools.count(1)  # chunks are written by several threads

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (event in CHANGES or writes) and str(arguments[0]).startswith(below) and next(count) == point:
            os.kill(os.getpid(), signal.SIGKILL)

    if point:
        sys.addaudithook(hook)
    return run(["sweep", *words])


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
