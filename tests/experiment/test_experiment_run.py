import json
import shutil
from dataclasses import replace

import pytest

from mei_pipeline.cli.experiment import show
from mei_pipeline.cli.main import run as mei
from mei_pipeline.config.load import load_config
from mei_pipeline.errors import ConfigError
from mei_pipeline.experiment.markets import shuffled_markets, synthetic_markets
from mei_pipeline.experiment.report import rates, rejections, summary
from mei_pipeline.experiment.run import CandidateOutcome, Experiment, promoted, run_market, run_markets
from mei_pipeline.settings import CHECKOUT, read_settings
from tests.market_kit import VENUE, fill_lake

HUGE = 10.0  # net annual Sharpe ratio
AXES = {"indicators.ema_fast_window": (8, 18), "indicators.ema_slow_window": (50, 80), "trade.tp_atr_mult": (8.0, 50.0)}


@pytest.fixture(autouse=True)
def cache(compiled_kernels, monkeypatch):
    """Workers find the kernels that the tests compiled."""
    monkeypatch.setenv("MEI_CACHE", str(compiled_kernels.parent.parent))


@pytest.fixture(scope="module")
def config():
    return load_config(CHECKOUT / "config")


@pytest.fixture
def small(config):
    """Eight combos on 112 days out of sample, without edge; two finalists, and one stress of a kind."""
    return small_of(config)


def small_of(config):
    spec = config.sweep("experiment").model_copy(update={"axes": AXES})
    policy = config.policy.selection
    stress = policy.gates.stress.model_copy(update={"slippage_bps": (2.0,), "fee_multiples": (2.0,)})
    gates = policy.gates.model_copy(update={"stress": stress})
    policy = policy.model_copy(update={"candidates": 2, "gates": gates})
    return Experiment(read_settings(), spec, policy, synthetic_markets(0.0, 3), days_out_of_sample=112)


def with_edge(experiment, edge):
    return replace(experiment, source=synthetic_markets(edge, 3))


@pytest.fixture(scope="module")
def nights_of_first(config):
    """Two nights of the market of seed 1, with a huge edge."""
    return run_market(replace(with_edge(small_of(config), HUGE), nights=2), 1)


@pytest.fixture(scope="module")
def first_night(config):
    """The one night of the same market."""
    return run_market(with_edge(small_of(config), HUGE), 1)


def test_a_huge_edge_is_promoted(first_night):
    assert promoted(first_night[0])


def test_no_edge_is_not(small):
    (night,) = run_market(small, 4)
    assert not promoted(night)
    assert night, "this market must have candidates, or it shows nothing"


@pytest.mark.long
def test_the_number_of_workers_changes_nothing_and_progress_is_told_of_every_market(small, first_night):
    told = []

    def tell(done, total, what, _speed=""):
        told.append((done, total, what))

    first, second = run_markets(with_edge(small, HUGE), [1, 2], 2, tell)
    assert first == first_night
    assert second != first_night
    assert told == [(done, 2, "markets") for done in range(3)]


@pytest.mark.long
def test_many_markets_are_the_same_for_one_worker_and_two(small):
    huge = with_edge(small, HUGE)
    assert run_markets(huge, [1, 2, 3], workers=1) == run_markets(huge, [1, 2, 3], workers=2)


def test_the_folds_cover_the_days_that_are_asked_for(small):
    asked = replace(small, days_out_of_sample=280)
    assert summary(asked, [((),)])["days_out_of_sample"] == 280
    assert replace(asked, nights=30).market_days == asked.market_days + 29


@pytest.mark.long
def test_later_nights_count_the_looks_of_earlier_ones(nights_of_first):
    nights = nights_of_first
    judged, trials = [len(night) for night in nights], [night[0].trials for night in nights]
    assert trials[0] == judged[0]
    assert trials == sorted(trials)  # a config that an earlier night judged counts once
    assert all(trials[n] <= sum(judged[: n + 1]) for n in range(2))


