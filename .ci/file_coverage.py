"""Fail when a file is covered less than pyproject.toml demands of it under `[tool.mei.coverage]`.

Reads the `.coverage` of the last test run. A pattern that matches no measured file fails too, so that a renamed file
can't slip out of its gate.
"""

import json
import sys
import tempfile
import tomllib
from pathlib import Path

import coverage

ROOT = Path(__file__).resolve().parent.parent


def shortfalls(files: dict[str, float], demands: dict[str, float]) -> list[str]:
    """One message per file below its demand, and per pattern without a file.

    Args:
        files: Percent of lines and branches covered, by path relative to the checkout.
        demands: Lowest percent allowed, by pattern (`fnmatch` on the path).
    """
    messages = []
    for pattern, least in demands.items():
        matched = {path: covered for path, covered in files.items() if Path(path).match(pattern)}
        if not matched:
            messages.append(f"{pattern}: no measured file matches")
        messages += [
            f"{path}: {covered:.1f} % covered, {least} % demanded"
            for path, covered in sorted(matched.items())
            if covered < least
        ]
    return messages


def main() -> int:
    """Compare the last run with the demands; 1 when one is missed."""
    demands = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mei"]["coverage"]
    measured = coverage.Coverage()
    measured.load()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "coverage.json"
        try:
            total = measured.json_report(outfile=str(report))
        except coverage.exceptions.NoDataError:
            print("coverage: the last test run measured nothing", file=sys.stderr)
            return 1
        files = json.loads(report.read_text())["files"]
    print(f"coverage of lines and branches: {total:.1f} %")
    messages = shortfalls({path: file["summary"]["percent_covered"] for path, file in files.items()}, demands)
    for message in messages:
        print(message, file=sys.stderr)
    return 1 if messages else 0


if __name__ == "__main__":
    sys.exit(main())
