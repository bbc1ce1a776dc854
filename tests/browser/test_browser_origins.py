"""A page of another origin, in a real browser, tries to launch a run on `mei ui`; the own page launches the same one.

Needs Chromium at /usr/bin/chromium and the group `browser`. The home is empty: a run is there only if it was launched.
"""

import http.server
import json
import threading
from urllib.parse import quote, urlsplit

import pytest
from browser_kit import SLOW_MS, open_browser, origin, serve

pytestmark = pytest.mark.browser

EVIL = "evil.example"
LAUNCH = (
    'mutation { launchRun(executionParams: {mode: "default", runConfigData: {}, selector: {repositoryName: '
    '"__repository__", repositoryLocationName: "mei_pipeline", jobName: "hand_over"}}) '
    "{ __typename ... on PythonError { message } } }"
)
RUNS = "{ runsOrError { ... on Runs { results { runId jobName tags { key value } } } } }"

# Each sends the mutation in one of the ways that a page has, and says how it went.
FETCH = """async ([url, options]) => {
    try { const answer = await fetch(url, options); return `${answer.type} ${answer.status}`; }
    catch (error) { return error.name; }
}"""
BEACON = "([url, body]) => String(navigator.sendBeacon(url, body))"
IMAGE = """url => new Promise(done => {
    const image = new Image(); image.onload = () => done("loaded"); image.onerror = () => done("refused");
    image.src = url;
})"""
# A body of text/plain that is JSON, as an old attack writes it: the name of the field, an equals sign, its value.
FORM = """([url, kind, name, value]) => {
    const form = document.createElement("form"), field = document.createElement("input");
    Object.assign(form, {method: "post", action: url, enctype: kind});
    Object.assign(field, {type: "hidden", name: name, value: value});
    form.append(field); document.body.append(form); form.submit();
}"""
SOCKET = """url => new Promise(done => {
    const socket = new WebSocket(url, "graphql-ws");
    socket.onopen = () => done("open"); socket.onclose = () => done("refused");
})"""


class Blank(http.server.BaseHTTPRequestHandler):
    """A page of somebody else."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>evil</title><body></body>")

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Origin of `mei ui` on an empty home."""
    with serve(tmp_path_factory.mktemp("origins") / "home") as link:
        yield origin(link)


@pytest.fixture(scope="module")
def other_port():
    """Port of another server on this machine."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Blank) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser():
    with open_browser(f"--host-resolver-rules=MAP {EVIL} 127.0.0.1") as chromium:
        yield chromium


@pytest.fixture
def page(browser):
    window = browser.new_page()
    window.set_default_timeout(SLOW_MS)
    yield window
    window.close()


def as_json(query):
    return {"method": "POST", "headers": {"Content-Type": "application/json"}, "body": json.dumps({"query": query})}


def attack(page, target):
    """Try to launch a run by every way that the page has; how each went."""
    graphql, by_get = f"{target}/graphql", f"{target}/graphql?query={quote(LAUNCH)}"
    body = json.dumps({"query": LAUNCH})
    form = "application/x-www-form-urlencoded"
    went = {
        "image": page.evaluate(IMAGE, by_get),
        "get": page.evaluate(FETCH, [by_get, {}]),
        "get without cors": page.evaluate(FETCH, [by_get, {"mode": "no-cors", "credentials": "include"}]),
        "json": page.evaluate(FETCH, [graphql, as_json(LAUNCH)]),
        "beacon": page.evaluate(BEACON, [graphql, body]),
        "socket": page.evaluate(SOCKET, graphql.replace("http", "ws", 1)),
    }
    for kind, sent in (("text/plain", body), ("application/graphql", LAUNCH), (form, f"query={quote(LAUNCH)}")):
        for mode in ("cors", "no-cors"):
            options = {"method": "POST", "mode": mode, "headers": {"Content-Type": kind}, "body": sent}
            went[f"{kind} {mode}"] = page.evaluate(FETCH, [graphql, options])
    return went


def navigate(page, attacker, target):
    """Try to launch a run by leading the person to an address of `mei ui`; the status of each answer."""
    statuses = {}
    name, _, value = json.dumps({"query": LAUNCH, "x": "="}).partition("=")
    for kind, *field in (
        ("application/x-www-form-urlencoded", "query", LAUNCH),
        ("multipart/form-data", "query", LAUNCH),
        ("text/plain", name, value),
    ):
        page.goto(attacker)
        with page.expect_navigation() as found:
            page.evaluate(FORM, [f"{target}/graphql", kind, *field])
        statuses[kind] = found.value.status
    page.goto(attacker)
    with page.expect_navigation() as found:
        page.evaluate("url => { location.href = url; }", f"{target}/graphql?query={quote(LAUNCH)}")
    statuses["get"] = found.value.status
    return statuses


def runs(page, own):
    """Ids of all runs, asked for by the own page."""
    page.goto(f"{own}/runs")
    answer = page.evaluate("async ([url, o]) => (await fetch(url, o)).json()", [f"{own}/graphql", as_json(RUNS)])
    return answer["data"]["runsOrError"]["results"]


@pytest.mark.parametrize("attacker", ["127.0.0.1", "localhost", EVIL])
def test_a_page_of_another_origin_launches_nothing(page, own, other_port, attacker):
    evil = f"http://{attacker}:{other_port}"
    page.goto(evil)
    went = attack(page, own)
    assert {way: result for way, result in went.items() if result not in {"TypeError", "opaque 0"}} == {
        "image": "refused",
        "beacon": "true",  # it was sent, which is all that a page learns
        "socket": "refused",
    }
    statuses = navigate(page, evil, own)
    assert statuses.pop("get") in {200, 405}, "the page in which a person types queries, or a refusal"
    assert set(statuses.values()) == {403}
    assert runs(page, own) == []


def test_a_name_that_an_attacker_points_at_this_machine_is_refused(page, own):
    """DNS rebinding: the browser takes the attacker's page and `mei ui` for one origin, so only the name tells."""
    rebound = f"http://{EVIL}:{urlsplit(own).port}"
    assert page.goto(rebound).status == 421, "its page runs what follows, as the attacker's page would"
    went = attack(page, rebound)
    assert (went.pop("image"), went.pop("beacon"), went.pop("socket")) == ("refused", "true", "refused")
    assert {way: result for way, result in went.items() if result not in {"basic 421", "opaque 421"}} == {}
    assert set(navigate(page, rebound, rebound).values()) == {421}
    assert runs(page, own) == []


def test_the_own_page_launches_what_others_could_not(page, own):
    page.goto(f"{own}/runs")
    assert page.evaluate(SOCKET, f"{own.replace('http', 'ws', 1)}/graphql") == "open"
    before = runs(page, own)
    sent = page.evaluate("async ([url, o]) => (await fetch(url, o)).json()", [f"{own}/graphql", as_json(LAUNCH)])
    assert sent == {"data": {"launchRun": {"__typename": "LaunchRunSuccess"}}}
    assert len(runs(page, own)) == len(before) + 1
