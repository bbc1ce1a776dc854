"""What a report says, against the files that it is made of."""

import re
import shutil
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from night_kit import LANES, NOW_MS, run_night
from page_kit import read_page
from result_kit import read_results

from kernels.blocks import BLOCKS
from mei_pipeline import pages, svg
from mei_pipeline.candles.intervals import DAY_MS
from mei_pipeline.config.load import load_config
from mei_pipeline.errors import DataError
from mei_pipeline.night.plan import NightPlan
from mei_pipeline.night.store import night_folder, read_night_plan
from mei_pipeline.promotion.moves import pause
from mei_pipeline.promotion.promote_proposals import promote_proposals
from mei_pipeline.promotion.propose import parameter_changes
from mei_pipeline.registry.database import open_registry
from mei_pipeline.registry.lanes import configured_lanes
from mei_pipeline.registry.records import AuditContext
from mei_pipeline.registry.store import get_config, lane_pointers
from mei_pipeline.report.document import (
    Paragraph,
    Plots,
    Report,
    Section,
    Table,
    Tiles,
    html_of,
    markdown_of,
)
from mei_pipeline.report.facts import Facts, read_facts
from mei_pipeline.report.sections import outcome, report_of
from mei_pipeline.report.write import is_current, latest_finished, unnamed, write_report
from mei_pipeline.selection.io import read_candidates, read_gate_results, read_replays
from mei_pipeline.selection.pipeline import select_candidates, selection_days
from mei_pipeline.selection.plots import equity_plot
from mei_pipeline.selection.segments import Segment, flat_segment
from mei_pipeline.settings import Settings
from mei_pipeline.simulation.window import block_starts_ms
from mei_pipeline.sweep.results import sweep_folder

pytest_plugins = ("night_fixtures",)

every_night = pytest.mark.parametrize("ended", ["passed", "rejected", "none"], indirect=True)
HOSTILE = "<script>alert('1')</script>|a\n| [x](y) `b` *c* _d_ & \\"


def facts_of(settings: Settings) -> Facts:
    return read_facts(settings, read_night_plan(settings), NOW_MS)


def tables(report: Report, section: str) -> dict[str, Table]:
    (found,) = [each for each in report.sections if each.title == section]
    return {block.title: block for block in found.blocks if isinstance(block, Table)}


def cells(text: str, title: str) -> list[list[str]]:
    """The rows of the table of a Markdown text that stands below a title."""
    _, _, after = text.partition(f"**{title}**\n\n")
    lines = after.partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


@every_night
def test_every_verdict_is_in_both_forms_as_it_is_in_the_file(ended: Settings) -> None:
    plan = read_night_plan(ended)
    written = write_report(ended, plan, NOW_MS)
    text, page = written.markdown.read_text(), read_page(written.html.read_text())
    judgements = read_gate_results(ended, plan).judgements
    for each in judgements:
        found = cells(text, f"Rank {each.rank}, config {each.config_id[:12]}")
        assert found == [
            [gate.name, pages.cell_text(gate.value), pages.cell_text(gate.threshold), gate.verdict, gate.explanation]
            for gate in each.gates
        ]
        assert all(gate.explanation in page.words for gate in each.gates)
        assert len(each.gates) > 15
    assert len(judgements) == len(read_candidates(ended, plan).candidates)
    assert all(
        name in text and name in page.words for name in (*LANES, plan.id, *plan.sweep.symbols, *plan.holdout_symbols)
    )
    assert unnamed(ended, plan, text) == ()
    assert set(unnamed(ended, plan, "")) >= set(LANES)


@every_night
def test_the_page_is_whole_and_fetches_nothing(ended: Settings) -> None:
    plan = read_night_plan(ended)
    text = write_report(ended, plan, NOW_MS).html.read_text()
    assert read_page(text).count("section") == 9
    pictures = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    labels = [ET.fromstring(each).get("aria-label", "") for each in pictures]  # noqa: S314 - our own picture
    candidates = read_candidates(ended, plan).candidates
    assert sum("equity" in label for label in labels) == len(candidates)
    assert {"Overfitting", "Selection bias", "Walk-forward"} <= set(labels)
    assert any(label.startswith("sharpe by") for label in labels)


