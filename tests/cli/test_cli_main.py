import errno
import json
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest

import live.feed_protocol  # noqa: F401 - its kinds of errors are tested too, whatever else was imported before
from mei_pipeline import errors
from mei_pipeline.cli import main, output
from mei_pipeline.settings import CHECKOUT

HEAVY = {"dagster", "numba", "numpy", "polars", "pandera", "pydantic", "sqlalchemy", "yaml"}


def group_raising(error: BaseException) -> click.Group:
    @click.group()
    def mei():
        pass

    @mei.command()
    def work():
        raise error

    return mei


def concrete(root: type[errors.MeiError]) -> list[type[errors.MeiError]]:
    """The errors of `mei_pipeline.errors`: kinds that other modules add depend on what was imported before."""
    found = [root, *(leaf for child in root.__subclasses__() for leaf in concrete(child))]
    return [kind for kind in found if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", concrete(errors.MeiError), ids=lambda kind: kind.__name__)
def test_every_error_of_mei_becomes_its_message_and_its_exit_code(kind, capsys):
    assert main.run(["work"], group_raising(kind("lake/x.parquet: gone; ingest again"))) == kind.exit_code
    captured = capsys.readouterr()
    assert captured.err == "error: lake/x.parquet: gone; ingest again\n"
    assert captured.out == ""


def test_exit_codes_tell_what_the_caller_must_do_apart():
    codes = [kind.exit_code for kind in concrete(errors.MeiError) if kind is not errors.Busy]
    assert len(set(codes)) == len(codes)
    assert errors.Busy.exit_code == errors.Retryable.exit_code


@pytest.mark.parametrize("kind", concrete(errors.MeiError), ids=lambda kind: kind.__name__)
def test_with_json_an_error_is_one_object_on_stdout(kind, capsys):
    @click.command()
    @click.option("--json", is_flag=True)
    def work(**_):
        raise kind("lake/x: gone")

    assert main.run(["work", "--json"], click.Group(commands={"work": work})) == kind.exit_code
    captured = capsys.readouterr()
    told = {"kind": kind.__name__, "message": "lake/x: gone", "exit_code": kind.exit_code}
    assert json.loads(captured.out) == {"error": told}
    assert captured.err == "error: lake/x: gone\n"


@pytest.mark.parametrize("words", [["lane", "show"], ["doctor", "--nonsense"], ["nonsense"], ["backtest", "--to", "x"]])
def test_with_json_wrong_usage_is_one_object_on_stdout(words, capsys):
    assert main.run([*words, "--json"]) == 2
    told = json.loads(capsys.readouterr().out)["error"]
    assert (told["kind"], told["exit_code"]) == ("UsageError", 2)


def test_an_error_after_a_result_leaves_one_object_on_stdout(capsys):
    @click.command()
    @click.option("--json", is_flag=True)
    def work(**_):
        output.print_json({"damaged": 1})
        raise errors.DataError("damaged")

    for _ in range(2):
        assert main.run(["work", "--json"], click.Group(commands={"work": work})) == 3
        assert json.loads(capsys.readouterr().out) == {"damaged": 1}


def test_the_exit_codes_are_those_of_the_errors(capsys):
    used = {0, errors.INTERRUPTED, *(kind.exit_code for kind in concrete(errors.MeiError))}
    assert set(errors.EXIT_CODES) == used
    assert main.run(["--help"]) == 0
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert set(shown) >= {f"{code} {text}" for code, text in errors.EXIT_CODES.items()}


def test_a_defect_is_one_short_message_and_a_traceback_in_the_logs(home, capsys):
    assert main.run(["work"], group_raising(ZeroDivisionError("by nothing"))) == 1
    message = capsys.readouterr().err
    [kept] = (home / "logs").glob("error-*.txt")
    assert "Traceback" not in message
    assert str(kept) in message.replace("\n", "")
    assert "ZeroDivisionError: by nothing" in kept.read_text()


def test_a_defect_is_shown_whole_where_the_logs_cannot_be_written(home, capsys):
    home.write_text("a file where the home should be")
    assert main.run(["work"], group_raising(ZeroDivisionError("by nothing"))) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_full_or_read_only_disk_is_no_defect(number, home, capsys):
    error = OSError(number, os.strerror(number), "/home/x/lake")
    full = number in {errno.ENOSPC, errno.EDQUOT}
    assert main.run(["work"], group_raising(error)) == (errors.Retryable if full else errors.DataError).exit_code
    message = capsys.readouterr().err
    assert message.startswith(f"error: /home/x/lake: {os.strerror(number)}: ")
    assert "defect" not in message
    assert not home.exists()


def test_an_interrupt_exits_as_shells_expect():
    assert main.run(["work"], group_raising(KeyboardInterrupt())) == 130


@pytest.mark.parametrize("arguments", [["--nonsense"], ["nonsense"], ["doctor", "--nonsense"]])
def test_wrong_usage_exits_2(arguments):
    assert main.run(arguments) == 2


def test_an_unknown_command_suggests_the_closest(capsys):
    assert main.run(["docter"]) == 2
    assert "'doctor'" in capsys.readouterr().err


def test_variables_of_tests_are_no_command_s_business(monkeypatch, capsys):
    """As `MEI_TEST_KERNELS`, by which the tests of a card find kernels that were made elsewhere."""
    monkeypatch.setenv("MEI_TEST_KERNELS", "var/kernels")
    assert main.run(["lane", "list", "--json"]) == 0
    monkeypatch.setenv("MEI_TESTS", "1")
    assert main.run(["lane", "list"]) == errors.ConfigError.exit_code
    assert "unknown variable MEI_TESTS; allowed: MEI_CACHE" in capsys.readouterr().err


def test_a_wrong_environment_is_a_message(monkeypatch, capsys):
    monkeypatch.setenv("MEI_HOEM", "/x")
    assert main.run(["doctor"]) == 2
    assert "MEI_HOEM" in capsys.readouterr().err


def test_the_version_is_that_of_the_file(capsys):
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out == f"mei {(CHECKOUT / 'VERSION').read_text().strip()}\n"


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from mei_pipeline.cli import main; main.run(['--help']); "
        f"print('imported:', sorted({HEAVY!r} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CHECKOUT)
    assert shown.stdout.splitlines()[-1] == "imported: []"


def test_commands_that_look_import_only_what_they_read_with():
    assert main.run(["registry", "list"]) == 0  # makes the registry
    lake = {"dagster", "numba", "scipy", "pandera", "alembic", "structlog", "jinja2", "pyarrow.parquet", "pyarrow.fs"}
    registry = lake | {"numpy", "polars", "filelock"}
    # In one process, the lightest commands first.
    looks = [("lane list", registry), ("registry list", registry), ("lake show", lake)]
    code = (
        "import sys; from mei_pipeline.cli import main\n"
        f"for command, heavy in {looks!r}:\n"
        "    code = main.run(command.split())\n"
        "    print('imported:', command, code, sorted(heavy & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CHECKOUT)
    found = [line for line in shown.stdout.splitlines() if line.startswith("imported:")]
    assert found == [f"imported: {command} 0 []" for command, _ in looks]


def test_the_overview_names_every_command_that_a_module_exports():
    folder = Path(main.__file__).parent
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__", "main"}
    exported = {
        (module, command.name)
        for module in modules
        for command in getattr(import_module(f"mei_pipeline.cli.{module}"), "COMMANDS", ())
    }
    listed = {(entry.module, name) for section in main.SECTIONS.values() for name, entry in section.items()}
    assert {name for _, name in exported} == {name for _, name in listed}
    assert listed <= exported


def every_command():
    def walk(path, command):
        yield path, command
        for name, member in getattr(command, "commands", {}).items():
            yield from walk([*path, name], member)

    for name in main.mei.list_commands(context := click.Context(main.mei)):
        yield from walk([name], main.mei.get_command(context, name))


def test_every_command_and_subcommand_explains_itself(capsys):
    for path, command in every_command():
        assert main.run([*path, "--help"]) == 0
        assert capsys.readouterr().out.startswith(f"Usage: mei {' '.join(path)}")
        assert command.help, path


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_a_list_of_commands_is_not_cut_off(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    for path, command in every_command():
        if members := getattr(command, "commands", {}):
            assert main.run([*path, "--help"]) == 0
            shown = " ".join(capsys.readouterr().out.split())
            for member in members.values():
                assert " ".join(re.split(r"\.(?:\s|$)", member.help)[0].split()) in shown


def test_json_is_a_flag_of_every_command():
    for path, command in every_command():
        found = [option for option in command.params if "--json" in option.opts]
        assert getattr(command, "commands", None) or [option.is_flag for option in found] == [True], path


def test_a_page_and_a_schema_are_one_object_with_json(capsys):
    assert main.run(["config", "reference", "--json"]) == 0
    page = json.loads(capsys.readouterr().out)["markdown"]
    assert main.run(["config", "reference"]) == 0
    assert capsys.readouterr().out == page
    assert main.run(["config", "schema", "lane", "--json"]) == 0
    schema = capsys.readouterr().out
    assert main.run(["config", "schema", "lane"]) == 0
    assert capsys.readouterr().out == schema
    assert json.loads(schema)["type"] == "object"
    assert main.run(["config", "schema", "lanes", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "UsageError"


def test_a_reader_that_leaves_early_causes_no_noise():
    code = (
        "import click, sys; from mei_pipeline.cli import main\n"
        "@click.group()\ndef mei(): pass\n"
        "@mei.command()\ndef work():\n    for _ in range(100_000): print('line')\n"
        "sys.exit(main.run(['work'], mei))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=CHECKOUT
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=30) == 1
