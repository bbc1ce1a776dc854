"""`mei sweep` as a person types it: search, look, go on, compare."""

import json
import re

import polars as pl
import pytest
from market_kit import DAY_MS, START_MS, VENUE, fill_lake, write_config
from page_kit import read_page
from result_kit import read_results

from mei_pipeline import files
from mei_pipeline.candles.lake import Lake, merge_candles, merge_funding, read_candles, read_funding
from mei_pipeline.cli.main import run
from mei_pipeline.errors import Busy, ConfigError, DataError, Refused
from mei_pipeline.settings import read_settings
from mei_pipeline.sweep.catalog import stored_sweeps
from mei_pipeline.sweep.metrics import DOCS as METRICS
from mei_pipeline.sweep.plan import plan_from_dict
from mei_pipeline.sweep.results import chunk_path, read_plan, sweep_folder, write_plan


@pytest.fixture
def world(mei_settings, tmp_path, monkeypatch, compiled_kernels):
    """A lake of three symbols and the search `smoke` of twelve combos in three chunks."""
    fill_lake(mei_settings)
    write_config(tmp_path / "config")
    monkeypatch.setenv("MEI_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("MEI_CACHE", str(compiled_kernels.parent.parent))
    return read_settings()


@pytest.fixture
def mei(capsys):
    """Runs a command, which must succeed, and gives what it prints as JSON."""

    def call(*words: str):
        code = run([*words, "--json"])
        said = capsys.readouterr()
        assert code == 0, said.err
        return json.loads(said.out)

    return call


@pytest.fixture
def searched(world, mei):  # noqa: ARG001 - it makes what is searched
    """The id of a finished search."""
    return mei("sweep", "smoke", "--from", "2025-01-11")["sweep"]


def symbols_of(mei, sweep):
    """Symbols of a stored search."""
    return next(each["symbols"] for each in mei("sweep", "list")["sweeps"] if sweep.startswith(each["sweep"]))


def say(capsys, *words):
    """Exit code and what is said on stderr, on one line."""
    code = run(list(words))
    return code, re.sub(r"\s+", " ", capsys.readouterr().err)


@pytest.mark.usefixtures("world")
def test_run_may_be_left_out(mei):
    whole = mei("sweep", "run", "smoke", "--top", "3")
    short = mei("sweep", "--top", "3", "smoke")
    assert (short["sweep"], short["top"]) == (whole["sweep"], whole["top"])
    assert (whole["resumed"], short["resumed"]) == (0, 12)
    assert len(whole["top"]) == 3


@pytest.mark.usefixtures("world")
def test_what_is_no_search_and_no_command_is_named(capsys):
    for words in (["shwo", "abc"], ["shwo"]):
        code, said = say(capsys, "sweep", *words)
        assert code == ConfigError.exit_code == 2
        assert "shwo" in said


def test_list_tells_how_far_each_sweep_is(world, searched, mei, capsys):
    other = mei("sweep", "run", "smoke", "--from", "2025-01-15")["sweep"]
    chunk_path(world.sweeps / other[:16], read_plan(world.sweeps / other[:16]), 1).unlink()
    broken = world.sweeps / "feedfeedfeedfeed"
    files.write_bytes(broken / "plan.json", b"{}")
    found = {sweep["sweep"]: sweep for sweep in mei("sweep", "list")["sweeps"]}
    assert {key: (sweep["state"], sweep["combos_done"]) for key, sweep in found.items()} == {
        searched: ("done", 12),
        other: ("unfinished", 7),
        broken.name: ("unreadable", 0),
    }
    told = found[searched]
    assert (told["strategy"], told["venue"], told["symbols"]) == ("ema_cross", VENUE, ["AAA", "BBB", "CCC"])
    assert (told["from_ms"], told["combos"], told["configs"]) == (START_MS + 10 * DAY_MS, 12, [])
    assert told["stays_because"] == "among the newest 20"
    assert found[other]["stays_because"].startswith("may be resumed until")
    assert "sweep of another version of MEI" in found[broken.name]["problem"]
    with files.locked(world.sweeps / other[:16] / "lock", "a test"):
        states = {sweep["sweep"]: sweep["state"] for sweep in mei("sweep", "list")["sweeps"]}
        assert states[other] == "running"
    assert run(["sweep", "list"]) == 0
    said = capsys.readouterr()
    assert searched[:16] in said.out
    assert "feedfeedfeedfeed/plan.json: sweep of another version" in said.err


def test_show_tells_the_whole(searched, mei, capsys, tmp_path):
    page = tmp_path / "sweep.html"
    told = mei("sweep", "show", searched[:6], "--top", "2", "--html", str(page))
    assert (told["sweep"], told["state"], told["combos_done"], told["plan"]["id"]) == (searched, "done", 12, searched)
    assert len(told["top"]) == 2
    assert {axis["path"].rpartition(".")[2] for axis in told["axes"]} == {
        "ema_fast_window",
        "ema_slow_window",
        "sl_atr_mult",
    }
    assert 0.0 <= told["lost_money_pct"] <= 100.0
    assert len(told["heat_maps"]) == 3
    text = page.read_text()
    shown = read_page(text)
    assert shown.count("svg") == 3 + 3  # three heat maps, and distribution, axes, front
    [best] = [heads for heads in shown.heads if "stands for" in heads]
    axes = ["ema_fast_window", "ema_slow_window", "sl_atr_mult"]
    assert best[:3] == ["combo", "Sharpe ratio", "return, %"]
    figures, place = best[: best.index("stands for")], best.index("stands for") + 1
    assert {"drawdown, %", "trades", "win rate, share"} <= set(figures)
    assert best[place : place + 3] == axes
    assert len(set(best)) == len(best) == 2 + 3 + len(METRICS)
    assert run(["sweep", "show", searched]) == 0
    assert "Share of the variance of sharpe by axis" in capsys.readouterr().out


@pytest.mark.parametrize(("metric", "head"), [("sharpe", "Sharpe ratio"), ("turnover_usd", "turnover, USD")])
def test_the_table_of_the_best_shows_figures_before_axes(searched, capsys, monkeypatch, metric, head):
    monkeypatch.setenv("COLUMNS", "400")
    assert run(["sweep", "top", searched, "--by", metric]) == 0
    heads = next(re.split(r" {2,}", line.strip()) for line in capsys.readouterr().out.splitlines() if "combo " in line)
    assert heads[:2] == ["combo", head]
    figures = [heads.index(name) for name in ("Sharpe ratio", "return, %", "drawdown, %", "trades")]
    assert max(figures) < min(heads.index(name) for name in ("ema_fast_window", "ema_slow_window", "sl_atr_mult"))


def test_the_heat_map_can_be_asked_for(searched, mei, capsys):
    axes = ("trade.sl_atr_mult", "indicators.ema_slow_window")
    [heat] = mei("sweep", "show", searched, "--heat-map", *axes, "--by", "trades")["heat_maps"]
    assert (heat["across"], heat["down"], heat["columns"], heat["rows"]) == (*axes, ["1.5", "3"], ["21", "34"])
    assert heat["combos"] == [[3, 3], [3, 3]]
    code, said = say(capsys, "sweep", "show", searched, "--heat-map", "trade.tp_atr_mult", axes[0])
    assert (code, "no axis of this sweep; there are indicators.ema_fast_window," in said) == (2, True)
    assert say(capsys, "sweep", "show", searched, "--heat-map", axes[0], axes[0])[0] == 2


@pytest.mark.parametrize(("metric", "most"), [("sharpe", True), ("max_drawdown_pct", False)])
def test_top_is_what_sorting_all_rows_gives(world, searched, mei, metric, most):
    plan = read_plan(world.sweeps / searched[:16])
    rows = read_results(sweep_folder(world.sweeps, plan), plan)
    told = mei("sweep", "top", searched[:8], "--by", metric, "--count", "5")["top"]
    expected = rows.sort([metric, "combo"], descending=[most, False]).head(5)
    assert [row["combo"] for row in told] == expected["combo"].to_list()
    assert [row[metric] for row in told] == expected[metric].to_list()


def test_top_writes_files(searched, mei, capsys, tmp_path):
    for name in ("best.csv", "best.parquet"):
        mei("sweep", "top", searched, "--count", "4", "--out", str(tmp_path / name))
    parquet, text = pl.read_parquet(tmp_path / "best.parquet"), pl.read_csv(tmp_path / "best.csv")
    assert parquet["combo"].to_list() == text["combo"].to_list()
    assert "day_sum" in parquet.columns
    assert "day_sum" not in text.columns
    assert say(capsys, "sweep", "top", searched, "--out", "best.txt") == (
        2,
        "error: best.txt: the name must end in .csv or .parquet ",
    )


def searched_by_tpe(world, mei, min_trades):
    """The search `smoke` as `tpe` does it."""
    text = (world.config / "sweeps" / "smoke.yaml").read_text()
    spec = world.config.parent / "guided.yaml"
    spec.write_text(
        text.replace("chunk_combos: 5", f"chunk_combos: 1\nmethod: tpe\nbudget: 12\nmin_trades: {min_trades}")
    )
    return mei("sweep", "run", str(spec), "--from", "2025-01-11", "--top", "20")


def test_what_tpe_does_not_count_is_not_listed(world, searched, mei, capsys):
    plan = read_plan(world.sweeps / searched[:16])
    rows = read_results(world.sweeps / searched[:16], plan)
    enough = int(rows["trades"].sort()[6])
    few = rows.filter(pl.col("trades") < enough)
    assert 0 < few.height < 12
    found = searched_by_tpe(world, mei, enough)
    assert {row["trades"] >= enough for row in found["top"]} == {True}
    assert sum(row["stands_for"] for row in found["top"]) == 12 - few.height
    for words in (["top", "--count", "20"], ["show", "--top", "20"]):
        told = mei("sweep", words[0], found["sweep"], *words[1:])
        assert [row["combo"] for row in told["top"]] == [row["combo"] for row in found["top"]]
        assert (told["min_trades"], told["left_out_for_few_trades"]) == (enough, few.height)
        every = mei("sweep", words[0], found["sweep"], *words[1:], "--all")
        assert sorted(row["combo"] for row in every["top"]) == list(range(12))
        assert (every["min_trades"], every["left_out_for_few_trades"]) == (0, 0)
    code, said = say(capsys, "sweep", "top", found["sweep"])
    assert (code, f"excluded: {few.height} combos with fewer than {enough} closed trades" in said) == (0, True)


def test_where_no_combo_has_trades_enough_none_is_best(world, mei, capsys, tmp_path):
    found = searched_by_tpe(world, mei, 900_000)
    assert (found["top"], found["left_out_for_few_trades"]) == ([], 12)
    assert run(["sweep", "show", found["sweep"], "--html", str(tmp_path / "sweep.html")]) == 0
    assert "12 combos with fewer than 900,000 closed trades" in capsys.readouterr().err
    assert "excluded: 12 combos with fewer than 900,000" in (tmp_path / "sweep.html").read_text()


def test_combos_that_did_the_same_are_listed_once(world, mei, capsys):
    text = (world.config / "sweeps" / "smoke.yaml").read_text()
    (world.config / "sweeps" / "idle.yaml").write_text(
        text.replace("axes: {", "axes: {trade.size_units: [1.0, 2.0, 3.0], ")
    )
    found = mei("sweep", "run", "idle", "--from", "2025-01-11", "--top", "50")
    rows = found["top"]
    assert sum(row["stands_for"] for row in rows) == 36
    assert {row["stands_for"] % 3 for row in rows} == {0}
    assert len(mei("sweep", "top", found["sweep"], "--count", "50", "--all")["top"]) == 36
    assert run(["sweep", "top", found["sweep"], "--count", "50"]) == 0
    assert f"{36 - len(rows)} more combos have the same results as a listed combo" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["show", "top", "resume"])