@pytest.mark.long
def test_a_first_night_is_the_same_whatever_follows(nights_of_first, first_night):
    assert nights_of_first[0] == first_night[0]


def test_shuffled_candles_of_a_lake_are_searched_too(small, tmp_path):
    settings = small.settings.model_copy(update={"home": tmp_path})
    source = shuffled_markets(fill_lake(settings, days=70), VENUE, 1)
    (night,) = run_market(replace(small, source=source), 1)
    assert not promoted(night)


def test_rates_tell_first_last_and_any_night_apart():
    passed, fell, none = (CandidateOutcome((), 2.0, 1),), (CandidateOutcome(("a",), 0.1, 1),), ()
    found = rates([(passed, fell), (fell, passed), (none, fell), (fell, fell)])
    assert (found["promoted"], found["rate"]) == (2, 0.5)
    assert found["first_run"]["promoted"] == found["last_run"]["promoted"] == 1
    assert found["ci95"] == pytest.approx([0.0676, 0.9324], abs=1e-4)


def test_gates_count_candidates_and_those_that_fell_at_no_other():
    nights = [
        (CandidateOutcome(("a", "b"), 0.1, 1), CandidateOutcome(("a",), 0.2, 1)),
        (CandidateOutcome((), 3.0, 1),),
        (),
    ]
    assert rejections(nights) == {
        "a": {"failed": 2, "no_evidence": 0, "only_failure": 1},
        "b": {"failed": 1, "no_evidence": 0, "only_failure": 0},
    }


def test_no_evidence_neither_passes_nor_counts_as_fallen():
    unknown = CandidateOutcome((), 3.0, 1, ("a",))
    assert not promoted((unknown,))
    assert rejections([(unknown,)]) == {"a": {"failed": 0, "no_evidence": 1, "only_failure": 1}}


@pytest.mark.parametrize(
    ("change", "text"),
    [({"nights": 0}, "nights is 0"), ({"seeds": []}, "markets is 0"), ({"interval": "4h"}, "allowed: 1h")],
)
def test_what_cannot_be_run_is_refused(small, change, text):
    asked = small
    if "interval" in change:
        asked = replace(small, spec=small.spec.model_copy(update={"interval": "4h"}))
    if "nights" in change:
        asked = replace(small, nights=0)
    with pytest.raises(ConfigError, match=text):
        run_markets(asked, change.get("seeds", [1]), 1)


