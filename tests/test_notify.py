"""Alerts to people, against a receiver on loopback."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import dagster as dg
import pytest
from market_kit import write_config
from pydantic import SecretStr

from assets.alerts import write_alert
from mei_pipeline.cli.main import run
from mei_pipeline.config.document import read_yaml
from mei_pipeline.config.load import PIPELINE
from mei_pipeline.config.models import PipelineConfig
from mei_pipeline.errors import ConfigError
from mei_pipeline.notify import send, send_alert, send_moves

SECRET = "hunter2"  # noqa: S105 - what no output may show


@pytest.fixture
def receiver():
    """A receiver of `json://` messages: its URL with a password, and the messages that came; status 500 for /broken."""
    came = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            broken = self.path.startswith("/broken")
            if not broken:
                came.append((body["title"], body["message"]))
            self.send_response(500 if broken else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"json://anna:{SECRET}@127.0.0.1:{server.server_port}", came
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def configured(mei_settings, tmp_path, monkeypatch):
    """Write a pipeline.yaml whose `alerts` are these, and return the settings that read it."""

    def write(alerts):
        write_config(tmp_path / "config")
        path = tmp_path / "config" / PIPELINE
        path.write_text(f"{path.read_text()}\nalerts: {json.dumps(alerts)}\n")
        monkeypatch.setenv("MEI_CONFIG", str(tmp_path / "config"))
        return type(mei_settings)(home=mei_settings.home, config=tmp_path / "config")

    return write


def test_every_receiver_gets_the_message(receiver, configured):
    url, came = receiver
    assert send_alert(configured([url, f"{url}/second"]), "a run failed", "no bars") == ()
    assert came == [("a run failed", "no bars")] * 2


def test_moves_of_lanes_are_told_together_and_no_move_is_no_message(receiver, configured):
    url, came = receiver
    settings = configured([url])
    assert send_moves(settings, "nightly moved", []) == ()
    assert send_moves(settings, "nightly moved", [("paper1", "a" * 64, "best"), ("paper2", "b" * 64, "calm")]) == ()
    [(title, text)] = came
    assert title == "MEI: nightly moved: paper1, paper2"
    assert text.splitlines() == [f"paper1: config {'a' * 12}: best", f"paper2: config {'b' * 12}: calm"]


def test_receivers_that_fail_raise_nothing_say_so_and_show_no_secret(receiver, capsys, caplog):
    url, came = receiver
    wrong = [f"{url}/broken", f"json://anna:{SECRET}@127.0.0.1:1", f"bogus://{SECRET}", f"tgram://{SECRET}", url]
    with caplog.at_level("DEBUG", logger="apprise"):
        problems = send([SecretStr(each) for each in wrong], "title", "text")
    assert [problem.split(":")[0] for problem in problems] == [f"alerts[{index}]" for index in range(4)]
    assert came == [("title", "text")]
    printed = capsys.readouterr()
    assert printed.out == ""
    assert SECRET not in printed.err + caplog.text + repr(problems)


def test_a_failed_run_is_sent_once_however_often_its_alert_is_written(receiver, configured):
    url, came = receiver
    settings, run_of = configured([f"{url}/broken", url]), dg.DagsterRun(job_name="nightly", run_id="f" * 36)
    paths = {write_alert(settings, run_of, [], "the disk is full", now_ms) for now_ms in (1, 2)}
    assert json.loads(paths.pop().read_text())["at_ms"] == 2
    [(title, text)] = came
    assert title == "MEI: nightly failed"
    assert "the disk is full" in text
    assert "mei nightly --profile nightly" in text


def test_nobody_is_told_where_pipeline_yaml_is_wrong(configured, receiver):
    url, came = receiver
    settings = configured([url])
    (settings.config / PIPELINE).write_text("venue: [")
    assert send_alert(settings, "title", "text") == ()
    assert came == []


def test_a_hold_is_told_and_set_whatever_the_receiver_does(receiver, configured, capsys):
    url, came = receiver
    settings = configured([f"{url}/broken", url])
    words = ["lane", "set", "paper1", "--hold", "incident", "halt", "--why", "fills look wrong", "--json"]
    (settings.config / "lanes").mkdir(exist_ok=True)
    (settings.config / "lanes" / "paper1.yaml").write_text("mode: paper\nvenue: test\nrole: primary\n")
    assert run(words) == 0
    assert json.loads(capsys.readouterr().out)["effect"] == "halt"
    assert run(["lane", "set", "paper1", "--lift", "incident", "--json"]) == 0
    assert [title for title, _ in came] == [
        "MEI: lane paper1: hold incident (halt) set",
        "MEI: lane paper1: hold incident lifted",
    ]
    assert "fills look wrong" in came[0][1]


@pytest.mark.parametrize("alerts", [[f"{SECRET}"], [f"ntfy://ok {SECRET}"], f"no url {SECRET}", [{"ntfy": SECRET}]])
def test_an_entry_that_is_no_url_is_refused_without_showing_it(alerts, configured):
    settings = configured(alerts)
    with pytest.raises(ConfigError, match=r"alerts.*Apprise URL") as refused:
        read_yaml(settings.config / PIPELINE, PipelineConfig)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("words", [["config", "check", "--json"], ["config", "check"], ["config", "explain", "alerts"]])
def test_no_command_shows_the_urls(words, configured, capsys):
    configured([f"ntfy://{SECRET}@host/topic"])
    assert run(words) == 0
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err
