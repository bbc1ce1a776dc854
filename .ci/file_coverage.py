"""Fail if the tests cover less than pyproject.toml demands under `[tool.mei.coverage]`.

    python .ci/file_coverage.py FOLDER ...

Adds up the reports that measure.py left, one or more in each folder. A file that no process imported counts as missed.
A pattern that matches no measured file fails too, so that a renamed file can't slip out of its gate.

From Python 3.12 on shortfalls are printed and don't fail: slipcover then counts a line that only annotates as missed if
one of several workers never loaded its module.
"""

import json
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from slipcover import Slipcover, merge_coverage

ROOT = Path(__file__).resolve().parent.parent


def shortfalls(
    files: dict[str, float], demands: dict[str, float], total: float = 100.0, least_total: float = 0.0
) -> list[str]:
    """One message per file below its demand, per pattern without a file, and for all files together.

    Args:
        files: Percent of lines and branches covered, by path relative to the checkout.
        demands: Lowest percent allowed, by pattern (`fnmatch` on the path).
        total: Percent covered of all files together.
        least_total: Lowest percent allowed of all files together.
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
    if total < least_total:
        messages.append(f"all files: {total:.1f} % covered, {least_total:g} % demanded")
    return messages


def main(folders: Sequence[str]) -> int:
    """Compare the reports in the folders with the demands; 1 when one is missed."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    demands = tool["mei"]["coverage"]
    reports = {folder: sorted(Path(folder).glob("*.json")) for folder in folders}
    empty = [folder for folder, found in reports.items() if not found]
    if empty or not folders:
        print(f"coverage: no report of the test run in: {', '.join(empty)}", file=sys.stderr)
        return 1
    measured, *others = (json.loads(report.read_text()) for found in reports.values() for report in found)
    for other in others:
        merge_coverage(measured, other)
    options = tool["slipcover"]
    merge_coverage(
        measured,
        Slipcover(
            branch=options["branch"],
            source=options["source"],
            omit=list(measured["files"]),
            exclude_also=options["exclude-also"],
        ).get_coverage(),
    )
    total = measured["summary"]["percent_covered"]
    print(f"coverage of lines and branches: {total:.1f} %")
    files = {path: file["summary"]["percent_covered"] for path, file in measured["files"].items()}
    messages = shortfalls(files, demands["files"], total, demands["total"])
    for message in messages:
        print(message, file=sys.stderr)
    return 1 if messages and sys.version_info < (3, 12) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
