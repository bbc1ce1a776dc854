"""Print the tests that the last run left to other tiers, as `tests/conftest.py` wrote them down."""

import json
import sys
from pathlib import Path

LEFT_OUT = Path(__file__).resolve().parent.parent / ".pytest_cache" / "v" / "mei" / "left-out"


def main() -> int:
    """Print one test per line and their number; 1 when the last run wrote none down."""
    if not LEFT_OUT.exists():
        print("left out: the last test run wrote nothing down", file=sys.stderr)
        return 1
    tests = json.loads(LEFT_OUT.read_text())
    print("\n".join(tests))
    print(f"{len(tests)} tests left to other tiers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
