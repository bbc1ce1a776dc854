"""`mei report` as it is typed."""

import os
import time
from pathlib import Path

import pytest

from mei_pipeline.cli.main import run
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.night.store import night_folder, read_night_plan
from mei_pipeline.settings import Settings

pytest_plugins = ("night_fixtures",)


@pytest.mark.parametrize("ended", ["passed", "rejected", "none"], indirect=True)
@pytest.mark.parametrize("arguments", [[], ["--latest"]])
def test_the_latest_report_is_made_from_the_files_and_printed(
    ended: Settings, arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    plan = read_night_plan(ended)
    folder = night_folder(ended, plan)
    assert not (folder / "report.md").exists()
    assert run(["report", *arguments]) == 0
    printed = capfd.readouterr()
    assert printed.out == (folder / "report.md").read_text()
    assert printed.out.startswith(f"# Nightly run {plan.id[:16]}, smoke, as of 2025-03-02 00:00Z\n")
    assert f"page with plots: {folder / 'report.html'}\n" in printed.err


def test_a_report_that_is_there_is_shown_as_it_is_until_the_night_ran_again(
    ended: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = night_folder(ended, read_night_plan(ended))
    assert run(["report"]) == 0
    first = capfd.readouterr().out
    (folder / "report.md").write_text("as it was that night\n")
    assert run(["report"]) == 0
    assert capfd.readouterr().out == "as it was that night\n"
    later_s = time.time() + 60
    os.utime(folder / "roles.json", (later_s, later_s))
    assert run(["report"]) == 0
    again = capfd.readouterr().out
    assert [line for line in again.splitlines() if "report written" not in line] == [
        line for line in first.splitlines() if "report written" not in line
    ]


def test_a_night_by_its_first_digits_and_its_page_elsewhere(
    ended: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plan = read_night_plan(ended)
    page = tmp_path / "pages" / "night.html"
    for prefix in (plan.id[:3], plan.id[:16], plan.id):
        assert run(["report", "--night", prefix, "--html", str(page)]) == 0
        printed = capfd.readouterr()
        assert plan.id in printed.out
        assert f"page with plots: {page}" in printed.err
    assert page.read_bytes() == (night_folder(ended, plan) / "report.html").read_bytes()


def test_who_names_a_night_wrongly_is_told_which_there_are(ended: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    name = read_night_plan(ended).id[:16]
    other = ended.nights / f"{name[:4]}{'0' * 12}"
    other.mkdir()
    (other / "plan.json").write_text("{}")
    for arguments, code, says in (
        (["--night", "zz"], ConfigError.exit_code, "night 'zz': no such nightly run; there are"),
        (["--night", ""], ConfigError.exit_code, "night '': no such nightly run; there are"),
        (["--night", name[:4]], ConfigError.exit_code, f"night '{name[:4]}': several ids begin so; there are"),
        (["--night", f"{name}{'0' * 48}"], ConfigError.exit_code, f"no such nightly run; {name} is {name}"),
        (["--night", other.name], DataError.exit_code, "run `mei nightly` for a new one"),
        (["--latest", "--night", name], ConfigError.exit_code, "leave one of them out"),
        (["--html", "night.pdf"], ConfigError.exit_code, "night.pdf: the name must end in .html"),
    ):
        assert run(["report", *arguments]) == code
        printed = capfd.readouterr()
        assert says in printed.err
        assert name in printed.err or "there are" not in says
        assert printed.out == ""


@pytest.mark.usefixtures("home")
def test_before_the_first_night_it_says_what_to_type(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "--latest"]) == DataError.exit_code
    assert "there is no nightly run yet; run `mei nightly`" in capfd.readouterr().err
    assert run(["report", "--night", "4f"]) == ConfigError.exit_code
    assert "none yet; `mei nightly` runs one" in capfd.readouterr().err


def test_a_night_that_was_cut_off_has_none_and_the_one_before_is_shown(
    ended: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    plan = read_night_plan(ended)
    cut = ended.nights / f"{'0' * 16}"
    cut.mkdir()
    (cut / "plan.json").write_bytes((night_folder(ended, plan) / "plan.json").read_bytes())
    later_s = time.time() + 60
    os.utime(cut / "plan.json", (later_s, later_s))
    assert run(["report"]) == 0
    printed = capfd.readouterr()
    assert plan.id in printed.out
    assert f"run {cut.name} was planned later and has not finished" in printed.err
    (night_folder(ended, plan) / "roles.json").unlink()
    assert run(["report"]) == DataError.exit_code
    assert "no nightly run has finished yet" in capfd.readouterr().err
    assert run(["report", "--night", plan.id[:16]]) == DataError.exit_code
    assert "materialise `role_assignments`" in capfd.readouterr().err