def test_the_finalists_table_says_what_the_file_says(ended: Settings) -> None:
    facts = facts_of(ended)
    (rows,) = [table.rows for title, table in tables(report_of(facts), "Candidates").items() if not title]
    for row, each in zip(rows, facts.candidates.candidates, strict=True):
        out, holdout = each.out_of_sample, each.holdout
        assert row[:4] == (each.rank, each.config_id[:12], each.combo, "passed")
        assert row[4] == each.in_sample_sharpe
        assert row[5:9] == (out.sharpe, out.return_pct, out.max_drawdown_pct, out.trades)
        assert row[9:] == (holdout.sharpe, holdout.return_pct, holdout.max_drawdown_pct, holdout.trades)


@pytest.mark.parametrize("ended", ["rejected"], indirect=True)
def test_who_fell_at_which_gate_is_counted_from_the_verdicts(ended: Settings) -> None:
    facts = facts_of(ended)
    fallen = tables(report_of(facts), "Rejected combos and candidates")
    assert fallen["At the gates"].rows == (("min_sharpe", 2, 0, 2, "rank 0, rank 1"),)
    assert {why: count for count, why in fallen["Before the gates"].rows} == facts.candidates.rejected
    matrix = {row[0]: row[1:] for row in fallen["Value and verdict"].rows}
    for each in facts.gate_results.judgements:
        for gate in each.gates:
            assert matrix[gate.name][0] == gate.threshold
            assert matrix[gate.name][1 + each.rank] == f"{pages.cell_text(gate.value)} {gate.verdict}"
    assert "0 of 2 candidates passed every gate. Nothing was promoted: none of 2 passed" in outcome(facts)
    assert "That is a normal outcome" in outcome(facts)


@pytest.mark.parametrize("ended", ["none"], indirect=True)
def test_a_night_without_a_finalist_is_told_with_its_reason_and_dashes(ended: Settings) -> None:
    facts = facts_of(ended)
    text = markdown_of(report_of(facts))
    assert "There was no candidate. Nothing was promoted: no combo of the search with enough trades made money" in text
    assert "No candidate was judged." in text
    assert {row[1] for row in tables(report_of(facts), "Selection bias")[""].rows} == {None}
    assert "- probability of backtest overfitting: -\n" in text
    assert not re.search(r"\bnan\b", text.lower())


def test_what_changed_in_the_lanes_is_what_the_registry_has(ended: Settings) -> None:
    facts = facts_of(ended)
    pointers = {each.lane: each for each in lane_pointers(open_registry(ended.registry))}
    rows = {row[0]: row[1:] for row in tables(report_of(facts), "Lanes")[""].rows}
    assert set(rows) == set(LANES) == set(pointers)
    for lane, (before, chosen, became, why, now, generation, state) in rows.items():
        assert (before, became) == (None, "moved")
        assert chosen == now == pointers[lane].config_id[:12]
        assert (generation, state) == (1, "paper")
        assert "of 2 configs that no other lane takes" in why or "of 1 config that no other lane takes" in why
    noted = tables(report_of(facts), "Lanes")["Transitions of this nightly run in the registry"].rows
    assert sorted(row[5] for row in noted) == ["added", "added", "promoted", "promoted", "validated", "validated"]
    assert "Moved: paper1 empty → " in outcome(facts)


def test_a_second_night_compares_incumbents_and_leaves_them(ended: Settings) -> None:
    config = load_config(ended.config)
    # Another kind of night is another night, over the same days.
    (ended.config / "pipeline.yaml").write_text(
        (ended.config / "pipeline.yaml").read_text().replace("holdout_days: 10", "holdout_days: 9")
    )
    first = facts_of(ended)
    plan = run_night(ended, load_config(ended.config))
    facts = read_facts(ended, plan, NOW_MS)
    assert plan.id != first.plan.id
    report = report_of(facts)
    held = {each.lane: each.now.config_id for each in first.lanes if each.now}
    compared = tables(report, "Lanes")["Incumbents, replayed on the test days of the candidates"].rows
    assert {row[0]: row[1] for row in compared} == {lane: config_id[:12] for lane, config_id in held.items()}
    assert all(isinstance(row[3], float) and row[4:] == (None, None, 0, "no") for row in compared)
    assert {row[0]: row[1:4] for row in tables(report, "Lanes")[""].rows} == {
        lane: (config_id[:12], None, "unchanged") for lane, config_id in held.items()
    }
    assert "the incumbent has run 0 of 7 days" in outcome(facts)
    # The first night's report still says what that night did, after another one.
    assert facts_of_plan(ended, first.plan).lanes == first.lanes
    assert config.lanes


