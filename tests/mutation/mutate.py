"""Which mistakes in the rules would no test notice? Make each in a copy of the tree, and run the tests of its file.

    python tests/mutation/mutate.py [FILE ...] [--jobs N] [--json FILE]

Kernels run uncompiled here: a mutant takes a fraction of a second, not the half minute that compiling takes.
Every mutant is tested in a process of its own, forked from one that has loaded numba and pytest but no kernel.
`survivors.yaml` lists the mutants that no test can tell from the original, and why. The exit status is 1 when others
survive, or when one of these does not.

mutmut leaves decorated functions alone, and every rule is one. cosmic-ray starts an interpreter for each mutant, which
takes longer than these tests, and has no mutants that swap branches or drop a statement.
"""

import argparse
import importlib
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import yaml
from mutants import Mutant, mutants

ROOT = Path(__file__).parents[2]
SURVIVORS = Path(__file__).with_name("survivors.yaml")
COPIED = ("kernels", "mei_pipeline", "tests/kernels", "tests/conftest.py", "tests/example_kit.py", "pyproject.toml")

TESTS: dict[str, tuple[str, ...]] = {
    "kernels/strategies/mei_alpha/gates.py": ("alpha_gates", "alpha_entries"),
    "kernels/strategies/mei_alpha/entries.py": ("alpha_entries", "alpha_gates"),
    "kernels/strategies/mei_alpha/signals.py": ("alpha_entries", "alpha_sizing"),
    "kernels/strategies/mei_alpha/sizing.py": ("alpha_sizing",),
    "kernels/strategies/mei_alpha/exits.py": ("alpha_exits", "alpha_sizing"),
    "kernels/strategies/mei_alpha/trace.py": ("alpha_gates",),
    "kernels/strategies/ema_cross.py": (
        "cross_rules",
        "kernels_yardstick::test_the_first_signal_is_at_the_bar_with_200_before_it",
        "kernels_yardstick::test_stop_and_target_hang_on_the_atr_of_the_signal",
        "kernels_scenarios",
    ),
    "kernels/ledger.py": (
        "kernels_rules",
        "kernels_fresh",
        "kernels_book",
        "kernels_scenarios",
        "alpha_runs",
        "kernels_ledger",
    ),
    "kernels/book.py": ("kernels_rules", "kernels_fresh", "kernels_book", "kernels_scenarios"),
    "kernels/book_rules.py": (
        "kernels_book_rules",
        "kernels_rules",
        "kernels_fresh",
        "kernels_scenarios",
        "kernels_book",
        "kernels_shortcuts",
        "alpha_runs",
    ),
    "kernels/apply.py": ("kernels_apply", "kernels_scenarios", "kernels_book"),
    "kernels/settle.py": ("kernels_scenarios", "kernels_book", "kernels_liquidation", "alpha_runs", "kernels_executor"),
    "kernels/decide.py": ("kernels_executor", "kernels_scenarios", "kernels_book", "alpha_runs"),
    "kernels/signals.py": ("kernels_scenarios", "alpha_runs", "kernels_shortcuts"),
    "kernels/executor.py": ("kernels_apply", "kernels_executor"),
    "kernels/simulate.py": (
        "kernels_fresh",
        "alpha_runs",
        "kernels_book",
        "kernels_scenarios",
        "kernels_shortcuts",
        "kernels_explain",
        "kernels_yardstick::test_stops_are_tested_at_closes_where_the_market_says_so",
        "kernels_time::test_a_flat_book_skips_what_is_quiet_and_ends_its_days",
    ),
}
"""Files whose functions are changed, and the tests under tests/kernels that must notice, the likeliest first.

Those are the tests that run uncompiled in seconds. Books against their twins, and one combo against all others, are
compiled tests, and see more.
"""

_FORK = multiprocessing.get_context("fork")
_tree = Path()


def snapshot(folder: Path) -> None:
    """Copy what the tests need, so that nothing that is edited meanwhile is seen."""
    for name in (*COPIED, *(str(path.relative_to(ROOT)) for path in (ROOT / "tests").glob("naive*.py"))):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)


def own_tree(original: Path) -> None:
    """Give this process a copy of its own, to put mutants in."""
    global _tree  # noqa: PLW0603 - one copy for each process of the pool
    _tree = Path(tempfile.mkdtemp(dir=original.parent)) / "tree"
    shutil.copytree(original, _tree)


