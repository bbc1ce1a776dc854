"""What tests with a browser share: the browser, a home after a demo, and `mei ui` on a home."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

MEI = str(Path(sys.executable).with_name("mei"))
CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SLOW_MS = 120_000
"""A run has a process of its own, and imports what it needs first."""


@contextlib.contextmanager
def serve(home, *options):
    """Run `mei ui` on a home and give the link that it prints."""
    environment = {**os.environ, "MEI_HOME": str(home)}
    with subprocess.Popen([MEI, "ui", *options], stdout=subprocess.PIPE, text=True, env=environment) as ui:
        try:
            yield re.fullmatch(r"lineage: (http://127\.0\.0\.1:\d+/.*)\n", ui.stdout.readline())[1]
        finally:
            ui.send_signal(signal.SIGINT)
    assert ui.returncode == 0


@contextlib.contextmanager
def open_browser(*flags):
    """Start Chromium."""
    from playwright.sync_api import sync_playwright  # uv sync --group browser

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *flags])
        yield chromium
        chromium.close()


def origin(url):
    return re.match(r"http://[^/]+", url)[0]