def facts_of_plan(settings: Settings, plan: NightPlan) -> Facts:
    return read_facts(settings, plan, NOW_MS)


def test_a_proposal_that_was_not_applied_is_no_normal_outcome(ended: Settings) -> None:
    facts = facts_of(ended)
    waiting = tuple(replace(each, moved=False, now=None) for each in facts.lanes)
    told = outcome(replace(facts, lanes=waiting))
    assert told.endswith("Assigned but not applied: paper1, paper2.")
    rows = tables(report_of(replace(facts, lanes=waiting)), "Lanes")[""].rows
    assert {row[3] for row in rows} == {"proposed, not applied"}
    assert outcome(replace(facts, lanes=())).split("Nothing was promoted: ")[1].startswith("config/lanes has no lane")


def test_what_a_lane_does_later_is_told_as_of_now(ended: Settings) -> None:
    registry = open_registry(ended.registry)
    pause(registry, ended.lanes, "paper1", AuditContext(NOW_MS + 1, "a person", "too hot", "command"))
    (row, *_) = tables(report_of(facts_of(ended)), "Lanes")[""].rows
    assert (row[0], row[3], row[7]) == ("paper1", "moved", "paused")
    config = load_config(ended.config)
    again = AuditContext(NOW_MS + 2, "test", "again", "job")
    policy_id = config.policy.selection.id
    promote_proposals(registry, ended.lanes, configured_lanes(config.lanes), policy_id=policy_id, audit=again)
    assert tables(report_of(facts_of(ended)), "Lanes")[""].rows[0] == row


def test_parameters_that_differ_between_old_and_new_are_listed(ended: Settings) -> None:
    facts = facts_of(ended)
    one, other = facts.lanes
    assert one.now
    assert other.now
    registry = open_registry(ended.registry)
    old, new = (get_config(registry, lane.now.config_id).resolved for lane in (one, other))
    differing = parameter_changes(old, new)
    assert differing
    told = replace(facts, lanes=(replace(one, changes=differing),))
    rows = tables(report_of(told), "Lanes")["Changed parameters"].rows
    assert [row[:2] for row in rows] == [("paper1", change.path) for change in differing]


def test_figures_of_the_best_results_come_before_their_parameters(ended: Settings) -> None:
    facts = facts_of(ended)
    found = tables(report_of(facts), "Search")
    [best] = [table for title, table in found.items() if title.startswith("Best")]
    axes = [path.rpartition(".")[2] for path, _ in facts.plan.sweep.axes]
    assert best.heading == ("combo", "Sharpe", "return, %", "drawdown, %", "trades", "profit factor", *axes)
    row = facts.searched.summary.best.rows.row(0, named=True)
    assert best.rows[0][1:3] == (row["sharpe"], row["return_pct"])


def test_names_from_outside_stay_words(ended: Settings) -> None:
    facts = facts_of(ended)
    plan = replace(facts.plan, dropped={HOSTILE: HOSTILE})
    report = report_of(replace(facts, plan=plan))
    page, text = read_page(html_of(report)), markdown_of(report)
    assert page.count("script") == 0
    assert "<script>alert('1')</script>|a" in page.words
    (row,) = cells(text, "Excluded symbols")
    assert len(row) == 2
    assert row[0].startswith("\\<script\\>alert('1')\\</script\\>\\|a \\| \\[x\\](y) \\`b\\` \\*c\\* \\_d\\_ \\& \\\\")


def test_every_block_escapes_what_it_shows() -> None:
    table = Table(
        HOSTILE, (HOSTILE, "n"), ((pages.Bad(HOSTILE), 1.5), (HOSTILE, None), (pages.Good("a"), float("nan")))
    )
    blocks = (Paragraph(HOSTILE), Tiles(((HOSTILE, HOSTILE),)), table, Plots((svg.document(1, 1, "", ()),)))
    report = Report(HOSTILE, HOSTILE, (Section(HOSTILE, blocks),))
    page = read_page(html_of(report))
    assert page.count("script") == 0
    assert page.words.count("<script>") == 11  # the title of the report twice
    text = markdown_of(report)
    assert re.findall(r"(?<!\\)[<>`*\[\]&]", text.replace("**", "")) == []
    assert re.findall(r"(?<!\\)_", text) == []
    assert [row[1] for row in cells(text, HOSTILE_TITLE)] == ["1.5", "-", "-"]


