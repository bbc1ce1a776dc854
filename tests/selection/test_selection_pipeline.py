"""Each station of a night by itself: what it reads, what it writes, and what it does with bad input."""

import hashlib
import re
from dataclasses import fields, replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from example_kit import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from market_kit import DAY_MS, START_MS, fill_lake, spec, write_config
from pipeline_kit import EDGE, NOW_MS, WIDE, Night, copy_of, deploy, judge, search, searched, write_stitched
from result_kit import read_results

from kernels.blocks import BLOCKS
from mei_pipeline.config.models import SweepSpec
from mei_pipeline.errors import ConfigError, DataError
from mei_pipeline.night.data import build_night_features, load_night_bars
from mei_pipeline.promotion.pipeline import assign_lanes, propose_configs
from mei_pipeline.registry.database import open_registry
from mei_pipeline.registry.records import AuditContext
from mei_pipeline.registry.store import lane_pointers, latest_proposals, list_configs
from mei_pipeline.registry.trials import Trial, add_trial, trials_between
from mei_pipeline.selection.folds import train_before
from mei_pipeline.selection.io import read_candidates, read_gate_results, read_verdicts, read_walk_forward
from mei_pipeline.selection.pipeline import judge_candidates, run_walk_forward, select_candidates
from mei_pipeline.selection.segments import MarketData, Segment, flat_segment, run_segment
from mei_pipeline.selection.walk_forward import check_folds, own_searches
from mei_pipeline.settings import Settings
from mei_pipeline.sweep.plan import resolved_combo
from mei_pipeline.sweep.results import sweep_folder


def gate(found: Night):
    return judge_candidates(found.settings, found.plan, open_registry(found.settings.registry), NOW_MS)


# What a station reads and writes


def test_what_a_station_writes_it_reads_back(judged):
    walk, stitched_by_rank = run_walk_forward(judged.settings, judged.plan)
    again, stored = read_walk_forward(judged.settings, judged.plan)
    assert again == walk
    assert len(stored) == len(stitched_by_rank) == len(walk.ranks) == 3
    for one, other in zip(stored, stitched_by_rank, strict=True):
        assert all(np.array_equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(Segment))
    chosen = select_candidates(judged.settings, judged.plan)
    assert read_candidates(judged.settings, judged.plan) == chosen
    results = gate(judged)
    assert read_gate_results(judged.settings, judged.plan) == results
    _, verdicts = read_verdicts(judged.settings, judged.plan)
    assert [each for each, _, _ in verdicts] == list(chosen.candidates)
    assert [each for _, each, _ in verdicts] == list(results.judgements)


def test_a_station_run_again_writes_the_same(judged):
    def contents():
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in judged.folder.iterdir()}

    before = contents()
    assert {"walk_forward.json", "stitched.npz", "candidates.json", "gates.json"} <= before.keys()
    judge(judged)
    assert contents() == before


STATIONS = {
    "candidates": lambda found: select_candidates(found.settings, found.plan),
    "gate_results": gate,
    "role_assignments": lambda found: assign_lanes(found.settings, found.config, found.plan, NOW_MS),
    "deployments": lambda found: propose_configs(found.settings, found.config, found.plan, None),
}
READS = [
    ("walk_forward.json", "walk_forward", ("candidates", "gate_results", "role_assignments", "deployments")),
    ("stitched.npz", "walk_forward", ("candidates", "gate_results", "role_assignments", "deployments")),
    ("candidates.json", "candidates", ("gate_results", "role_assignments", "deployments")),
    ("gates.json", "gate_results", ("role_assignments", "deployments")),
    ("roles.json", "role_assignments", ()),
]


