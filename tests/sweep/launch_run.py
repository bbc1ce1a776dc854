"""Run a published sweep in this process, and end it by SIGKILL when a number of its files are there.

Run as `python launch_run.py HOME FOLDER NOTE FILES LAUNCH`: FOLDER has the inputs, NOTE is their hash, FILES is how
many result files this run may write, 0 for all, and LAUNCH is how many combos are run at a time.
"""

import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

from mei_pipeline.settings import read_settings
from mei_pipeline.storage import Store
from mei_pipeline.sweep.inputs import read_inputs
from mei_pipeline.sweep.run import run_sweep


def main(home: str, folder: str, note: str, files: str, launch: str) -> None:
    settings = read_settings({"MEI_HOME": home, "MEI_CACHE": f"{home}/cache"})
    inputs = read_inputs(Store(Path(folder)), note)
    written = itertools.count()  # by several threads

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        of_chunk = event == "os.rename" and str(arguments[1]).endswith(".parquet")
        if of_chunk and next(written) == int(files):
            os.kill(os.getpid(), signal.SIGKILL)

    if int(files):
        sys.addaudithook(hook)
    run_sweep(settings, inputs.plan, inputs.window, inputs.features, device="cpu", launch=int(launch))


if __name__ == "__main__":
    main(*sys.argv[1:])
