"""No mistake of one operator, number, branch or statement in the rules goes unnoticed, but for those in the list."""

import subprocess
import sys
from pathlib import Path

import pytest
from mutants import mutants

from kernels import bind

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("return a < b", {"a < b -> a <= b", "a < b -> a >= b"}),
        ("return a + b * c", {"a + b * c -> a - b * c", "b * c -> b / c"}),
        ("return a & b | c", {"a & b -> a | b", "a & b | c -> a & b & c"}),
        ("return a if b else c", {"a if b else c -> c if b else a"}),
        ("return not a", {"not a -> a"}),
        ("return -1.0", {"-1.0 -> 1.0", "1.0 -> 2.0"}),
        ("return True", {"True -> False"}),
        ("return a and b", {"a and b -> a or b"}),
        ("a.b = c", {"a.b = c -> pass"}),
        ("a = b", set()),
        ("a += b", {"a += b -> a -= b", "a += b -> pass"}),
        ("f(a)", {"f(a) -> pass"}),
        ("if a: f()", {"if a: ... -> if not a: ...", "f() -> pass"}),
        ('"A text."', set()),
    ],
)
def test_what_a_line_could_be_instead(line, wanted):
    source = f"def f(a, b, c):\n    {line}\n"
    found = mutants(source)
    assert {mutant.name for mutant in found} == {f"f: {change}" for change in wanted}
    for mutant in found:
        compile(mutant.source, "mutant", "exec")
        assert mutant.source != source


def test_equal_changes_of_one_function_have_names_of_their_own():
    names = [mutant.name for mutant in mutants("def f(a):\n    return a[0] + a[0]\n")]
    assert sorted(names) == ["f: 0 -> 1", "f: 0 -> 1 #2", "f: a[0] + a[0] -> a[0] - a[0]"]


def test_every_file_with_rules_has_its_tests():
    import mutate

    strategies = ROOT / "kernels/strategies"
    files = [*strategies.glob("[!_]*.py"), *strategies.glob("mei_alpha/[!_]*.py")]
    files += [ROOT / f"kernels/{name}.py" for name in ("book", "book_rules", "ledger", *bind.SOURCES, "executor")]
    with_rules = {str(file.relative_to(ROOT)) for file in files if "\ndef " in file.read_text()}
    assert with_rules == set(mutate.TESTS)
    for tests in mutate.TESTS.values():
        assert all((ROOT / f"tests/kernels/test_{test.partition('::')[0]}.py").exists() for test in tests)


@pytest.mark.long
def test_only_listed_mutants_survive():
    command = [sys.executable, str(FOLDER / "mutate.py")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
