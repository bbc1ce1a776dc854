import shutil
from dataclasses import replace

import pytest
from config_kit import CATALOG, FILES, write_folder
from policy_kit import policy_text

from mei_pipeline.config.load import load_config, read_sweep
from mei_pipeline.errors import ConfigError
from mei_pipeline.settings import CHECKOUT

SWEEP = "strategy: toy\ninterval: 1h\naxes:\n"
PIPELINE = "venue: binance\nstart: 2025-05\nintervals: [1h]\nanchors: {1h: 2025-05-01}\n"
PROFILE = "profiles: {smoke: {sweep: smoke}}\n"


def complaints(folder, catalog=CATALOG):
    with pytest.raises(ConfigError) as caught:
        load_config(folder, catalog)
    return [line.removeprefix(f"{folder}/") for line in str(caught.value).splitlines()]


def test_a_sound_folder(tmp_path):
    found = load_config(write_folder(tmp_path), CATALOG)
    assert found.pipeline.venue == "binance"
    assert found.policy.selection.candidates == 3
    assert found.sweep(found.profile("smoke").sweep).axis_values("trade.sl_atr_mult") == (1.0, 1.5, 2.0)
    assert found.lanes["paper1"].role == "primary"
    assert found.overrides.strategy is None


CASES = {
    "pipeline missing": ("pipeline.yaml", None, "pipeline.yaml: no such file; create it"),
    "policy missing": ("policy.yaml", None, "policy.yaml: no such file; create it"),
    "sweep missing": (
        "sweeps/smoke.yaml",
        None,
        "pipeline.yaml:9:11: profiles.smoke.sweep: 'smoke': no {folder}/sweeps/smoke.yaml; there are none",
    ),
    "profile of no sweep": (
        "pipeline.yaml",
        f"{PIPELINE}profiles: {{night: {{sweep: smok}}}}",
        "pipeline.yaml:5:20: profiles.night.sweep: 'smok': no {folder}/sweeps/smok.yaml; did you mean 'smoke'?",
    ),
    "interval not fetched": (
        "sweeps/smoke.yaml",
        "strategy: toy\ninterval: 4h\naxes: {trade.trail: [true]}",
        "sweeps/smoke.yaml:2:1: interval: '4h' is not among the intervals of pipeline.yaml: 1h",
    ),
    "exit interval not fetched": (
        "sweeps/smoke.yaml",
        "strategy: toy\ninterval: 1h\nentry_interval: 30m\nexit_interval: 15m\naxes: {trade.trail: [true]}",
        "sweeps/smoke.yaml:4:1: exit_interval: '15m' is not among the intervals of pipeline.yaml: 1h",
    ),
    "sweep on an unknown venue": (
        "sweeps/smoke.yaml",
        "strategy: toy\nvenue: binanc\ninterval: 1h\naxes: {trade.trail: [true]}",
        "sweeps/smoke.yaml:2:1: venue: 'binanc': pipeline.yaml knows no such venue; did you mean 'binance'?",
    ),
    "lane on an unknown venue": (
        "lanes/paper1.yaml",
        "mode: paper\nvenue: okx\nrole: primary",
        "lanes/paper1.yaml:2:1: venue: 'okx': pipeline.yaml knows no such venue; known: binance, made_up",
    ),
    "unknown strategy": (
        "sweeps/smoke.yaml",
        "strategy: toi\ninterval: 1h\naxes: {trade.trail: [true]}",
        "sweeps/smoke.yaml:1:1: strategy: 'toi': unknown strategy; did you mean 'toy'? known: toy, shy",
    ),
    "unknown axis": (
        "sweeps/smoke.yaml",
        f"{SWEEP}  trade.sl: [1]",
        "sweeps/smoke.yaml:4:3: axes.trade.sl: unknown parameter; did you mean 'trade.sl_atr_mult'?",
    ),
    "market axis": (
        "sweeps/smoke.yaml",
        f"{SWEEP}  market.fee_bps: [1, 2]",
        "sweeps/smoke.yaml:4:3: axes.market.fee_bps: a market parameter; it is assumed, not searched: give it",
    ),
    "axis value out of bounds": (
        "sweeps/smoke.yaml",
        f"{SWEEP}  trade.sl_atr_mult: [1, 20]",
        "sweeps/smoke.yaml:4:26: axes.trade.sl_atr_mult[1]: 20 is not allowed; a number from 0.5 to 10 atr",
    ),
    "axis value of another kind": (
        "sweeps/smoke.yaml",
        f"{SWEEP}  trade.side: [up]",
        "sweeps/smoke.yaml:4:16: axes.trade.side[0]: 'up' is not allowed; one of both, long, short",
    ),
    "range out of bounds": (
        "sweeps/smoke.yaml",
        f"{SWEEP}  trade.sl_atr_mult: {{from: 8, to: 12, step: 2}}",
        "sweeps/smoke.yaml:4:3: axes.trade.sl_atr_mult: 12 is not allowed; a number from 0.5 to 10 atr",
    ),
    "range of feature windows": (
        "sweeps/smoke.yaml",
        f"{SWEEP}  indicators.window: {{from: 5, to: 20, step: 5}}",
        "sweeps/smoke.yaml:4:3: axes.indicators.window: a feature window is a list of values, such as [5, 10, 15]",
    ),
    "fixed and searched": (
        "sweeps/smoke.yaml",
        "strategy: toy\ninterval: 1h\nparams: {trade: {trail: true}}\naxes:\n  trade.trail: [true, false]",
        "sweeps/smoke.yaml:5:3: axes.trade.trail: also given under `params`; keep one",
    ),
    "unknown fixed parameter": (
        "sweeps/smoke.yaml",
        f"{SWEEP}  trade.trail: [true]\nparams:\n  trade:\n    tail: true",
        "sweeps/smoke.yaml:7:5: params.trade.tail: unknown parameter; did you mean 'trade.trail'?",
    ),
    "market among the fixed": (
        "sweeps/smoke.yaml",
        f"{SWEEP}  trade.trail: [true]\nparams: {{market.fee_bps: 3}}",
        "sweeps/smoke.yaml:5:10: params.market.fee_bps: a market parameter; it belongs under `market`",
    ),
    "market out of bounds": (
        "sweeps/smoke.yaml",
        f"{SWEEP}  trade.trail: [true]\nmarket: {{fee_bps: 300}}",
        "sweeps/smoke.yaml:5:10: market.fee_bps: 300 is not allowed; a number from 0 to 100 bps",
    ),
    "unknown market parameter": (
        "sweeps/smoke.yaml",
        f"{SWEEP}  trade.trail: [true]\nmarket: {{fee: 3}}",
        "sweeps/smoke.yaml:5:10: market.fee: unknown parameter; did you mean 'market.fee_bps'? known: market.fee_bps,",
    ),
    "overrides of an unknown strategy": (
        "strategy_overrides.yaml",
        "strategy: tou\nbase: {trade.trail: true}",
        "strategy_overrides.yaml:1:1: strategy: 'tou': unknown strategy; did you mean 'toy'? known: toy, shy",
    ),
    "an address of no cluster": (
        "pipeline.yaml",
        f"{PIPELINE}{PROFILE}compute: {{backend: ray, address: 'http://head:8265'}}",
        "pipeline.yaml:6:25: compute.address: 'http://head:8265' is not allowed; auto, HOST:PORT or ray://HOST:PORT",
    ),
    "one and a half GPUs": (
        "pipeline.yaml",
        f"{PIPELINE}{PROFILE}compute: {{gpus_per_task: 1.5}}",
        "pipeline.yaml:6:11: compute.gpus_per_task: 1.5 is not allowed; above 1 only whole GPUs",
    ),
    "a backend that there is not": (
        "pipeline.yaml",
        f"{PIPELINE}{PROFILE}compute: {{backend: dask}}",
        "pipeline.yaml:6:11: compute.backend: ",
    ),
    "overrides out of bounds": (
        "strategy_overrides.yaml",
        "strategy: toy\nsymbols:\n  BTC:\n    trade: {sl_atr_mult: 0}",
        "strategy_overrides.yaml:4:13: symbols.BTC.trade.sl_atr_mult: 0 is not allowed; a number from 0.5 to 10 atr",
    ),
    "overrides of a stranger": (
        "strategy_overrides.yaml",
        "strategy: toy\nsymbols: {BTCC: {trade.trail: true}}",
        "strategy_overrides.yaml:2:11: symbols.BTCC: not in the universe; did you mean 'BTC'?",
    ),
    "an excluded stranger": (
        "strategy_overrides.yaml",
        "promoted: {exclude: [BTC, BTCC]}",
        "strategy_overrides.yaml:1:27: promoted.exclude[1]: not in the universe; did you mean 'BTC'?",
    ),
    "larger sizes of promoted lanes": (
        "strategy_overrides.yaml",
        "promoted: {size_multiplier: 1.01}",
        "strategy_overrides.yaml:1:12: promoted.size_multiplier: 1.01 is not allowed; a number above 0 and up to 1",
    ),
    "overrides of the book for one symbol": (
        "strategy_overrides.yaml",
        "strategy: toy\nbase: {trade.places: 3}\nsymbols: {BTC: {trade: {places: 3}}}",
        "strategy_overrides.yaml:3:25: symbols.BTC.trade.places: a parameter of the whole book",
    ),
    "own values of a stranger": (
        "sweeps/smoke.yaml",
        f"{SWEEP}  trade.trail: [true]\nsymbol_params: {{BTCC: {{trade.sl_atr_mult: 3}}}}",
        "sweeps/smoke.yaml:5:17: symbol_params.BTCC: not in the universe; did you mean 'BTC'?",
    ),
    "own values of the book": (
        "sweeps/smoke.yaml",
        f"{SWEEP}  trade.trail: [true]\nsymbol_params: {{BTC: {{trade: {{places: 3}}}}}}",
        "sweeps/smoke.yaml:5:31: symbol_params.BTC.trade.places: a parameter of the whole book",
    ),
    "own values of the market": (
        "sweeps/smoke.yaml",
        f"{SWEEP}  trade.trail: [true]\nsymbol_params: {{BTC: {{market.fee_bps: 3}}}}",
        "sweeps/smoke.yaml:5:23: symbol_params.BTC.market.fee_bps: a market parameter; it belongs under `market`",
    ),
    "a market that the strategy does not allow": (
        "sweeps/smoke.yaml",
        "strategy: shy\ninterval: 1h\nmarket: {delay_bars: 1}\naxes: {trade.trail: [true]}",
        "sweeps/smoke.yaml:3:10: market.delay_bars: 1 is not allowed; 0: shy never waits",
    ),
    "empty overrides": (
        "strategy_overrides.yaml",
        "",
        "strategy_overrides.yaml: the file is empty; a mapping with the keys strategy,",
    ),
    "unknown file": (
        "polcy.yaml",
        "a: 1",
        "polcy.yaml: unknown file; did you mean 'policy'? allowed: pipeline.yaml,",
    ),
    "yml": ("lanes/paper2.yml", "a: 1", "lanes/paper2.yml: name it paper2.yaml, or remove it; .yml is not read"),
    "bad name": (
        "lanes/Paper 2.yaml",
        "a: 1",
        "lanes/Paper 2.yaml: the file's name is not allowed; a name in lower case",
    ),
}