def _run_tests(tree: Path, tests: Sequence[str]) -> None:
    """In a process of its own: run tests in a copy of the tree and leave with pytest's exit code."""
    log = os.open(tree / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    sys.dont_write_bytecode = True  # a mutant may have the time and the length of the one before
    pytest = importlib.import_module("pytest")
    places = [place.partition("::") for place in tests]
    chosen = [f"tests/kernels/test_{file}.py{colons}{test}" for file, colons, test in places]
    code = pytest.main(["-x", "-q", "--no-header", "--tb=short", "--assert=plain", *chosen])
    here = Path(sys.modules["kernels"].__file__ or "") if "kernels" in sys.modules else tree
    os._exit(int(code) if here.is_relative_to(tree) else 99)


def try_out(name: str, mutant: Mutant | None, limit_s: float) -> tuple[str, float]:
    """What the tests of file `name` say of a mutant, or of the original; and how long they took.

    Returns:
        `survived`, `killed` or `timed out`.
    """
    file = _tree / name
    original = file.read_text()
    if mutant:
        file.write_text(mutant.source)
    started = time.monotonic()
    process = _FORK.Process(target=_run_tests, args=(_tree, TESTS[name]))
    process.start()
    process.join(limit_s)
    file.write_text(original)
    took = time.monotonic() - started
    if process.is_alive():
        process.kill()
        process.join()
        return "timed out", took
    if process.exitcode not in {0, 1, 2}:  # passed, failed, or not even imported
        raise RuntimeError(f"{name}: pytest left with {process.exitcode}\n{(_tree / 'log').read_text()[-3000:]}")
    if not mutant and process.exitcode:
        raise RuntimeError(f"{name}: its tests fail without a mutant\n{(_tree / 'log').read_text()[-3000:]}")
    return ("killed" if process.exitcode else "survived"), took


def run(names: Iterable[str], jobs: int) -> dict[str, dict[str, str]]:
    """What became of every mutant, by file and name."""
    for module in ("hypothesis", "numba", "numpy", "pydantic", "pytest"):
        importlib.import_module(module)
    told: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as parent:
        original = Path(parent) / "original"
        snapshot(original)
        with ProcessPoolExecutor(jobs, _FORK, initializer=own_tree, initargs=(original,)) as pool:
            for name in names:
                told[name] = _run_file(pool, name, (original / name).read_text())
    return told


def _run_file(pool: ProcessPoolExecutor, name: str, source: str) -> dict[str, str]:
    _, alone = pool.submit(try_out, name, None, 600.0).result()
    limit_s = 10.0 + 10.0 * alone
    tasks = {mutant.name: pool.submit(try_out, name, mutant, limit_s) for mutant in mutants(source)}
    verdicts = {}
    for mutant, task in tasks.items():
        verdicts[mutant], _ = task.result()
        if verdicts[mutant] == "survived":
            print(f"survived: {name}: {mutant}", flush=True)  # noqa: T201 - a tool speaks to whom runs it
    alive = sum(verdict == "survived" for verdict in verdicts.values())
    print(f"{name}: {len(tasks)} mutants, {alive} survived; its tests take {alone:.1f} s", flush=True)  # noqa: T201 - a tool speaks to whom runs it
    return verdicts


def listed() -> dict[str, dict[str, str]]:
    """Mutants that no test can tell from the original, by file and name, and why."""
    found: Any = yaml.safe_load(SURVIVORS.read_text())
    return dict(found or {})


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="*", help="as in TESTS; all of them when none is given")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    os.environ["NUMBA_DISABLE_JIT"] = "1"
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # they take longer to load than most tests to run
    names = given.files or list(TESTS)
    told = run(names, given.jobs)
    if given.json:
        given.json.write_text(json.dumps(told, indent=1))
    known = {name: listed().get(name, {}) for name in names}
    wrong = 0
    for name in names:
        alive = {mutant for mutant, verdict in told[name].items() if verdict == "survived"}
        for mutant in sorted(alive - known[name].keys()):
            print(f"not listed: {name}: {mutant}")  # noqa: T201 - a tool speaks to whom runs it
        for mutant in sorted(known[name].keys() - alive):
            print(f"listed, yet killed or gone: {name}: {mutant}")  # noqa: T201 - a tool speaks to whom runs it
        wrong += len(alive ^ known[name].keys())
    total = sum(map(len, told.values()))
    alive = sum(verdict == "survived" for by_name in told.values() for verdict in by_name.values())
    print(f"{total} mutants, {total - alive} killed ({(total - alive) / total:.1%}), {alive} survived")  # noqa: T201 - a tool speaks to whom runs it
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