@pytest.mark.parametrize(("name", "asset", "station"), [(n, a, s) for n, a, stations in READS for s in stations])
def test_what_is_missing_or_damaged_is_named_with_the_asset_that_makes_it(judged, name, asset, station):
    path = judged.folder / name
    whole = path.read_bytes()
    for damage in (whole[: len(whole) // 2], b"", b"[]", b"\x00" * 40):
        path.write_bytes(damage)
        with pytest.raises(DataError, match=rf"{re.escape(str(path))}: damaged .*; materialise `{asset}` again"):
            STATIONS[station](judged)
    path.unlink()
    with pytest.raises(DataError, match=rf"{re.escape(str(path))}: no such file; materialise `{asset}`"):
        STATIONS[station](judged)


def test_deployments_read_what_the_lanes_were_assigned(judged):
    with pytest.raises(DataError, match=r"roles\.json: no such file; materialise `role_assignments`"):
        deploy_only(judged)
    deploy(judged)
    (judged.folder / "roles.json").write_text("[{}]")
    with pytest.raises(DataError, match=r"roles\.json: damaged .*; materialise `role_assignments` again"):
        deploy_only(judged)


def deploy_only(found: Night):
    return propose_configs(found.settings, found.config, found.plan, AuditContext(NOW_MS, "test", "night", "test"))


@settings(examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_of_the_chains_is_noticed_or_changes_nothing(judged, place, bit):
    path = judged.folder / "stitched.npz"
    whole = path.read_bytes()
    _, before = read_walk_forward(judged.settings, judged.plan)
    damaged = bytearray(whole)
    damaged[int(place * len(whole))] ^= 1 << bit
    try:
        path.write_bytes(bytes(damaged))
        _, after = read_walk_forward(judged.settings, judged.plan)
    except DataError:
        pass
    else:
        for one, other in zip(before, after, strict=True):
            assert all(np.array_equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(Segment))
    finally:
        path.write_bytes(whole)


def test_files_of_other_choices_are_refused(judged):
    path = judged.folder / "candidates.json"
    whole, combo = path.read_text(), read_candidates(judged.settings, judged.plan).candidates[0].combo
    path.write_text(whole.replace(f'"combo": {combo},', f'"combo": {combo + 1},'))
    with pytest.raises(
        DataError, match=r"candidates\.json: has other combos than walk_forward\.json; materialise `cand"
    ):
        gate(judged)
    with pytest.raises(DataError, match="materialise `candidates` again"):
        deploy(judged)
    path.write_text(whole)
    gates, config_id = (
        judged.folder / "gates.json",
        read_gate_results(judged.settings, judged.plan).judgements[0].config_id,
    )
    gates.write_text(gates.read_text().replace(config_id, "0" * 64))
    with pytest.raises(DataError, match=r"gates\.json: has other candidates .*; materialise `gate_results` again"):
        deploy(judged)
    assert list_configs(open_registry(judged.settings.registry)) == ()


# What they say


def test_the_finalists_are_what_their_slots_stand_for(judged):
    walk, stitched_by_rank = read_walk_forward(judged.settings, judged.plan)
    chosen = read_candidates(judged.settings, judged.plan)
    assert chosen.combos == 12
    assert sum(chosen.rejected.values()) + len(chosen.candidates) == 12
    assert [each.rank for each in chosen.candidates] == [0, 1, 2]
    ranks = [rank.final.loss for rank in walk.ranks]
    assert ranks == sorted(ranks)
    assert [each.in_sample_sharpe for each in chosen.candidates] == [rank.final.sharpe for rank in walk.ranks]
    for candidate, rank, stitched in zip(chosen.candidates, walk.ranks, stitched_by_rank, strict=True):
        assert candidate.params == judged.plan.sweep.combo(rank.final.combo)
        assert candidate.selected == tuple(pick and pick.combo for pick in rank.selected)
        assert candidate.out_of_sample.days == sum(fold.days for fold in walk.folds)
        assert candidate.out_of_sample.return_pct == pytest.approx(100 * (np.prod(1 + stitched.returns) - 1))
        assert candidate.holdout.days == 10


def test_a_search_row_counts_as_lost_only_where_it_made_no_money(judged):
    rows = read_results(sweep_folder(judged.settings.sweeps, judged.plan.sweep), judged.plan.sweep)
    rejected = read_candidates(judged.settings, judged.plan).rejected
    assert rejected["no profit on the days of the search"] == rows.filter(rows["net_pnl_usd"] <= 0).height


def test_combos_that_trade_too_seldom_for_the_gate_are_left_out_and_counted(mei_settings: Settings, tmp_path: Path):
    found = searched(mei_settings, tmp_path / "config", drift=0.002, min_trades=100_000)
    judge(found)
    rows = read_results(sweep_folder(found.settings.sweeps, found.plan.sweep), found.plan.sweep)
    chosen = read_candidates(mei_settings, found.plan)
    (few,) = [count for why, count in chosen.rejected.items() if "min_trades" in why]
    assert few == rows.filter(rows["net_pnl_usd"] > 0).height > 0
    assert (chosen.candidates, sum(chosen.rejected.values())) == ((), rows.height)
    assert "trades" in deploy(found).lanes[0].reason


def test_no_day_of_the_holdout_chooses_or_judges(judged):
    walk, stitched_by_rank = read_walk_forward(judged.settings, judged.plan)
    assert all(fold.test_ms[1] <= judged.plan.holdout_ms for fold in walk.folds)
    assert max(int(stitched.days_ms[-1]) for stitched in stitched_by_rank) < judged.plan.holdout_ms


# Looks


def looks_of(found: Night) -> int:
    results = gate(found)
    assert results.search is not None
    return results.search.trials


def other_look(found: Night, **changes) -> Trial:
    """A look of somebody else at the days of this night's chains."""
    _, stitched_by_rank = read_walk_forward(found.settings, found.plan)
    first, last = (date(1970, 1, 1) + timedelta(int(day) // DAY_MS) for day in stitched_by_rank[0].days_ms[[0, -1]])
    returns = tuple(np.random.default_rng(5).normal(0, 0.01, (last - first).days + 1).tolist())
    base = Trial("n", "rank 0", ("f" * 64,), found.plan.sweep.venue, first, last, returns, "d" * 64, "p" * 64)
    return replace(base, **changes)


def test_the_same_night_judged_again_is_no_further_look(judged):
    assert [looks_of(judged), looks_of(judged)] == [3, 3]


def test_a_config_that_other_nights_judged_is_one_look_and_another_config_one_more(judged):
    registry = open_registry(judged.settings.registry)
    own = read_gate_results(judged.settings, judged.plan).judgements[0].config_id
    assert looks_of(judged) == 3
    add_trial(registry, other_look(judged, config_ids=(own,), night_id="before"), NOW_MS)
    assert looks_of(judged) == 3
    add_trial(registry, other_look(judged), NOW_MS)
    add_trial(registry, other_look(judged, night_id="again", data_hash="e" * 64), NOW_MS)
    assert looks_of(judged) == 4


@pytest.mark.parametrize("change", ["venue", "days"])
def test_a_look_at_another_venue_or_at_other_days_does_not_count(judged, change):
    other = other_look(judged)
    before = {"first_day": other.first_day - timedelta(500), "last_day": other.last_day - timedelta(500)}
    add_trial(
        open_registry(judged.settings.registry),
        replace(other, **({"venue": "elsewhere"} if change == "venue" else before)),
        NOW_MS,
    )
    assert looks_of(judged) == 3


def test_more_looks_make_no_verdict_easier(judged):
    before = [each.measured.deflated_sharpe for each in gate(judged).judgements]
    for number in range(20):
        returns = tuple(np.random.default_rng(number).normal(0, 0.01, len(other_look(judged).returns)).tolist())
        look = other_look(judged, config_ids=(f"{number:064d}",), returns=returns)
        add_trial(open_registry(judged.settings.registry), look, NOW_MS)
    results = gate(judged)
    assert results.search.trials == 23
    assert all(
        b < a for a, b in zip(before, (each.measured.deflated_sharpe for each in results.judgements), strict=True)
    )


def test_two_nights_look_once_at_each_config(judged):
    first = {each.config_id for each in read_candidates(judged.settings, judged.plan).candidates}
    assert looks_of(judged) == 3
    again = search(judged.settings, judged.config, NOW_MS - DAY_MS)
    judge(again)
    second = {each.config_id for each in read_candidates(again.settings, again.plan).candidates}
    assert first & second
    assert read_gate_results(again.settings, again.plan).search.trials == len(first | second)


# Nights that find little


@pytest.mark.parametrize(
    "changes",
    [{"market": {"taker_fee_bps": 100.0}}, {"params": {"entry.warmup_bars": 2000}}],
    ids=["all lose", "no trade"],
)
def test_a_night_in_which_nothing_made_money_is_a_night(mei_settings: Settings, tmp_path: Path, changes):
    found = night_of(mei_settings, tmp_path / "config", spec(**changes))
    judge(found)
    chosen, results = read_candidates(mei_settings, found.plan), read_gate_results(mei_settings, found.plan)
    assert (chosen.candidates, results.judgements, results.search, results.selection_bias) == ((), (), None, None)
    assert chosen.rejected["no profit on the days of the search"] == 12
    done = deploy(found)
    assert done.candidates == ()
    assert [(lane.new, lane.reason) for lane in done.lanes] == [
        (
            None,
            (
                "nothing, because no combo of the search with enough trades made money on the days that candidates are "
                "selected on"
            ),
        )
    ]
    registry = open_registry(mei_settings.registry)
    assert (lane_pointers(registry), list_configs(registry)) == ((), ())
    assert trials_between(registry, found.plan.sweep.venue, date(2020, 1, 1), date(2030, 1, 1)) == ()


def night_of(settings: Settings, folder: Path, searching: SweepSpec, days: int = 60, window: int = 50) -> Night:
    """A night with a search of its own."""
    fill_lake(settings, days=days, drift=EDGE)
    config = replace(write_config(folder, days=window, walk_forward=WIDE), sweeps={"smoke": searching})
    return search(settings, config, START_MS + days * DAY_MS)


def test_a_search_of_one_combo_is_no_evidence(mei_settings: Settings, tmp_path: Path):
    found = night_of(mei_settings, tmp_path / "config", spec(axes={"indicators.ema_fast_window": (9,)}))
    judge(found)
    (judgement,) = read_gate_results(mei_settings, found.plan).judgements
    assert {gate.name for gate in judgement.gates if gate.verdict == "no evidence"} >= {
        "min_plateau_frac",
        "max_overfitting_probability",
        "max_search_loss_probability",
    }
    assert deploy(found).lanes[0].new is None


def test_a_night_of_one_symbol(mei_settings: Settings, tmp_path: Path):
    found = searched(
        mei_settings, tmp_path / "config", drift=0.002, universe="[AAA]", holdout_symbols=1, max_symbol_share=0.65
    )
    assert (found.plan.sweep.symbols, found.plan.holdout_symbols) == (("AAA",), ())
    judge(found)
    results = read_gate_results(mei_settings, found.plan)
    assert results.judgements
    for each in results.judgements:
        assert each.measured.symbol_share == 1.0
        assert {gate.name: gate.verdict for gate in each.gates}["max_symbol_share"] == "fail"
        assert each.measured.holdout_symbols_sharpe is None
    assert deploy(found).lanes[0].new is None


def test_others_are_judged_on_and_never_searched(mei_settings: Settings, tmp_path: Path):
    found = searched(mei_settings, tmp_path / "config", holdout_symbols=1, min_holdout_symbols_sharpe=-20)
    (other,) = found.plan.holdout_symbols
    assert set(found.plan.sweep.symbols) == {"AAA", "BBB", "CCC"} - {other}
    judge(found)
    for each in read_gate_results(mei_settings, found.plan).judgements:
        assert each.measured.holdout_symbols_sharpe is not None
        assert {gate.name: gate.verdict for gate in each.gates}["min_holdout_symbols_sharpe"] == "pass"


# Chains that are no record


def doctored(stitched: Segment, kind: str, rank: int) -> Segment:
    days = len(stitched.returns)
    nothing = flat_segment((int(stitched.days_ms[0]), int(stitched.days_ms[0]) + days * DAY_MS))
    flat = replace(nothing, days_ms=stitched.days_ms)
    if kind == "nothing":
        return flat
    if kind == "constant":
        growth = np.full(days, 0.01)
        return replace(flat, returns=growth, held=np.ones(days, dtype=bool), curve=np.cumprod(1 + growth))
    if kind == "one trade":
        returns = np.where(np.arange(days) == days // 2, 0.1, 0.0)
        held = returns > 0
        trade = np.array([0]), np.array([0.1]), stitched.days_ms[days // 2 : days // 2 + 1]
        curve = np.cumprod(1 + returns)
        return Segment(stitched.days_ms, returns, held, curve, *trade)
    assert kind == "wiped out"
    returns = np.where(np.arange(days) == rank, -1.0, 0.0)
    return replace(flat, returns=returns, held=returns < 0, curve=np.cumprod(1 + returns))


@pytest.mark.parametrize("kind", ["nothing", "constant", "one trade", "wiped out"])
def test_a_chain_that_says_nothing_promotes_nobody(judged, kind):
    _, stitched_by_rank = read_walk_forward(judged.settings, judged.plan)
    write_stitched(judged, [doctored(stitched, kind, rank) for rank, stitched in enumerate(stitched_by_rank)])
    results = gate(judged)
    assert read_gate_results(judged.settings, judged.plan) == results
    assert not any(each.passed for each in results.judgements)
    assert all(each.reason != "passed every gate" for each in results.judgements)
    done = deploy(judged)
    assert [(lane.new, lane.reason[:34]) for lane in done.lanes] == [(None, "nothing, because none of 3 passed;")]
    assert lane_pointers(open_registry(judged.settings.registry)) == ()
    assert [proposal.config_id for proposal in latest_proposals(open_registry(judged.settings.registry))] == [None]


def test_equal_scores_are_told_apart_by_their_ids(judged):
    _, stitched_by_rank = read_walk_forward(judged.settings, judged.plan)
    write_stitched(judged, [stitched_by_rank[0]] * 3)
    results = gate(judged)
    assert len({each.measured.sharpe for each in results.judgements}) == 1
    assert results.search.trials == 3
    assert results.search.effective_trials == pytest.approx(1.0)
    passed = [each.config_id for each in results.judgements if each.passed]
    assert len(passed) == 3
    assert deploy(judged).lanes[0].new == min(passed)


def test_returns_that_are_no_numbers_stop_the_night(judged):
    _, stitched_by_rank = read_walk_forward(judged.settings, judged.plan)
    write_stitched(judged, [replace(each, returns=np.full(len(each.returns), np.nan)) for each in stitched_by_rank])
    with pytest.raises(DataError, match=r"look rank 0 of night .*: a return is no number"):
        gate(judged)


def test_all_failing_is_a_night_that_says_where_most_fell(first_judged, home, tmp_path):
    there = copy_of(first_judged, home)
    strict = search(there.settings, write_config(tmp_path / "strict", walk_forward=WIDE, min_sharpe=20))
    judge(strict)
    results = read_gate_results(strict.settings, strict.plan)
    assert [each.reason.split(":")[0] for each in results.judgements] == ["min_sharpe"] * 3
    done = deploy(strict)
    assert [judged.passed for judged in done.candidates] == [False] * 3
    assert done.lanes[0].reason == "nothing, because none of 3 passed; most were rejected at min_sharpe (3)"
    assert done.lanes[0].new is None


# tpe


TPE = {"method": "tpe", "budget": 10, "seed": 3, "min_trades": 1, "lag": 1, "chunk_combos": 1}


def test_each_fold_of_tpe_chooses_from_a_search_that_ends_where_its_days_end(mei_settings: Settings, tmp_path: Path):
    found = night_of(mei_settings, tmp_path / "config", spec(**TPE), 90, 80)
    sweep, policy = found.plan.sweep, found.plan.selection.walk_forward
    check_folds(sweep, policy)
    walk, _ = run_walk_forward(mei_settings, found.plan)
    assert len(walk.folds) == 3
    searches = own_searches(sweep, [*(fold.train for fold in walk.folds), train_before(BLOCKS, policy)])
    assert searches[-1] == sweep
    for place, (fold, own) in enumerate(zip(walk.folds, searches[:-1], strict=True)):
        assert (own.from_ms, own.to_ms) == fold.train_ms
        assert own.to_ms <= fold.test_ms[0]
        assert [rank.selected[place] and rank.selected[place].combo for rank in walk.ranks] == by_hand(found, own, 3)
    assert [rank.final.combo for rank in walk.ranks] == by_hand(found, sweep, len(walk.ranks))
    assert len({own.id for own in searches}) == 4
    again, _ = run_walk_forward(mei_settings, found.plan)
    assert again == walk


def by_hand(found: Night, own, count: int) -> list[int | None]:
    """The best combos of a search by the Sharpe ratio of its rows: those that made money, equal ones once."""
    rows = read_results(sweep_folder(found.settings.sweeps, own), own)
    assert rows.height == 10
    best = rows.filter(rows["day_sum"].arr.sum() > 0).sort("sharpe", "combo", descending=[True, False])
    chosen = best.unique(["sharpe", "net_pnl_usd"], keep="first", maintain_order=True)["combo"].to_list()[:count]
    return chosen + [None] * (count - len(chosen))


def test_a_fold_of_tpe_needs_days_for_its_search(judged):
    short = replace(judged.plan.sweep, search=replace(judged.plan.sweep.search, method="tpe"))
    check_folds(judged.plan.sweep, judged.plan.selection.walk_forward)
    with pytest.raises(ConfigError, match=r"train_blocks: 4 blocks leave 10 days to the search of a fold"):
        check_folds(short, judged.plan.selection.walk_forward)


def test_the_holdout_is_what_the_config_did_there(judged):
    plan = judged.plan
    bars = load_night_bars(judged.settings, plan)
    data = MarketData(judged.settings, bars, build_night_features(judged.settings, plan, bars))
    for candidate in read_candidates(judged.settings, plan).candidates:
        segment = run_segment(data, resolved_combo(plan.sweep, candidate.params), (plan.holdout_ms, plan.to_ms))
        assert candidate.holdout.return_pct == 100 * segment.return_frac
        assert candidate.holdout.trades == len(segment.trade_profits)