def test_blocks_inside_of_blocks_are_in_both_forms() -> None:
    inner = Table("Inner", ("n",), ((2,),))
    nested = pages.Columns(
        ((Paragraph("left"),), (pages.Details("more", (pages.BulletList(("first <b>", "second")), inner)),))
    )
    report = Report("Title", "", (Section("Section", (nested, Plots(()))),))
    words = read_page(html_of(report)).words
    assert [words.count(each) for each in ("left", "more", "first <b>", "second", "Inner")] == [1] * 5
    text = markdown_of(report)
    assert "left\n\n- first \\<b\\>\n- second\n\n**Inner**\n" in text
    assert cells(text, "Inner") == [["2"]]


HOSTILE_TITLE = "\\<script\\>alert('1')\\</script\\>\\|a \\| \\[x\\](y) \\`b\\` \\*c\\* \\_d\\_ \\& \\\\"


def test_words_with_underscores_inside_are_left_readable() -> None:
    text = markdown_of(Report("min_sharpe of ema_cross", "", ()))
    assert text.startswith("# min_sharpe of ema_cross\n")


def test_a_report_without_the_rows_of_the_search_says_so(ended: Settings) -> None:
    plan = read_night_plan(ended)
    shutil.rmtree(sweep_folder(ended.sweeps, plan.sweep))
    text = write_report(ended, plan, NOW_MS).markdown.read_text()
    assert "Housekeeping has removed the rows of the search" in text
    assert "- combos that lost money: -\n" in text
    assert unnamed(ended, plan, text) == ()


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("roles.json", "materialise `role_assignments`"),
        ("incumbents.json", "materialise `role_assignments`"),
        ("gates.json", "materialise `gate_results`"),
        ("candidates.json", "materialise `candidates`"),
        ("replays.npz", "materialise `candidates`"),
        ("stitched.npz", "materialise `walk_forward`"),
    ],
)
@pytest.mark.parametrize("damage", [None, b"", b"{", b"PK\x03\x04 torn"])
def test_a_file_that_is_missing_or_torn_names_the_asset_to_materialise(
    ended: Settings, file: str, says: str, damage: bytes | None
) -> None:
    plan = read_night_plan(ended)
    path = night_folder(ended, plan) / file
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    with pytest.raises(DataError, match=says):
        write_report(ended, plan, NOW_MS)
    assert not (night_folder(ended, plan) / "report.md").exists()


def test_the_same_night_gives_the_same_bytes(ended: Settings) -> None:
    plan = read_night_plan(ended)
    assert not is_current(ended, plan)
    written = write_report(ended, plan, NOW_MS)
    first = written.markdown.read_bytes(), written.html.read_bytes()
    assert is_current(ended, plan)
    write_report(ended, plan, NOW_MS)
    assert (written.markdown.read_bytes(), written.html.read_bytes()) == first


def test_the_latest_is_the_last_that_ended(ended: Settings) -> None:
    plan = read_night_plan(ended)
    assert latest_finished(ended) == plan
    (night_folder(ended, plan) / "roles.json").unlink()
    assert latest_finished(ended) is None


def test_replays_agree_with_the_search_and_with_what_is_said_of_them(ended: Settings) -> None:
    plan = read_night_plan(ended)
    rows = read_results(sweep_folder(ended.sweeps, plan.sweep), plan.sweep)
    starts = block_starts_ms(plan.sweep.from_ms, plan.sweep.to_ms)
    for each, (inside, holdout) in zip(read_candidates(ended, plan).candidates, read_replays(ended, plan), strict=True):
        assert (inside.days_ms[0], inside.days_ms[-1] + DAY_MS) == selection_days(plan) == (starts[0], starts[-1])
        assert (holdout.days_ms[0], holdout.days_ms[-1] + DAY_MS) == (plan.holdout_ms, plan.to_ms)
        assert 100.0 * holdout.return_frac == each.holdout.return_pct
        # A leg closes what is left on the last day, and the search does not: the last block may differ.
        sums = rows.filter(combo=each.combo)["day_sum"].to_numpy()[0]
        block = np.searchsorted(starts, inside.days_ms, side="right") - 1
        np.testing.assert_allclose(np.bincount(block, inside.returns)[:-1], sums[:-1], rtol=1e-9, atol=1e-12)


