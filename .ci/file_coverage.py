"""Fail when a file is covered less than pyproject.toml demands of it under `[tool.mei.coverage]`.

All files together must reach `fail_under` of `[tool.coverage.report]`. Reads the `.coverage` of the last test run. A
pattern that matches no measured file fails too, so that a renamed file can't slip out of its gate.
"""

import json
import sys
import tempfile
import tomllib
from pathlib import Path

import coverage

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
    covered = {path: file["summary"]["percent_covered"] for path, file in files.items()}
    messages = shortfalls(covered, demands, total, float(measured.get_option("report:fail_under") or 0.0))
    for message in messages:
        print(message, file=sys.stderr)
    return 1 if messages else 0


if __name__ == "__main__":
    sys.exit(main())