@pytest.mark.parametrize(("name", "text", "expected"), CASES.values(), ids=CASES)
def test_what_does_not_fit_together(tmp_path, name, text, expected):
    (line,) = complaints(write_folder(tmp_path, **{name: text}))
    assert line.startswith(expected.format(folder=tmp_path))


def test_the_problems_of_all_files_come_together(tmp_path):
    found = complaints(
        write_folder(
            tmp_path,
            **{
                "pipeline.yaml": f"{PIPELINE}{PROFILE}windw: 3\n",
                "policy.yaml": policy_text(candidates=0),
                "sweeps/smoke.yaml": f"{SWEEP}  trade.sl: [1]",
                "lanes/paper1.yaml": "mode: paper",
            },
        )
    )
    assert [line.split(":")[0] for line in found] == [
        "pipeline.yaml",
        "policy.yaml",
        "lanes/paper1.yaml",
        "lanes/paper1.yaml",
        "sweeps/smoke.yaml",
    ]


def test_too_many_combos(tmp_path):
    axes = "".join(f"  trade.p{number}: {{from: 1, to: 9000, step: 1}}\n" for number in range(3))
    found = complaints(write_folder(tmp_path, **{"sweeps/smoke.yaml": SWEEP + axes}))
    assert found[-1].endswith(
        "axes: 729,000,000,000 combos; at most 2,147,483,647; method random or tpe runs some of them"
    )


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("trade.trail: [false]", ""),
        (
            "trade.trail: [false, true]",
            "benchmark: trade.trail is on and reads a benchmark symbol, but no symbol is ",
        ),
        ("trade.trail: [true]\nbenchmark: ETH/USDT:USDT", ""),
        (
            "trade.trail: [true]\nbenchmark: ETH",
            "benchmark: 'ETH' is not among the symbols; did you mean 'ETH/",
        ),
        ("trade.trail: [false]\nbenchmark: ETH", "benchmark: 'ETH' is not among the symbols"),
    ],
)
def test_a_search_needs_its_benchmark_in_the_universe(tmp_path, more, expected):
    catalog = replace(CATALOG, benchmarks={"toy": ("trade.trail",)})
    pipeline = FILES["pipeline.yaml"].replace("[BTC, ETH]", '["ETH/USDT:USDT", SOL]')
    folder = write_folder(tmp_path, **{"pipeline.yaml": pipeline, "sweeps/smoke.yaml": f"{SWEEP}  {more}"})
    found = complaints(folder, catalog) if expected else load_config(folder, catalog) and ["nothing: "]
    assert found[0].partition(": ")[2].startswith(expected)


