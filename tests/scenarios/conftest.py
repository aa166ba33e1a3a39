"""One running fleet for all scenarios that only look at it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.scenarios.running_fleet import RunningFleet

BACKUP = "\n[backup]\njournal_interval_s = 5\n"


@pytest.fixture(scope="package")
def watched_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFleet]:
    """A fleet with two regions and its UI, just started; its journal is written every 5 s."""
    fleet = RunningFleet(tmp_path_factory.mktemp("watched"))
    with (fleet.folder / "stateroom.toml").open("a", encoding="utf-8") as settings:
        settings.write(BACKUP)
    try:
        fleet.up()
        yield fleet
    finally:
        fleet.end()