def test_an_id_that_means_no_sweep_or_two_lists_what_is_there(world, searched, capsys, command):
    code, said = say(capsys, "sweep", command, "zzz")
    assert code == 2
    assert f"sweep 'zzz': no such sweep; there are {searched[:16]}" in said
    twin = world.sweeps / f"{searched[:4]}{'0' * 12}"
    files.write_bytes(twin / "plan.json", b"{}")
    code, said = say(capsys, "sweep", command, searched[:4])
    assert code == 2
    assert "several ids begin so; there are" in said
    assert twin.name in said
    assert say(capsys, "sweep", command, searched[:16] + "f" * 8)[0] == 2


def test_an_unknown_metric_lists_those_that_there_are(searched, capsys):
    code, said = say(capsys, "sweep", "top", searched, "--by", "luck")
    assert (code, "--by luck: no such metric; there are net_pnl_usd, return_pct, sharpe," in said) == (2, True)


@pytest.mark.usefixtures("world")
def test_nothing_was_searched_yet(mei, capsys):
    assert mei("sweep", "list") == {"sweeps": []}
    assert "there are none yet; `mei sweep run` makes one" in say(capsys, "sweep", "show", "a")[1]


def test_a_sweep_that_is_unfinished_is_shown_as_far_as_it_is_and_resumed(world, searched, mei, capsys):
    folder = world.sweeps / searched[:16]
    plan = read_plan(folder)
    whole = read_results(folder, plan)
    content = chunk_path(folder, plan, 1).read_bytes()
    chunk_path(folder, plan, 1).unlink()
    assert mei("sweep", "show", searched)["combos_done"] == 7
    code, said = say(capsys, "sweep", "top", searched)
    assert (code, f"7 of 12 combos are done; `mei sweep resume {searched[:16]}` resumes it" in said) == (0, True)
    (world.config / "sweeps" / "smoke.yaml").write_text("nonsense")  # the plan is enough
    done = mei("sweep", "resume", searched[:5])
    assert (done["sweep"], done["resumed"], done["combos"]) == (searched, 7, 12)
    assert read_results(folder, plan).equals(whole)
    assert chunk_path(folder, plan, 1).read_bytes() == content


