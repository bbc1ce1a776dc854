"""Write the numbers of the present version to `baseline.json`, for the next versions to be compared with.

Run as `PYTHONPATH=tests:tests/equality python tests/equality/make_baseline.py`.
"""

import json
import tempfile
from pathlib import Path

from equality_kit import arithmetic
from test_equality import BASELINE, made


def main() -> None:
    """Run everything in a home of its own and write the record."""
    with tempfile.TemporaryDirectory() as folder:
        found = {"arithmetic": arithmetic(), **made(Path(folder))}
    BASELINE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
