import contextlib
import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import dagster as dg
import pytest

from assets.run import open_instance
from assets.run_processes import lock_path
from mei_pipeline.cli import main
from mei_pipeline.cli.ui import LINEAGE, LOOPBACK, listen, listen_first_free
from mei_pipeline.config.load import load_config
from mei_pipeline.errors import Busy, ConfigError

MEI = str(Path(sys.executable).with_name("mei"))


@pytest.fixture
def taken():
    with socket.create_server((LOOPBACK, 0)) as server:
        yield server.getsockname()[1]


def test_a_port_is_held_from_the_moment_it_is_chosen():
    """Two of `mei ui` that start together, each on its home, would both print the link to the page of one."""
    with listen_first_free(LOOPBACK) as first:
        chosen = first.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {chosen} .*taken.*--port"):
            listen(LOOPBACK, chosen)
        with listen_first_free(LOOPBACK) as second:
            assert second.getsockname()[1] > chosen
    listen(LOOPBACK, chosen).close()


def test_a_port_that_needs_the_rights_of_root_is_named(monkeypatch):
    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(ConfigError, match=r"port 80 needs the rights of root.*--port"):
        listen(LOOPBACK, 80)


def refuse(*_, **__):
    raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_of_another_machine_is_refused(host):
    with pytest.raises(ConfigError, match=f"{host} is no address of this machine .*; use {LOOPBACK}"):
        listen(host, 3000)


def free_port():
    with listen_first_free(LOOPBACK) as listener:
        return listener.getsockname()[1]


def test_a_taken_port_ends_the_command_before_anything_starts(taken, home):
    assert main.run(["ui", "--port", str(taken)]) == ConfigError.exit_code
    assert not (home / "logs").exists()