@pytest.mark.long
def test_a_search_of_a_night_is_resumed_with_the_bars_of_its_holdout(world, mei):
    assert mei("nightly", "--profile", "smoke", "--as-of", "last")["combos"] == 12
    [stored] = stored_sweeps(world.sweeps)
    assert stored.plan.to_ms < stored.plan.slice_ms
    chunk_path(stored.folder, stored.plan, 0).unlink()
    assert mei("sweep", "resume", stored.id)["resumed"] == 7


def test_a_symbol_with_a_bar_that_no_market_makes_sits_out(world, mei, capsys, tmp_path):
    lake = Lake(world.lake)
    sound = read_candles(lake, VENUE, "1h", ["BBB"]).slice(700, 1)
    prices = pl.col("open", "high", "low", "close")
    merge_candles(lake, sound.with_columns(prices * 1000.0), now_ms=START_MS + 61 * DAY_MS)
    sweep = mei("sweep", "smoke", "--from", "2025-01-11")["sweep"]
    assert symbols_of(mei, sweep) == ["AAA", "CCC"]
    config = tmp_path / "one.yaml"
    config.write_text(f"strategy: ema_cross\nvenue: {VENUE}\ninterval: 1h\n")
    for words in (["backtest"], ["why", "--symbol", "AAA", "--at", "2025-02-01"]):
        code, said = say(capsys, *words, "--config", str(config))
        assert (code, "BBB: spike: 1 implausible 1h bar" in said) == (DataError.exit_code, True)
    config.write_text(f"strategy: ema_cross\nvenue: {VENUE}\ninterval: 1h\nsymbols: [AAA, CCC]\n")
    assert say(capsys, "backtest", "--config", str(config))[0] == 0
    merge_candles(lake, sound, now_ms=START_MS + 61 * DAY_MS)
    sweep = mei("sweep", "smoke", "--from", "2025-01-11")["sweep"]
    assert symbols_of(mei, sweep) == ["AAA", "BBB", "CCC"]