@every_night
def test_every_combo_is_a_finalist_or_fell_for_one_reason(ended: Settings) -> None:
    found = read_candidates(ended, read_night_plan(ended))
    assert sum(found.rejected.values()) + len(found.candidates) == found.combos == 12
    assert min(found.rejected.values()) >= 0


def test_a_finalist_that_lost_on_the_whole_is_not_counted_among_the_fallen(ended: Settings) -> None:
    """A chosen combo's row says that it lost money: it stays a finalist, and nobody fell for it."""
    plan = read_night_plan(ended)
    chosen = [each.combo for each in read_candidates(ended, plan).candidates]
    for path in (sweep_folder(ended.sweeps, plan.sweep) / "chunks").glob("*.parquet"):
        kept = pq.read_metadata(path).metadata
        rows = pl.read_parquet(path).with_columns(
            net_pnl_usd=pl.when(pl.col("combo").is_in(chosen)).then(-1.0).otherwise(pl.col("net_pnl_usd"))
        )
        noted = {key.decode(): kept[key].decode() for key in (b"mei.sweep", b"mei.chunk")}
        rows.write_parquet(path, metadata=noted)
    found = select_candidates(ended, plan)
    assert list(found.rejected.values()) == [0, 0, 10]
    assert len(found.candidates) == 2


def test_rolling_windows_are_chosen_on_their_last_blocks_alone(ended: Settings) -> None:
    plan = read_night_plan(ended)
    rolling = plan.selection.walk_forward.model_copy(update={"window": "rolling"})
    plan = replace(plan, selection=plan.selection.model_copy(update={"walk_forward": rolling}))
    starts = block_starts_ms(plan.sweep.from_ms, plan.sweep.to_ms)
    assert selection_days(plan) == (starts[BLOCKS - 8], plan.sweep.to_ms)


def test_candidates_can_be_named_again(ended: Settings) -> None:
    plan = read_night_plan(ended)
    before = (night_folder(ended, plan) / "replays.npz").read_bytes()
    select_candidates(ended, plan)
    assert (night_folder(ended, plan) / "replays.npz").read_bytes() == before


def segment(days: int, from_day: int, returns: Any) -> Segment:
    flat = flat_segment((from_day * DAY_MS, (from_day + days) * DAY_MS))
    return replace(flat, returns=np.asarray(returns, dtype=np.float64))


def test_an_equity_picture_draws_every_day_of_every_leg_within_its_frame() -> None:
    segments = {
        "in sample": segment(3, 10, [0.5, 0.5, -0.9]),
        "out of sample": segment(2, 11, [0.1, 0.0]),
        "holdout": segment(1, 13, [1]),
    }
    root = ET.fromstring(equity_plot("Rank <0>", segments))  # noqa: S314 - our own picture
    width, height = (float(root.get(name, "")) for name in ("width", "height"))
    lines = [p.get("d", "") for p in root.iter("{http://www.w3.org/2000/svg}path") if p.get("fill") == "none"]
    points = [np.array([pair.split() for pair in line[1:].split("L")], dtype=float) for line in lines]
    assert [len(each) for each in points] == [4, 3, 2]
    assert all((each >= 0).all() and (each <= (width, height)).all() for each in points)
    # All begin at 1; the first rises to 2.25, the greatest; the last ends at 2, on the right.
    assert len({each[0, 1] for each in points}) == 1
    assert min(each[:, 1].min() for each in points) == points[0][2, 1]
    assert points[2][-1, 0] == max(each[:, 0].max() for each in points)
    words = " ".join(text.text or "" for text in root.iter("{http://www.w3.org/2000/svg}text"))
    assert "in sample: 3 days, -77.5 %" in words
    assert "holdout: 1 days, +100.0 %" in words


def test_an_equity_picture_without_days_says_so() -> None:
    assert "no days" in equity_plot("Equity", {"in sample": flat_segment((0, 0))})
