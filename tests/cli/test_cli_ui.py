import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from mei_pipeline.cli import main
from mei_pipeline.cli.ui import LINEAGE, LOOPBACK, check_port, first_free_port
from mei_pipeline.errors import Busy, ConfigError

MEI = str(Path(sys.executable).with_name("mei"))


@pytest.fixture
def taken():
    with socket.create_server((LOOPBACK, 0)) as server:
        yield server.getsockname()[1]


def test_a_free_port_passes():
    with socket.create_server((LOOPBACK, 0)) as server:
        free = server.getsockname()[1]
    check_port(LOOPBACK, free)


def test_a_taken_port_is_named(taken):
    with pytest.raises(ConfigError, match=f"port {taken} .*taken.*--port"):
        check_port(LOOPBACK, taken)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_of_another_machine_is_refused(host):
    with pytest.raises(ConfigError, match=host):
        check_port(host, 3000)


def test_the_first_free_port_skips_those_that_are_taken():
    first = first_free_port(LOOPBACK)
    with socket.create_server((LOOPBACK, first)):
        assert first_free_port(LOOPBACK) > first
    assert first_free_port(LOOPBACK) == first


def test_a_taken_port_ends_the_command_before_anything_starts(taken, home):
    assert main.run(["ui", "--port", str(taken)]) == ConfigError.exit_code
    assert not (home / "logs").exists()


def test_an_edited_dagster_home_is_used_as_it_is(taken, mei_settings, capsys):
    mei_settings.dagster.mkdir(parents=True)
    (mei_settings.dagster / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    main.run(["ui", "--port", str(taken)])
    assert "edited by hand" in capsys.readouterr().err
    assert (mei_settings.dagster / "dagster.yaml").read_text() == "telemetry: {enabled: false}\n"


def test_another_host_is_warned_about(taken, capsys):
    with socket.create_server(("0.0.0.0", 0)) as server:  # noqa: S104 - the address is what the test is about
        main.run(["ui", "--host", "0.0.0.0", "--port", str(server.getsockname()[1])])  # noqa: S104 - as above
    assert "no authentication" in capsys.readouterr().err
    main.run(["ui", "--port", str(taken)])
    assert "no authentication" not in capsys.readouterr().err


def start_ui(port):
    return subprocess.Popen([MEI, "ui", "--port", str(port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


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


def test_a_dead_daemon_ends_the_whole_with_its_reason():
    port = first_free_port(LOOPBACK)
    with start_ui(port) as ui:
        assert ui.stdout.readline() == f"lineage: http://{LOOPBACK}:{port}{LINEAGE}\n"
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/server_info", timeout=10) as answer:
            assert answer.status == 200
        assert [ui.stderr.readline(), ui.stderr.readline()] == ["starting Dagster ...\n", "Ctrl-C stops it\n"]
        servers = children(ui.pid)
        daemon, webserver = sorted(servers, key=lambda server: "webserver" in servers[server])
        assert main.run(["ui"]) == Busy.exit_code, "a second one on the same home"
        os.kill(daemon, signal.SIGKILL)
        assert ui.wait(timeout=60) == 1
        assert "dagster-daemon ended with -9" in ui.stderr.read()
    assert left_of({daemon, webserver}) == []
    check_port(LOOPBACK, port)


def test_a_stop_request_while_starting_leaves_nothing_behind():
    with start_ui(first_free_port(LOOPBACK)) as ui:
        assert "starting" in ui.stderr.readline()
        servers = children(ui.pid)
        assert len(servers) == 1
        ui.send_signal(signal.SIGTERM)
        assert ui.wait(timeout=60) == 0
    assert left_of(servers) == []