def test_an_edited_dagster_home_is_used_as_it_is(taken, mei_settings, capsys):
    mei_settings.dagster.mkdir(parents=True)
    (mei_settings.dagster / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    main.run(["ui", "--port", str(taken)])
    assert "edited by hand" in capsys.readouterr().err
    assert (mei_settings.dagster / "dagster.yaml").read_text() == "telemetry: {enabled: false}\n"


def test_another_host_needs_a_reason(mei_settings, capsys):
    with socket.create_server(("0.0.0.0", 0)) as server:  # noqa: S104 - the address is what the test is about
        busy = ["--port", str(server.getsockname()[1])]
        for options in (["--host", "0.0.0.0"], ["--allow-host", "mei.example.org"]):  # noqa: S104 - as above
            assert main.run(["ui", *busy, *options, "--why", " "]) == ConfigError.exit_code
            printed = capsys.readouterr().err
            assert options[1] in printed
            assert "--why" in printed
        # With a reason, the taken port is what stops it.
        assert main.run(["ui", *busy, "--host", "0.0.0.0", "--why", "a desk"]) == ConfigError.exit_code  # noqa: S104 - as above
        assert "is taken" in capsys.readouterr().err
    assert not (mei_settings.logs / "ui.jsonl").exists(), "nobody could reach it"


@pytest.mark.parametrize("token", ["short", "x" * 40 + " ", "ü" * 40])
def test_a_token_that_is_easily_guessed_is_refused_and_not_printed(token, monkeypatch, capsys):
    monkeypatch.setenv("MEI_UI_TOKEN", token)
    assert main.run(["ui"]) == ConfigError.exit_code
    printed = capsys.readouterr().err
    assert "MEI_UI_TOKEN" in printed
    assert token not in printed


@contextlib.contextmanager
def start_ui(port, *options):
    """Run `mei ui`; a test that fails leaves none behind."""
    command = [MEI, "ui", "--port", str(port), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as ui:
        try:
            yield ui
        finally:
            ui.kill()


def processes():
    """Every process that is not a zombie: id, parent, session, command line."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, parent, _, session = (path / "stat").read_text().rpartition(")")[2].split()[:4]
            command = (path / "cmdline").read_text().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            yield int(path.name), int(parent), int(session), command


def children(parent):
    return {process: command for process, its, _, command in processes() if its == parent}


def left_of(leaders):
    """Command lines of what still runs in the sessions of `leaders`."""
    return [command for _, _, session, command in processes() if session in leaders]


def ask(url, query=None, **headers):
    """Status and body of one request; by POST if there is a GraphQL query."""
    body = None if query is None else json.dumps({"query": query}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        request = urllib.request.Request(url, body, named)  # noqa: S310 - a page that this test started
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - as above
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.mark.long
def test_a_dead_daemon_ends_the_whole_with_its_reason(mei_settings):
    port = free_port()
    with start_ui(port, "--allow-host", "mei.example.org", "--why", "a proxy", "--json") as ui:
        lineage = json.loads(ui.stdout.readline())["lineage"]
        assert lineage.startswith(f"http://{LOOPBACK}:{port}{LINEAGE}&token=")
        page = f"http://{LOOPBACK}:{port}"
        key = {"authorization": f"Bearer {lineage.rpartition('=')[2]}", "host": "mei.example.org"}
        assert ask(f"{page}/server_info")[0] == 401
        assert ask(f"{page}/server_info", **key)[0] == 200
        assert json.loads((mei_settings.logs / "ui.jsonl").read_text())["why"] == "a proxy"

        mutation, own = "mutation { setNuxSeen }", "http://mei.example.org"
        as_json = {**key, "content_type": "application/json"}
        assert ask(f"{page}/graphql", mutation, **as_json, origin="http://evil.example")[0] == 403
        assert ask(f"{page}/graphql", mutation, **key, content_type="text/plain", origin=own)[0] == 415
        assert ask(f"{page}/graphql?query=mutation%7BsetNuxSeen%7D", **key, origin=own)[0] == 405
        assert ask(f"{page}/graphql", mutation, **as_json, origin=own) == (200, b'{"data":{"setNuxSeen":true}}')

        assert "has its token" in ui.stderr.readline()
        assert [ui.stderr.readline(), ui.stderr.readline()] == ["starting Dagster ...\n", "Ctrl-C stops it\n"]
        servers = children(ui.pid)
        daemon, webserver = sorted(servers, key=lambda server: "webserver" in servers[server])
        assert main.run(["ui"]) == Busy.exit_code, "a second one on the same home"
        with open_instance(mei_settings, load_config(mei_settings.config)) as instance:
            launched = instance.add_run(dg.DagsterRun("nightly", status=dg.DagsterRunStatus.STARTING)).run_id
            lock_path(mei_settings, "an-earlier-run").parent.mkdir(exist_ok=True)
            lock_path(mei_settings, "an-earlier-run").touch()
        os.kill(daemon, signal.SIGKILL)
        assert ui.wait(timeout=60) == 1
        assert "dagster-daemon ended with -9" in ui.stderr.read()
    assert left_of({daemon, webserver}) == []
    with open_instance(mei_settings, load_config(mei_settings.config)) as instance:
        stopped = instance.get_run_by_id(launched)
    assert stopped is not None
    assert stopped.status == dg.DagsterRunStatus.FAILURE, "what was launched from the page ends with it"
    assert (mei_settings.logs / "alerts" / f"{launched}.json").exists()
    listen(LOOPBACK, port).close()


def test_servers_end_with_a_command_that_was_killed():
    with start_ui(free_port()) as ui:
        assert "starting" in ui.stderr.readline()
        servers = children(ui.pid)
        ui.kill()
    for server in servers:
        with contextlib.suppress(ProcessLookupError), os.fdopen(os.pidfd_open(server)) as ended:
            assert select.select([ended], [], [], 60)[0], "it outlived the command"
    assert left_of(servers) == []


def test_a_stop_request_while_starting_leaves_nothing_behind():
    with start_ui(free_port()) as ui:
        assert "starting" in ui.stderr.readline()
        servers = children(ui.pid)
        assert len(servers) == 1
        ui.send_signal(signal.SIGTERM)
        assert ui.wait(timeout=60) == 0
    assert left_of(servers) == []
