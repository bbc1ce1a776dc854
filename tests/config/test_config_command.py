import json
import shutil

import pytest
from config_kit import write_folder
from policy_kit import policy_text

from mei_pipeline.cli.config import COMMANDS
from mei_pipeline.cli.main import run
from mei_pipeline.config.reference import reference
from mei_pipeline.params.table import read_catalog
from mei_pipeline.settings import CHECKOUT

(CONFIG,) = COMMANDS
SWEEP = """\
strategy: ema_cross
interval: 1h
market: {taker_fee_bps: 5}
params: {trade.tp_atr_mult: 4}
axes: {trade.sl_atr_mult: [1, 2.5]}
"""
OVERRIDES = """\
strategy: ema_cross
base: {trade: {sl_atr_mult: 3}}
symbols: {BTC: {trade.sl_atr_mult: 4}}
modes: {primary: {trade.sl_atr_mult: 5}}
live: {trade.sl_atr_mult: 6}
promoted: {exclude: [BTC], size_multiplier: 0.5}
"""


@pytest.fixture
def mei(tmp_path, monkeypatch, capsys):
    """Run `mei config …` on a small folder; gives exit code, stdout and stderr."""
    folder = write_folder(tmp_path / "config", **{"sweeps/smoke.yaml": SWEEP, "strategy_overrides.yaml": OVERRIDES})
    monkeypatch.setenv("MEI_CONFIG", str(folder))

    def call(*arguments):
        code = run(arguments, group=CONFIG)
        return code, *capsys.readouterr()

    return call


def explain(mei, *arguments):
    code, out, _ = mei("explain", *arguments, "--json")
    assert code == 0
    return json.loads(out)


def test_check_shows_every_file(mei):
    code, out, _ = mei("check")
    assert code == 0
    for words in ("pipeline.yaml", "sweeps/smoke.yaml", "2 combos of 1 axes", "lanes/paper1.yaml", "1 in symbols.BTC"):
        assert words in out
    assert "promoted lanes enter no BTC; promoted lanes: sizes times 0.5" in " ".join(out.split())


