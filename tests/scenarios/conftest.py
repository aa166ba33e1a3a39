"""One running fleet for all scenarios that only look at it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.scenarios.running_fleet import RunningFleet


@pytest.fixture(scope="package")
def watched_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFleet]:
    """A fleet with two regions and its UI, just started; its journal is written every 5 s."""
    fleet = RunningFleet(tmp_path_factory.mktemp("watched"))
    fleet.environ["STATEROOM_BACKUP__JOURNAL_INTERVAL_S"] = "5"
    fleet.environ["STATEROOM_NODE__LEASE_TTL_S"] = "15"  # nobody dies here, however busy it is
    try:
        fleet.up()
        yield fleet
    finally:
        fleet.end()
