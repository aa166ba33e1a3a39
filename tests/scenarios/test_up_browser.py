"""The UI in a real browser: lineage and asset page render, an asset is materialized by a click."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from platform_defs.webserver_client import WebserverClient
from tests.scenarios.running_fleet import RunningFleet

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed on this machine"),
]


@pytest.fixture
def ui(watched_fleet: RunningFleet) -> str:
    """URL of a running fleet's UI."""
    return watched_fleet.url


@pytest.fixture
def page(ui: str) -> Iterator[Any]:
    """A page that may reach loopback only; what it asked elsewhere is an error."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        opened = browser.new_page(viewport={"width": 1600, "height": 1000})
        opened.set_default_timeout(30_000)
        elsewhere: list[str] = []
        opened.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((ui, "data:", "blob:"))
                else elsewhere.append(request.url)
            ),
        )
        yield opened
        browser.close()
    assert elsewhere == []


def test_lineage_and_asset_pages_show_the_inventory(page: Any, ui: str) -> None:
    """The neighbours of an asset are drawn, and its page knows its materialization."""
    page.goto(f"{ui}/assets/node_inventory?view=lineage&lineageScope=neighbors")
    page.get_by_text("node_inventory", exact=True).first.wait_for()
    page.goto(f"{ui}/asset-groups")
    page.locator("svg foreignObject").first.wait_for()
    page.goto(f"{ui}/assets/node_inventory?view=overview")
    page.get_by_text("Latest materialization").first.wait_for()
    assert page.get_by_text("Failed to load").count() == 0


RUNS = "{runsOrError{... on Runs{results{runId status assetSelection{path} tags{key value}}}}}"


def runs_from_the_ui(url: str) -> dict[str, str]:
    """Run id -> status of the runs of `node_inventory` alone, which no sensor or job asks for."""
    found = WebserverClient(url).query(RUNS)["runsOrError"]["results"]
    return {
        run["runId"]: run["status"]
        for run in found
        if [key["path"] for key in run["assetSelection"] or []] == [["node_inventory"]]
    }


@pytest.mark.long
def test_an_asset_is_materialized_from_the_ui_and_succeeds(page: Any, ui: str) -> None:
    """Click Materialize, choose all partitions, launch, and see that run succeed."""
    assert runs_from_the_ui(ui) == {}
    page.goto(f"{ui}/assets/node_inventory")
    page.get_by_role("button", name=re.compile("Materialize")).first.click()
    launch = page.get_by_role("button", name=re.compile(r"^Launch"))
    launch.wait_for()
    everything = page.get_by_role("button", name="All", exact=True)
    if everything.count():
        everything.first.click()
    launch.click()
    end_s = time.monotonic() + 60
    while not (started := runs_from_the_ui(ui)):
        assert time.monotonic() < end_s, "no run was launched"
        page.wait_for_timeout(200)
    for run_id in started:
        page.goto(f"{ui}/runs/{run_id}")
        page.get_by_text("Success", exact=True).first.wait_for(timeout=60_000)
    assert set(runs_from_the_ui(ui).values()) == {"SUCCESS"}


def test_the_browser_is_the_systems_own() -> None:
    """Nothing is downloaded: the executable exists before the test."""
    assert CHROMIUM is not None
    assert Path(CHROMIUM).is_file()