def test_check_for_machines(mei):
    code, out, _ = mei("check", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["pipeline"]["sources"][0]["from"] == 1_735_689_600_000
    assert found["sweeps"]["smoke"]["axes"] == {"trade.sl_atr_mult": [1, 2.5]}


@pytest.mark.parametrize(
    ("universe", "words"),
    [("[BTC, ETH, SOL]", "holdout_symbols: 3 holds out none of 3"), ("all", "fewer than 6 symbols")],
)
def test_check_says_which_gates_a_small_universe_cannot_pass(mei, tmp_path, universe, words):
    path = tmp_path / "config" / "pipeline.yaml"
    lines = [
        f"universe: {universe}" if line.startswith("universe:") else line for line in path.read_text().splitlines()
    ]
    path.write_text("\n".join(lines) + "\n")
    shutil.copy(CHECKOUT / "config" / "policy.yaml", tmp_path / "config" / "policy.yaml")
    code, out, _ = mei("check", "--json")
    (text,) = json.loads(out)["no_evidence"]
    assert (code, words in text) == (0, True)
    assert words in " ".join(mei("check")[1].split())


def test_check_of_a_bad_folder_reports_all_and_exits_with_2(mei, tmp_path):
    (tmp_path / "config" / "policy.yaml").write_text(policy_text(candidates=0))
    (tmp_path / "config" / "lanes" / "paper1.yaml").write_text("mode: paper")
    code, out, err = mei("check")
    assert (code, out) == (2, "")
    for words in ("policy.yaml:2:3: selection.candidates: 0 is not allowed", "venue: missing", "role: missing"):
        assert words in err


@pytest.mark.parametrize(
    ("arguments", "value", "origin"),
    [
        ((), 3.0, "strategy_overrides.yaml: base"),
        (("--symbol", "BTC"), 4.0, "strategy_overrides.yaml: symbols.BTC"),
        (("--symbol", "ETH"), 3.0, "strategy_overrides.yaml: base"),
        (("--symbol", "BTC", "--mode", "primary"), 5.0, "strategy_overrides.yaml: modes.primary"),
        (("--mode", "fallback"), 3.0, "strategy_overrides.yaml: base"),
        (("--symbol", "BTC", "--mode", "primary", "--live"), 6.0, "strategy_overrides.yaml: live"),
    ],
)
def test_explain_says_which_layer_won(mei, arguments, value, origin):
    found = explain(mei, "trade.sl_atr_mult", *arguments)
    assert (found["value"], found["origin"], found["unit"]) == (value, origin, "atr")
    assert found["sweeps"] == {"smoke": [1, 2.5]}


def test_explain_a_default_and_a_fixed_value(mei):
    found = explain(mei, "trade.tp_atr_mult", "--strategy", "ema_cross")
    assert (found["value"], found["origin"], found["sweeps"]) == (3.0, "default", {"smoke": 4})


def test_explain_a_market_parameter(mei):
    found = explain(mei, "market.taker_fee_bps")
    assert (found["role"], found["sweeps"], found["strategy"]) == ("market", {"smoke": 5}, "")
    assert explain(mei, "market.taker_fee_bps", "--strategy", "ema_cross")["strategy"] == "ema_cross"


def test_explain_says_whose_it_is_and_what_symbols_have(mei):
    found = explain(mei, "trade.sl_atr_mult")
    assert (found["strategy"], found["per_symbol"], found["symbols"]) == ("ema_cross", True, {"BTC": 4.0})
    assert explain(mei, "trade.sl_atr_mult", "--live")["symbols"] == {}
    assert explain(mei, "window.days")["per_symbol"] is None


def test_explain_an_axis_with_a_condition(mei, tmp_path):
    text = SWEEP.replace(
        "[1, 2.5]", "{values: [1, 2.5], when: {trade.size_mode: units}}, trade.size_mode: [units, equity]"
    )
    (tmp_path / "config" / "sweeps" / "smoke.yaml").write_text(text)
    found = explain(mei, "trade.sl_atr_mult")
    assert found["sweeps"] == {"smoke": {"values": [1, 2.5], "when": {"trade.size_mode": "units"}}}
    code, out, _ = mei("explain", "trade.sl_atr_mult")
    assert code == 0
    for words in ("axis: 1, 2.5, when trade.size_mode is units", "symbol BTC", "4.0 atr", "per symbol"):
        assert words in " ".join(out.split())
    assert "3 combos of 2 axes" in mei("check")[1]


@pytest.mark.parametrize(
    ("path", "value", "origin"),
    [
        ("venue", "binance", "pipeline.yaml"),
        ("window.days", 300, "default"),
        ("selection.candidates", 3, "policy.yaml"),
        ("selection.gates.min_sharpe", -20, "policy.yaml"),
        ("selection.crises", {}, "default"),
        ("universe", ["BTC", "ETH"], "pipeline.yaml"),
        ("profiles", {"smoke": {"sweep": "smoke", "as_of": "now"}}, "pipeline.yaml"),
        ("retention", {"ticks_days": 7, "sweeps_keep": 20, "unfinished_days": 14}, "default"),
    ],
)
def test_explain_a_key_of_a_file(mei, path, value, origin):
    found = explain(mei, path)
    assert (found["value"], found["origin"]) == (value, origin)
    assert found["doc"]


def test_explain_for_people(mei):
    code, out, _ = mei("explain", "trade.sl_atr_mult", "--live")
    assert code == 0
    for words in ("6.0 atr", "strategy_overrides.yaml: live", "a number from 0.01 to 100 atr", "1, 2.5"):
        assert words in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("window.day",), "did you mean 'window.days'?"),
        (("sl_atr_mult",), "did you mean 'trade.sl_atr_mult'?"),
        (("qqqqq",), "qqqqq: no such parameter or key"),
        (("window.days", "--strategy", "ema_cross"), "window.days: no parameter of ema_cross; "),
        (("trade.sl_atr_mult", "--strategy", "ema_kross"), "did you mean 'ema_cross'?"),
        (
            ("trade.sl_atr_mult", "--symbol", "BTCC"),
            "symbol 'BTCC': not in the universe of pipeline.yaml; did you mean",
        ),
    ],
)
def test_explain_of_nothing_known(mei, arguments, words):
    code, _, err = mei("explain", *arguments)
    assert code == 2
    assert words in err


def test_the_reference_page_is_current(mei):
    page = (CHECKOUT / "docs" / "reference" / "config.md").read_text()
    assert page == reference(read_catalog()), "run: mei config reference > docs/reference/config.md"
    assert mei("reference") == (0, page, "")