def test_a_sweep_of_the_version_before_is_listed_with_what_to_do(world, searched, mei, capsys):
    path = world.sweeps / searched[:16] / "plan.json"
    content = json.loads(path.read_text())
    del content["format"]  # plans of format 1 had no number
    files.write_json(path, content)
    listed = next(sweep for sweep in mei("sweep", "list")["sweeps"] if sweep["sweep"].startswith(searched[:16]))
    problem = (
        f"{path}: sweep of another version of MEI: its format is 1, this version reads 2; "
        "run the sweep again with `mei sweep run`"
    )
    assert (listed["state"], listed["problem"]) == ("unreadable", problem)
    assert run(["sweep", "list"]) == 0
    assert problem in " ".join(capsys.readouterr().err.split())
    for words in (["show", searched], ["top", searched], ["resume", searched], ["compare", searched, searched]):
        code, said = say(capsys, "sweep", *words)
        assert (code, problem in " ".join(said.split())) == (DataError.exit_code, True)


def test_resume_refuses_another_lake(world, searched, capsys):
    lake = fill_lake(world)
    last = read_funding(lake, VENUE, ["AAA"]).filter(pl.col("time_ms") < START_MS + 40 * DAY_MS).tail(1)
    merge_funding(lake, last.with_columns(rate=pl.lit(0.0007)), now_ms=START_MS + 90 * DAY_MS)
    code, said = say(capsys, "sweep", "resume", searched)
    assert code == DataError.exit_code
    assert "bars, funding or instruments of test in lake" in said
    assert "have changed since the sweep was planned" in said


