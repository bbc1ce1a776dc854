"""What a page of another origin can do with the web page of `mei ui`: nothing."""

import asyncio
from urllib.parse import urlencode

import pytest

from mei_pipeline.cli.guard import COOKIE, HEADERS, Access, guarded
from mei_pipeline.cli.ui import allowed_hosts, is_loopback
from mei_pipeline.errors import ConfigError

OWN = "127.0.0.1:3000"
EVIL = "http://evil.example"
SECRET = "s" * 40
LOOPBACK_ONLY = Access(frozenset({"127.0.0.1", "localhost", "::1"}))
MUTATION = "mutation { launchRun }"


async def reached(scope, _receive, send):
    """Answer as Dagster's app would, and say so."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
    else:
        headers = [(b"content-security-policy", b"object-src 'none'"), (b"x-frame-options", b"ALLOWALL")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"reached"})


def ask(method, path, access=LOOPBACK_ONLY, *, host=OWN, query=None, kind="http", **headers):
    """Send one request and return status, headers as a list, body. A header of None is left out."""
    named = {"host": host, **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope = {
        "type": kind,
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": urlencode(query or {}).encode(),
        "headers": [(name.encode(), value.encode()) for name, value in named.items() if value is not None],
        "http_version": "1.1",
        "scheme": "http" if kind == "http" else "ws",
        "server": ("127.0.0.1", 3000),
        "client": ("127.0.0.1", 50_000),
        "root_path": "",
        "subprotocols": [],
    }
    sent = []

    async def receive():
        return {"type": "http.request", "body": b""} if kind == "http" else {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    asyncio.run(guarded(reached, access)(scope, receive, send))
    if kind == "websocket":
        return sent[0]["type"]
    given = [(name.decode(), value.decode()) for name, value in sent[0]["headers"]]
    return sent[0]["status"], given, b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize("host", [OWN, "localhost:8080", "LOCALHOST", "[::1]:3000"])
def test_the_own_page_may_read_and_launch(host):
    json_of = {"host": host, "origin": f"http://{host}", "content_type": "application/json; charset=utf-8"}
    assert ask("GET", "/runs", host=host)[0] == 200
    assert ask("POST", "/graphql", **json_of)[0] == 200
    assert ask("GET", "/graphql", kind="websocket", host=host, origin=f"http://{host}") == "websocket.accept"


@pytest.mark.parametrize(
    "host", [None, "", "evil.example", "evil.example:3000", "0.0.0.0:3000", "localhost.evil.example", "[", "[::2]"]
)
def test_another_host_is_refused(host):
    for method in ("GET", "POST", "OPTIONS"):
        origin = f"http://{host}"
        assert ask(method, "/graphql", host=host, origin=origin, content_type="application/json")[0] == 421
    assert ask("GET", "/graphql", kind="websocket", host=host, origin=f"http://{host}") == "websocket.close"


@pytest.mark.parametrize(
    "origin",
    [None, "null", EVIL, "http://127.0.0.1:3001", "http://localhost:3000", "http://127.0.0.1", f"ftp://{OWN}", OWN],
)
def test_another_origin_changes_nothing(origin):
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        for path in ("/graphql", "/report_asset_materialization/candles", "/report_asset_check/x", "/"):
            assert ask(method, path, origin=origin, content_type="application/json")[0] == 403
    assert ask("GET", "/graphql", kind="websocket", origin=origin) == "websocket.close"


@pytest.mark.parametrize("accept", [None, "*/*", "application/json"])
def test_graphql_is_not_executed_by_get(accept):
    for method in ("GET", "HEAD"):
        status, headers, _ = ask(method, "/graphql", query={"query": MUTATION}, accept=accept, origin=f"http://{OWN}")
        assert (status, dict(headers)["allow"]) == (405, "POST")
    assert ask("GET", "/graphql", accept="text/html,*/*")[0] == 200, "the page in which a person types queries"


@pytest.mark.parametrize("path", ["/graphql\n", "/graphql\r\n", "/\x00graphql", "/report_asset_check/x\n"])
def test_a_path_that_only_looks_like_another_is_refused(path):
    own = {"origin": f"http://{OWN}", "content_type": "text/plain"}
    for method in ("GET", "POST"):
        assert ask(method, path, query={"query": MUTATION}, **own)[0] == 400
    assert ask("GET", path, kind="websocket", origin=f"http://{OWN}") == "websocket.close"


@pytest.mark.parametrize(
    "content_type",
    [None, "text/plain", "text/plain; application/json", "application/graphql", "application/x-www-form-urlencoded"],
)
def test_graphql_is_executed_only_as_json(content_type):
    assert ask("POST", "/graphql", origin=f"http://{OWN}", content_type=content_type)[0] == 415


@pytest.mark.parametrize("answer", [{"host": OWN}, {"host": "evil.example"}])
def test_every_answer_has_security_headers(answer):
    _, headers, _ = ask("GET", "/", **answer)
    for name, value in HEADERS.items():
        assert [found for key, found in headers if key == name.lower()] == [value]
    assert "frame-ancestors 'none'" in [value for key, value in headers if key == "content-security-policy"]


def test_the_policy_of_dagster_is_kept():
    assert ("content-security-policy", "object-src 'none'") in ask("GET", "/")[1]


def test_a_token_is_asked_for_and_becomes_a_cookie():
    access = Access(frozenset({"mei.example.org"}), SECRET)
    at = {"host": "mei.example.org", "origin": "http://mei.example.org", "content_type": "application/json"}
    for wrong in ({}, {"authorization": "Bearer " + "x" * 40}, {"cookie": f"{COOKIE}=x"}, {"authorization": SECRET}):
        assert ask("POST", "/graphql", access, **at, **wrong)[0] == 401
        assert ask("GET", "/server_info", access, **at, **wrong)[0] == 401
        assert ask("GET", "/graphql", access, kind="websocket", **at, **wrong) == "websocket.close"
    assert ask("GET", "/", access, query={"token": "x"}, **at)[0] == 401
    assert ask("POST", "/graphql", access, query={"token": SECRET}, **at)[0] == 401

    status, headers, _ = ask("GET", "//evil.example/runs", access, query={"token": SECRET, "view": "a&b"}, **at)
    found = dict(headers)
    assert (status, found["location"]) == (303, "/evil.example/runs?view=a%26b")
    assert {"HttpOnly", "SameSite=lax"} <= set(found["set-cookie"].split("; "))
    cookie = found["set-cookie"].partition(";")[0]

    for right in ({"cookie": cookie}, {"authorization": f"Bearer {SECRET}"}):
        assert ask("POST", "/graphql", access, **at, **right)[0] == 200
        assert ask("GET", "/graphql", access, kind="websocket", **at, **right) == "websocket.accept"
        assert ask("POST", "/graphql", access, **{**at, "origin": EVIL}, **right)[0] == 403


def test_a_page_on_every_address_may_be_asked_for_under_the_one_that_was_reached():
    access = Access(frozenset({"desk7"}), SECRET)
    key = {"authorization": f"Bearer {SECRET}"}
    assert ask("GET", "/", access, host="127.0.0.1:3000", **key)[0] == 200
    assert ask("GET", "/", access, host="192.0.2.7:3000", **key)[0] == 421


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("127.evil.example", False)]
    + [(host, False) for host in ("0.0.0.0", "::", "192.0.2.1", "desk7", "")],  # noqa: S104 - what the test is about
)
def test_what_is_loopback(host, loopback):
    assert is_loopback(host) is loopback


def test_hosts_that_are_allowed():
    assert allowed_hosts("192.0.2.1", ["MEI.example"]) == ("127.0.0.1", "192.0.2.1", "::1", "localhost", "mei.example")
    assert "0.0.0.0" not in allowed_hosts("0.0.0.0", [])  # noqa: S104 - what the test is about


@pytest.mark.parametrize("name", ["", "http://mei.example", "mei.example:80", "a b", "*"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(ConfigError, match="--allow-host"):
        allowed_hosts("127.0.0.1", [name])
