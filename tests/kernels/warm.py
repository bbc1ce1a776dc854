"""Compile the engines of strategies that only tests have, so that no test waits for them.

    PYTHONPATH=tests python tests/kernels/warm.py FOLDER

FOLDER is what the fixture `compiled_kernels` calls the folder of all kernels. `mei warmup` compiles those of the
strategies that MEI has.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import scripted
from kernel_kit import candle, one, run_scripted, script_of
from naive import Rules, Sizing

from kernels import bind
from kernels.cache import use_cache


def lean() -> SimpleNamespace:
    """The scripted strategy without exits of its own."""
    return SimpleNamespace(**{**vars(scripted), "NAME": f"{scripted.NAME}_lean", "EXITS": ()})


def main(folder: Path) -> None:
    """Run each engine once over three bars."""
    use_cache(folder)
    for strategy in (scripted, lean()):
        run_scripted(bind.bind(strategy), [one([candle(100)] * 3)], Rules(), Sizing(), script_of({}, 3, 1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