def test_overrides_are_read(tmp_path):
    text = "strategy: toy\nbase: {trade: {sl_atr_mult: 3}}\nlive: {trade.trail: true}\n"
    found = load_config(write_folder(tmp_path, **{"strategy_overrides.yaml": text}), CATALOG)
    assert found.overrides.base == {"trade.sl_atr_mult": 3}
    assert found.overrides.live == {"trade.trail": True}


def test_a_dangling_link_to_overrides_is_not_an_absent_file(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "strategy_overrides.yaml").symlink_to(tmp_path / "gone.yaml")
    assert complaints(tmp_path) == [
        "strategy_overrides.yaml: no such file; create it, or set MEI_CONFIG to the folder that has it"
    ]


def test_hidden_files_of_editors_are_left_alone(tmp_path):
    folder = write_folder(tmp_path, **{".pipeline.yaml": "x", "sweeps/.smoke.yaml": "x", "sweeps/notes.txt": "x"})
    assert list(load_config(folder, CATALOG).sweeps) == ["smoke"]


def test_relative_paths_of_sources_start_at_the_folder(tmp_path):
    sources = "sources: [{kind: files, venue: binance, path: data/*.csv}, {kind: files, venue: binance, path: /data}]\n"
    folder = write_folder(tmp_path, **{"pipeline.yaml": PIPELINE + PROFILE + sources, "lanes/paper1.yaml": None})
    found = load_config(folder, CATALOG)
    assert [source.path for source in found.pipeline.sources] == [f"{tmp_path}/data/*.csv", "/data"]


