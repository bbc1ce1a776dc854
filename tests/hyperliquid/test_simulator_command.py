"""`python -m mei_pipeline.hyperliquid.simulator`: one line, signals, and errors."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from feed_kit import rich_lake

from mei_pipeline.candles.lake import Lake
from mei_pipeline.hyperliquid.simulator import __main__ as program
from mei_pipeline.settings import CHECKOUT


def _ask(url: str, path: str, body: object) -> object:
    request = urllib.request.Request(url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=10.0) as answer:  # noqa: S310 - loopback
        return json.load(answer)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_its_address_and_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("faults:\n- {where: info, do: 502, at: 1, request: meta}\n")
    rich_lake(Lake(tmp_path / "lake"))
    command = [sys.executable, "-m", "mei_pipeline.hyperliquid.simulator", "--port", "0", "--speed", "60"]
    options = ["--symbols", "AAA,CCC", "--intervals", "1h", "--faults", str(plan), "--from", "2025-02-08"]
    with subprocess.Popen(
        [*command, "--lake", str(tmp_path / "lake"), *options],
        cwd=CHECKOUT,
        env={**os.environ, "MEI_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        pattern = r"exchange simulator at (http://127\.0\.0\.1:\d+): test of .*, 2 symbols, 1h, from 2025-02-08"
        found = re.match(pattern, line)
        assert found, line
        assert line.endswith("at speed 60\n")
        status = _ask(found[1], "/info", {"type": "exchangeStatus"})
        assert isinstance(status, dict)
        assert status["time"] >= 1_738_972_800_000
        process.send_signal(number)
        rest, errors = process.communicate(timeout=20.0)
    assert (process.returncode, rest, errors) == (0, "", "")


def _failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = program.run(arguments)
    return code, capsys.readouterr().err


def test_wrong_options_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEI_HOME", str(tmp_path))
    code, text = _failure(capsys, "--port", "0")
    assert (code, "it is empty; run `mei ingest`, or use --synthetic SEED" in text) == (3, True)
    code, text = _failure(capsys, "--port", "0", "--synthetic", "7", "--from", "yesterday")
    assert (code, "'yesterday': write an ISO time" in text) == (2, True)
    code, text = _failure(capsys, "--port", "0", "--synthetic", "7", "--from", "2020-01-01")
    assert (code, "synthetic seed 7 has bars from 2025-01-01 00:00Z to 2025-04-01 00:00Z" in text) == (2, True)
    code, text = _failure(capsys, "--port", "0", "--synthetic", "7", "--venue", "test")
    assert (code, "--synthetic: it needs no lake" in text) == (2, True)
    code, text = _failure(capsys, "--port", "0", "--synthetic", "7", "--intervals", "7m")
    assert (code, "interval '7m' is not known" in text) == (2, True)
    code, text = _failure(capsys, "--port", "99999", "--synthetic", "7")
    assert code == 2
    rich_lake(Lake(tmp_path / "lake"))
    code, text = _failure(capsys, "--port", "0", "--venue", "mars")
    assert (code, "unknown venue 'mars'; allowed: test" in text) == (2, True)


def test_a_port_that_is_taken_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code, text = _failure(capsys, "--port", str(port), "--synthetic", "7", "--symbols", "BTC")
    assert (code, text) == (
        2,
        f"error: --port {port}: Address already in use; choose another port, or 0 for a free one\n",
    )
