"""The executor. It never imports Dagster."""

import sys

from mei_pipeline import interrupts

if sys.argv[:1] == ["-m"]:
    # Python has this argument while it looks for the module of `python -m live.MODULE`. Its imports take seconds, in
    # which Ctrl-C would print a traceback.
    interrupts.exit_at_next()
