"""Write the numbers of the present version to `baseline.json`, for the next versions to be compared with.

With `--known`, write to `known_differences.json` only what differs from that file.
Run as `PYTHONPATH=tests:tests/equality python tests/equality/make_baseline.py`.
"""

import json
import sys
import tempfile
from pathlib import Path

from equality_kit import arithmetic, changes
from test_equality import BASELINE, KNOWN, NAMES, made


def main() -> None:
    """Run everything in a home of its own and write the record, or what differs from it."""
    with tempfile.TemporaryDirectory() as folder:
        found = {"arithmetic": arithmetic(), **made(Path(folder))}
    known = {}
    if "--known" in sys.argv:
        known = {"/".join(path): new for path, _, new in changes(json.loads(BASELINE.read_bytes()), found, NAMES)}
    else:
        BASELINE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    KNOWN.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
