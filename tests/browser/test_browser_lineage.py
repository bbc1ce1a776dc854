"""A person with a browser: opens the lineage that `mei ui` prints, materialises an asset, reads checks and a profit.

Needs Chromium at /usr/bin/chromium and the group `browser`. The pictures of the documents are taken here:
MEI_HOME of the test holds a demo, so they show what a newcomer sees.
"""

import json
import os
import re
import subprocess

import pytest
from browser_kit import MEI, SLOW_MS, open_browser, origin, serve

from mei_pipeline.settings import CHECKOUT

pytestmark = pytest.mark.browser

PICTURES = CHECKOUT / "docs" / "images"
GROUPS = ("ingest", "research", "selection", "deploy", "lanes")


@pytest.fixture(scope="module")
def traded(tmp_path_factory):
    """What `mei demo --trade` prints for programs; its home is there."""
    home = tmp_path_factory.mktemp("browser") / "demo"
    environment = {**os.environ, "MEI_HOME": str(home.parent)}
    command = [MEI, "demo", "--trade", "--home", str(home), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    return json.loads(done.stdout) | {"home": home}


@pytest.fixture(scope="module")
def lineage(traded):
    with serve(traded["home"]) as link:
        yield link


@pytest.fixture(scope="module")
def browser():
    with open_browser() as chromium:
        yield chromium


@pytest.fixture
def page(browser):
    window = browser.new_page(viewport={"width": 1800, "height": 640}, device_scale_factor=1.5)
    window.set_default_timeout(SLOW_MS)
    yield window
    window.close()


@pytest.fixture(scope="module")
def seen():
    """Wait until a part of the page is visible; playwright is imported here, so that other tiers do without it."""
    from playwright.sync_api import expect

    expect.set_options(timeout=SLOW_MS)
    return lambda locator: expect(locator).to_be_visible()


def node(page, asset):
    """The box of an asset in the graph; the list on the left, when it is open, comes before it."""
    return page.get_by_text(asset, exact=True).last


def take_picture(page, name):
    """A picture of the documents is taken when it is not there: delete it to renew it."""
    page.wait_for_load_state("networkidle")
    if not (PICTURES / name).exists():
        page.screenshot(path=PICTURES / name)


def test_the_lineage_shows_the_whole_way(page, seen, lineage):
    page.goto(lineage)
    for group in GROUPS:
        seen(node(page, group))
    for asset in ("candles", "night_plan", "sweep_results", "candidates", "promoted", "paper1"):
        seen(node(page, asset))
    page.get_by_role("button", name="Hide navigation").click()
    take_picture(page, "lineage.png")


def test_an_asset_is_materialised_from_the_lineage_and_its_checks_are_seen(page, seen, lineage):
    page.goto(lineage)
    node(page, "coverage").click()
    page.get_by_role("button", name="Materialize selected").click()
    page.get_by_role("link", name="View", exact=True).click()
    page.wait_for_url("**/runs/*")
    run = page.url.rpartition("/")[2].partition("?")[0]
    seen(page.get_by_text("RUN_SUCCESS"))
    seen(page.get_by_text("2 checks"))

    page.goto(f"{origin(page.url)}/assets/coverage?view=checks")
    seen(page.get_by_text("Checks (2)"))
    for check in ("fresh", "gaps"):
        page.get_by_text(check, exact=True).first.click()
        seen(page.get_by_text("Evaluation result"))
        seen(page.locator(f'a[href*="{run}"]').first)


def test_the_checks_of_a_night_have_all_passed(page, seen, lineage):
    page.goto(f"{origin(lineage)}/assets/sweep_results?view=checks")
    for check in ("complete", "replay_equal"):
        seen(page.get_by_text(check, exact=True).first)
    seen(page.get_by_text("Succeeded", exact=True).nth(1))
    take_picture(page, "checks.png")


REPORTED = '{ assetOrError(assetKey: {path: ["lane", "paper1"]}) { ... on Asset { assetMaterializations(limit: 1) '
REPORTED += "{ runId timestamp } } } }"


def test_the_lineage_leads_to_the_config_that_trades_and_its_money(page, seen, lineage, traded):
    """The sensor of lanes reports what the executor wrote before Dagster was started."""
    trading = traded["trading"]
    page.goto(lineage)
    page.wait_for_function(
        """async query => {
            const headers = {"Content-Type": "application/json"}, body = JSON.stringify({query});
            const answer = await (await fetch("/graphql", {method: "POST", headers, body})).json();
            return (answer.data.assetOrError.assetMaterializations || []).length;
        }""",
        arg=REPORTED,
        polling=2000,
    )
    for asset in ("candles", "night_plan", "sweep_results", "promoted"):
        seen(node(page, asset))
    node(page, "paper1").click()
    seen(page.get_by_text("pnl_usd", exact=True).first)
    seen(page.get_by_text(f"{trading['pnl_usd']:.2f}".rstrip("0").rstrip("."), exact=True).first)
    # The demo promoted it while the lane ran.
    seen(page.get_by_text(f"of {trading['second_config_id'][:12]} is in force").first)
    page.get_by_text("[Show Markdown]").first.click()
    seen(page.get_by_role("dialog").locator('img[src^="data:image/svg+xml"]'))


def test_the_repeated_day_of_a_lane_is_green(page, seen, lineage):
    """The demo has repeated the last day by the job `replay_daily`."""
    page.goto(lineage)
    node(page, "lane_day").click()
    seen(page.get_by_role("link", name="replay_equivalence"))
    seen(page.get_by_text("Passed", exact=True))
    page.goto(f"{origin(page.url)}/assets/lane_day?view=checks")
    seen(page.get_by_text("Succeeded", exact=True).first)
    seen(page.get_by_text(re.compile(r"lane paper1, 2026-\d\d-\d\d: (equal|explained)")).first)
    take_picture(page, "lane_day.png")


BACKFILL = "{ partitionBackfillsOrError(limit: 1) { ... on PartitionBackfills { results { status numPartitions } } } }"


def test_everything_is_materialised_at_once(page, seen, lineage):
    """The first asset has partitions, so that the page asks which: all of them, on a market that ended long ago."""
    page.goto(lineage)
    page.get_by_role("button", name="Materialize all").click()
    seen(page.get_by_text("Partition selection"))
    every = page.get_by_role("button", name="All", exact=True)
    every.nth(0).click()
    seen(
        page.get_by_role("dialog").get_by_text("1h", exact=True).first
    )  # the page forgets a click that comes too early
    every.nth(1).click()
    page.get_by_role("button", name="Launch backfill").click()  # enabled once both dimensions are chosen
    page.wait_for_function(
        """async query => {
            const headers = {"Content-Type": "application/json"}, body = JSON.stringify({query});
            const answer = await (await fetch("/graphql", {method: "POST", headers, body})).json();
            const [backfill] = answer.data.partitionBackfillsOrError.results;
            if (backfill && backfill.status.match(/FAIL|CANCEL/)) throw new Error(backfill.status);
            return backfill && backfill.status == "COMPLETED_SUCCESS";
        }""",
        arg=BACKFILL,
        polling=2000,
        timeout=3 * SLOW_MS,
    )
