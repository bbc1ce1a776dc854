"""No page that MEI writes scrolls sideways on a small screen, light or dark. Needs Chromium and the group `browser`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser_kit import open_browser

if TYPE_CHECKING:
    from demo_fixtures import Demos

pytest_plugins = ("demo_fixtures", "night_fixtures")
pytestmark = pytest.mark.browser

NARROW = {"width": 400, "height": 800}
WIDER = """() => [...document.querySelectorAll("body *")]
    .filter(each => each.getBoundingClientRect().right > document.documentElement.clientWidth
        && !each.parentElement.closest(".scroll, figure"))
    .map(each => `${each.tagName} ${each.className} ${each.textContent.slice(0, 60)}`).slice(0, 5)"""


@pytest.fixture(scope="module")
def written(
    demos: "Demos", homes_of_nights: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Pages of every kind, of a demo and of nights that end in each way."""
    from demo_fixtures import printed

    folder = tmp_path_factory.mktemp("pages")
    pages = {name: folder / f"{name}.html" for name in ("backtest", "file", "sweep", "demo", *homes_of_nights)}
    with pytest.MonkeyPatch.context() as patch:
        home = demos.homes["demo",]
        patch.setenv("MEI_HOME", str(home))
        printed("report", "--latest", "--html", str(pages["demo"]))
        printed("backtest", "--config", "paper1", "--html", str(pages["backtest"]))
        first = max(json.loads(printed("sweep", "list", "--json"))["sweeps"], key=lambda sweep: sweep["combos"])
        printed("sweep", "show", first["sweep"], "--html", str(pages["sweep"]))
        spec = folder / "spec.yaml"
        spec.write_text(
            "strategy: ema_cross\nvenue: synthetic\ninterval: 1h\nsymbols: [BTC, ETH]\nbenchmark: ETH\n"
            "params: {indicators.ema_fast_window: 8, indicators.ema_slow_window: 30}\n"
        )
        printed("backtest", "--config", str(spec), "--html", str(pages["file"]))
        for name, after in homes_of_nights.items():
            patch.setenv("MEI_HOME", str(after))
            patch.setenv("MEI_CONFIG", str(after / "config"))
            printed("report", "--html", str(pages[name]))
    return pages


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as chromium:
        yield chromium


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_scrolls_sideways(browser: Any, written: dict[str, Path], scheme: str) -> None:
    with browser.new_context(viewport=NARROW, color_scheme=scheme) as context:
        page = context.new_page()
        for name, path in written.items():
            page.goto(path.as_uri())
            assert page.locator("section").count() > 0, name
            width, room = page.evaluate(
                "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
            )
            assert (width <= room, page.evaluate(WIDER)) == (True, []), name