@pytest.mark.long
def test_json_has_every_figure_and_a_table_says_what_was_promoted(tmp_path, monkeypatch, capsys):
    shutil.copytree(CHECKOUT / "config", tmp_path / "config")
    with (tmp_path / "config" / "sweeps" / "experiment.yaml").open("r+") as file:
        text = file.read()
        file.seek(text.index("axes:"))
        file.write(f"axes: {json.dumps(AXES)}\n")
        file.truncate()
    policy = tmp_path / "config" / "policy.yaml"
    policy.write_text(policy.read_text().replace("candidates: 3", "candidates: 1"))
    monkeypatch.setenv("MEI_CONFIG", str(tmp_path / "config"))
    words = ["--edge", "3", "--markets", "1", "--seed", "9", "--workers", "1", "--json"]
    assert mei(["experiment", "planted", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {
        "kind", "edge", "candles", "markets", "promoted", "rate", "ci95", "first_run", "last_run", "combos",
        "symbols", "holdout_symbols", "days_out_of_sample", "runs", "policy", "sweep", "seed", "seconds", "gates",
        "candidates", "passed", "without_candidate", "strategy", "drift",
    } == set(found)  # fmt: skip
    assert (found["kind"], found["edge"], found["combos"], found["symbols"]) == ("planted", 3.0, 8, 10)
    assert (found["days_out_of_sample"], found["runs"], found["seed"]) == (280, 1, 9)
    show(found | {"gates": {"min_deflated_sharpe": {"failed": 1, "no_evidence": 0, "only_failure": 1}}})
    said = capsys.readouterr()
    assert "1 synthetic markets, Sharpe ratio 3 of ema_cross planted: promoted" in " ".join(said.out.split())
    assert "min_deflated_sharpe" in said.out
    assert "280 days out of sample" in said.err


def test_the_title_says_where_the_edge_is(capsys):
    part = {"promoted": 1, "rate": 1.0, "ci95": [0.0, 1.0]}
    rest = dict.fromkeys(("candidates", "symbols", "holdout_symbols", "combos", "days_out_of_sample", "seconds"), 1)
    found = {
        "candles": "synthetic",
        "strategy": "ema_cross",
        "markets": 1,
        "runs": 1,
        "without_candidate": 0,
        "policy": "",
        "sweep": "experiment",
    }
    for kind, words in (
        (
            {"kind": "decayed", "edge": 3.0, "until": 0.5},
            "Sharpe ratio 3 of ema_cross planted until 50% of the days: promoted",
        ),
        ({"kind": "one-symbol", "edge": 3.0}, "Sharpe ratio 3 of ema_cross planted in one symbol: promoted"),
    ):
        show({**part, **rest, **found, **kind, "first_run": part, "last_run": part, "gates": {}})
        assert words in " ".join(capsys.readouterr().out.split())


@pytest.mark.long
def test_a_table_says_what_was_promoted(capsys):
    assert mei(["experiment", "null", "--markets", "1", "--workers", "1", "--seed", "4"]) == 0
    said = capsys.readouterr()
    assert "1 synthetic markets, no edge: promoted" in said.out
    assert "min_deflated_sharpe" in said.out
    assert "280 days out of sample" in said.err


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["null", "--markets", "0"], 2, "--markets"),
        (["planted", "--edge", "0"], 2, "--edge"),
        (["planted", "--edge", "40"], 2, "at most"),
        (["planted", "--edge", "nan"], 2, "at most"),
        (["decayed", "--edge", "3", "--until", "nan"], 2, "alive_frac is nan"),
        (["planted", "--edge", "17", "--sweep", "nightly"], 2, "which the best mei_alpha earns with 10 symbols"),
        (["planted"], 2, "--edge"),
        (["decayed", "--edge", "0"], 2, "--edge"),
        (["decayed", "--edge", "3", "--until", "1"], 2, "--until"),
        (["decayed", "--edge", "3", "--until", "0"], 2, "--until"),
        (["one-symbol", "--edge", "0"], 2, "--edge"),
        (["one-symbol", "--edge", "40"], 2, "at most"),
        (["one-symbol", "--edge", "3", "--markets", "0"], 2, "--markets"),
        (["null", "--sweep", "nothing"], 2, "no sweep 'nothing'"),
        (["planted", "--edge", "3", "--sweep", "nothing"], 2, "no sweep 'nothing'"),
        (["calibrate", "--sweep", "nothing"], 2, "no sweep 'nothing'"),
        (["calibrate", "--sweep", "deep", "--drift", "0.1"], 2, "method is tpe; allowed: grid, random"),
        (["calibrate", "--years", "3"], 2, "years are 3; allowed: 2 and its multiples"),
        (["calibrate", "--symbols", "15"], 2, "allowed: numbers from 1 to 14"),
        (["null", "--candles", "lake"], 3, "no 1h bars"),
    ],
)
def test_bad_input_is_refused_before_work_starts(arguments, code, text, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("MEI_HOME", str(tmp_path))
    assert mei(["experiment", *arguments]) == code
    assert text in capsys.readouterr().err


@pytest.mark.long
def test_noise_is_seldom_promoted_and_an_edge_often(config):
    asked = Experiment(read_settings(), config.sweep("experiment"), config.policy.selection, synthetic_markets(0.0, 3))
    noise = rates(run_markets(asked, range(20_000, 20_200)))
    found = rates(run_markets(replace(asked, source=synthetic_markets(3.0, 3)), range(30_000, 30_060)))
    assert noise["ci95"][1] <= 0.05
    assert found["rate"] >= 0.5