def test_a_missing_folder(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere: no such folder; set MEI_CONFIG to the folder with pipeline\.yaml"):
        load_config(tmp_path / "nowhere", CATALOG)


def test_unknown_profiles_and_sweeps_are_named_with_the_known_ones(tmp_path):
    found = load_config(write_folder(tmp_path), CATALOG)
    with pytest.raises(ConfigError, match=r"pipeline\.yaml: no profile 'smok'; did you mean 'smoke'\? known: smoke"):
        found.profile("smok")
    with pytest.raises(ConfigError, match=r"sweeps: no sweep 'x'; known: smoke"):
        found.sweep("x")


def test_a_search_in_a_file_of_its_own_is_checked_alike(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"{SWEEP}  trade.trail: [true, false]")
    assert read_sweep(path, CATALOG).axis_values("trade.trail") == (True, False)
    path.write_text(f"{SWEEP}  trade.tail: [true]")
    with pytest.raises(ConfigError, match=r"mine\.yaml:4:3: axes\.trade\.tail: unknown parameter; did you mean"):
        read_sweep(path, CATALOG)


def test_the_configuration_of_this_checkout_is_sound():
    found = load_config(CHECKOUT / "config")
    assert {name: found.sweep(name).strategy for name in found.sweeps} == {
        "smoke": "mei_alpha",
        "nightly": "mei_alpha",
        "cross": "ema_cross",
        "experiment": "ema_cross",
        "deep": "mei_alpha",
    }
    assert {name: profile.sweep for name, profile in found.pipeline.profiles.items()} == {
        "smoke": "smoke",
        "nightly": "nightly",
        "deep": "deep",
    }
    assert {name: lane.role for name, lane in found.lanes.items()} == {
        "paper1": "primary",
        "paper2": "fallback",
        "paper3": "conservative",
    }
    assert "/home" not in (CHECKOUT / "config" / "pipeline.yaml").read_text()


def test_the_example_of_overrides_is_valid_once_its_comments_are_taken_away(tmp_path):
    shutil.copytree(CHECKOUT / "config", tmp_path / "config")
    path = tmp_path / "config" / "strategy_overrides.yaml"
    _, _, example = path.read_text().partition("\n#\n")
    path.write_text("".join(line[2:] + "\n" for line in example.splitlines()))
    found = load_config(tmp_path / "config").overrides
    assert found.strategy == "mei_alpha"
    assert all((found.base, found.symbols, found.modes, found.live))
