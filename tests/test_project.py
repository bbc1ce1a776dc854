"""What holds for the checkout as a whole: documents that tell the truth, and rules that no linter knows."""

import ast
import importlib.util
import re
import shlex
import sys
from pathlib import Path

import click
import pytest
from document_kit import DOCUMENTS, commands

from mei_pipeline.cli import main
from mei_pipeline.settings import CHECKOUT

PACKAGES = ("mei_pipeline", "assets", "kernels", "live")
SOURCES = sorted(path for package in PACKAGES for path in (CHECKOUT / package).rglob("*.py"))
TESTS = sorted((CHECKOUT / "tests").rglob("*.py"))
ENVIRONMENT = {"environ", "environb", "getenv", "getenvb"}
# Of the system or the shell.
OTHER_PROGRAMS = {"git", "uv", "export", "source", "systemctl", "mkdir", "cp", "loginctl", "ray", "ssh", "rsync"}


def name_of(path):
    return path.relative_to(CHECKOUT).as_posix()


def services():
    """The commands that the units under deploy/ start."""
    for unit in sorted((CHECKOUT / "deploy").glob("*.service")):
        for command in re.findall(r"^ExecStart=(.*)$", unit.read_text(), flags=re.MULTILINE):
            program, *options = shlex.split(command)
            yield pytest.param([Path(program).name, *options], id=f"{unit.name}: {command}")


def documented():
    for document in DOCUMENTS:
        for _, words in commands(document):
            yield pytest.param(words, id=f"{document.name}: {' '.join(words)}")


def is_installed(program):
    return Path(sys.executable).with_name(program).exists()


@pytest.mark.parametrize("words", [*documented(), *services()])
def test_a_documented_command_exists_with_its_options(words):
    if words[0] != "mei":
        assert words[0] in OTHER_PROGRAMS or (CHECKOUT / words[0]).exists() or is_installed(words[0]), words
        return
    context = click.Context(main.mei)
    command, given = main.mei.get_command(context, words[1]), words[2:]
    assert command is not None, f"no such command: {words}"
    if isinstance(command, click.Group):
        given = given if given and given[0] in command.commands else ["run", *given]
        command, given = command.commands[given[0]], given[1:]
    command.make_context(words[1], list(given))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_a_command_named_in_a_sentence_exists(document):
    known = {name for entries in main.SECTIONS.values() for name in entries}
    assert set(re.findall(r"`mei ([a-z]+)", document.read_text())) <= known


def test_ci_runs_the_test_command_of_the_readme():
    readme = (CHECKOUT / "README.md").read_text()
    command = (CHECKOUT / ".ci" / "run").read_text().splitlines()[-1]
    assert command.endswith(".ci/check")
    assert f"```sh\n{command}\n```" in readme


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_link_and_picture_of_a_document_is_there(document):
    targets = re.findall(r"\]\(([^)\s#]+)|(?:src|href)=\"([^\"#]+)\"", document.read_text())
    for target in (markdown or html for markdown, html in targets):
        if not target.startswith(("http://", "https://")):
            assert (document.parent / target).exists(), target


def readings(tree):
    """Lines that touch the environment otherwise than by `os.environ[name] = value`, which only the children read."""
    written = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT and id(node) not in written:
            yield node.lineno
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from (node.lineno for name in node.names if name.name in ENVIRONMENT)


def test_settings_alone_read_the_environment():
    texts = {path: path.read_text() for path in SOURCES if path.name != "settings.py"}
    suspects = {path: text for path, text in texts.items() if any(name in text for name in ENVIRONMENT)}
    assert [f"{name_of(path)}:{line}" for path, text in suspects.items() for line in readings(ast.parse(text))] == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("os.environ['DAGSTER_HOME'] = folder", 0),
        ("home = os.environ['HOME']", 1),
        ("home = os.environ.get('HOME')", 1),
        ("home = os.getenv('HOME')", 1),
        ("from os import environ", 1),
        ("child = {**os.environ}", 1),
    ],
)
def test_a_reading_of_the_environment_is_found(source, count):
    assert len(list(readings(ast.parse(source)))) == count


READERS = {f"{verb}_{kind}" for verb in ("read", "scan") for kind in ("parquet", "csv", "ipc", "ndjson")}


def readers_of_patterns(source):
    """Lines where polars would take `[`, `*` or `?` in a path as a pattern."""
    if not any(name in source for name in READERS):
        return []
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "pl"
        and node.func.attr in READERS
        and not any(word.arg == "glob" and ast.unparse(word.value) == "False" for word in node.keywords)
    ]