def test_resume_refuses_other_rules(world, searched, capsys):
    plan = world.sweeps / searched[:16] / "plan.json"
    content = json.loads(plan.read_text())
    content["kernels"] = "0" * 64
    plan.write_text(json.dumps(content))
    code, said = say(capsys, "sweep", "resume", searched[:16])
    assert (code, "changed by hand: its content has the id" in said) == (DataError.exit_code, True)
    stored = plan_from_dict(content | {"id": files.sha256_json(identity_of(content))})
    folder = sweep_folder(world.sweeps, stored)
    write_plan(folder, stored)
    code, said = say(capsys, "sweep", "resume", folder.name)
    assert code == Refused.exit_code
    assert "made with kernels 000000000000, this checkout has" in said


def identity_of(content):
    """Return the part of a plan that its id is a hash of."""
    absent = {"format", "id", "combos", "chunks", "chunk_combos"}
    return {key: value for key, value in content.items() if key not in absent}


def test_a_sweep_that_runs_elsewhere_is_busy(world, searched, capsys):
    with files.locked(world.sweeps / searched[:16] / "lock", f"sweep {searched[:16]} is running"):
        code, said = say(capsys, "sweep", "resume", searched)
    assert code == Busy.exit_code
    assert f"sweep {searched[:16]} is running, process" in said


def test_compare_sets_the_same_combos_side_by_side(world, searched, mei, capsys):
    later = mei("sweep", "run", "smoke", "--from", "2025-01-21")["sweep"]
    told = mei("sweep", "compare", searched, later)
    assert told["combos"] == 12
    assert [difference.split(":")[0] for difference in told["differences"]] == ["days"]
    one, other = (rows_of(world, sweep) for sweep in (searched, later))
    both = one.join(other, on="combo", suffix="_later")
    change = next(item for item in told["changes"] if item["metric"] == "sharpe")
    assert change["first"] == pytest.approx(one["sharpe"].mean())
    assert change["second"] == pytest.approx(other["sharpe"].mean())
    assert change["improved_frac"] == pytest.approx((both["sharpe_later"] > both["sharpe"]).mean())
    ranks = both.select(pl.corr("sharpe", "sharpe_later", method="spearman")).item()
    assert change["rank_correlation"] == pytest.approx(ranks)
    best = one.sort("sharpe", descending=True)["combo"][0]
    assert told["best"][0]["combo"] == [best, best]
    assert told["best"][0]["ranks"][0] == 1
    assert told["best"][1]["ranks"][1] == 1
    assert run(["sweep", "compare", searched, later]) == 0
    assert "12 combos in common" in capsys.readouterr().out


def rows_of(settings, sweep):
    plan = read_plan(settings.sweeps / sweep[:16])
    return read_results(sweep_folder(settings.sweeps, plan), plan)


def test_compare_matches_combos_of_different_grids(searched, mei, tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "strategy: ema_cross\ninterval: 1h\nparams: {entry.warmup_bars: 50, trade.sl_atr_mult: 3.0}\n"
        "axes: {indicators.ema_slow_window: [34, 55], indicators.ema_fast_window: [13, 5]}\n"
    )
    other = mei("sweep", "run", str(mine), "--from", "2025-01-11")["sweep"]
    told = mei("sweep", "compare", searched, other)
    assert (told["combos"], told["differences"]) == (2, [])
    change = told["changes"][0]
    # The same combo of the same days is the same, whatever its number.
    assert change["first"] == change["second"]
    assert (change["improved_frac"], change["rank_correlation"]) == (0.0, pytest.approx(1.0))
    assert told["best"][0] == told["best"][1]


def test_compare_says_why_nothing_is_in_common(searched, mei, capsys, tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "strategy: ema_cross\ninterval: 1h\nparams: {entry.warmup_bars: 60}\naxes: {indicators.ema_fast_window: [5]}\n"
    )
    other = mei("sweep", "run", str(mine), "--from", "2025-01-11")["sweep"]
    code, said = say(capsys, "sweep", "compare", searched, other)
    assert code == 2
    assert "no combo in common: entry.warmup_bars is 50 in the first, 60 in the second" in said