def test_every_path_is_read_literally():
    found = [f"{name_of(path)}:{line}" for path in SOURCES for line in readers_of_patterns(path.read_text())]
    assert found == []
    assert readers_of_patterns(
        "pl.read_parquet(path)\npl.scan_csv(path, glob=True)\npl.read_csv(path, glob=False)"
    ) == [1, 2]


def imports(tree):
    """Packages that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "kernels").partition(".")[0]


def test_kernels_import_numbers_only():
    allowed = set(sys.stdlib_module_names) | {"kernels", "numpy", "numba", "llvmlite", "cupy"}
    paths = sorted((CHECKOUT / "kernels").rglob("*.py"))
    assert len(paths) > 20
    imported = {f"{name_of(path)}: {name}" for path in paths for name in imports(ast.parse(path.read_text()))}
    assert {line for line in imported if line.rpartition(" ")[2] not in allowed} == set()


def bare_exemptions(source):
    """Lines that exempt themselves from a rule and do not say why."""
    for number, line in enumerate(source.splitlines(), start=1):
        noqa = re.search(r"# noqa: [A-Z]+[0-9]+(?:, ?[A-Z]+[0-9]+)*(.*)", line)
        typed = re.search(r"# pyrefly:[ ]ignore(?:\[[a-z, -]+\](.*))?", line)
        if any(found is not None and len((found[1] or "").strip(" -:()#")) <= 1 for found in (noqa, typed)):
            yield number


def test_every_exemption_from_a_rule_gives_its_reason():
    paths = [*SOURCES, *TESTS, *sorted((CHECKOUT / ".ci").glob("*.py"))]
    assert [f"{name_of(path)}:{line}" for path in paths for line in bare_exemptions(path.read_text())] == []
    noqa = "# noqa:"
    assert list(bare_exemptions(f"a {noqa} S101\nb {noqa} S101 - own text\nc {noqa} E501, S101")) == [1, 3]
    typed = "# pyrefly:"
    kinds = ("ignore", "ignore[bad-return]", "ignore[bad-return]  # wrong stubs", "ignore-errors[bad-return]")
    assert list(bare_exemptions("\n".join(f"{typed} {kind}" for kind in kinds))) == [1, 2, 4]


def test_only_kernels_silence_pyrefly_in_the_words_of_other_checkers():
    # Such a comment would silence every kind; those of the kernels stay, because they are in the kernels' hash.
    other = re.compile(r"# (?:type|pyright|mypy|ty): ignore")
    paths = [path for path in (*SOURCES, *TESTS) if "kernels" not in path.relative_to(CHECKOUT).parts[:1]]
    assert [name_of(path) for path in paths if other.search(path.read_text())] == []


def test_every_ignored_rule_of_a_checker_gives_its_reason():
    lines = (CHECKOUT / "pyproject.toml").read_text().splitlines()
    rules = [line for line in lines if re.match(r'    "[A-Z]+[0-9]*",|[a-z-]+ = "ignore"', line)]
    assert rules
    assert [line for line in rules if "#" not in line] == []


def test_the_changelog_speaks_of_this_version():
    version = (CHECKOUT / "VERSION").read_text().strip()
    headings = re.findall(r"^## \[(.+?)\]", (CHECKOUT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert headings[0] in {"Unreleased", version}
    assert len(set(headings)) == len(headings)


def load_file_coverage():
    spec = importlib.util.spec_from_file_location("file_coverage", CHECKOUT / ".ci" / "file_coverage.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("files", "missed"),
    [
        ({"mei/a.py": 100.0, "mei/b.py": 100.0, "other/c.py": 10.0}, []),
        ({"mei/a.py": 99.9, "mei/b.py": 100.0}, ["mei/a.py: 99.9 % covered, 100 % demanded"]),
        ({"other/c.py": 100.0}, ["mei/*.py: no measured file matches"]),
    ],
)
def test_the_coverage_gate_names_each_file_below_its_demand(files, missed):
    assert load_file_coverage().shortfalls(files, {"mei/*.py": 100}) == missed


@pytest.mark.parametrize(("total", "missed"), [(96.0, []), (95.9, ["all files: 95.9 % covered, 96 % demanded"])])
def test_the_coverage_gate_holds_the_whole(total, missed):
    assert load_file_coverage().shortfalls({"a.py": 50.0}, {}, total, 96.0) == missed
