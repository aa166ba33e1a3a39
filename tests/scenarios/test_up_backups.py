"""A fleet that was just started is backed up, copied and proven before anybody asks for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from fleet.errors import InvalidInputError
from platform_defs.webserver_client import WebserverClient
from resources.lake.directory_store import DirectoryStore
from resources.lake.parquet_lake import ParquetLake
from tests.scenarios.running_fleet import RunningFleet

PATIENCE_S = 400.0

CHECKS = """{assetNodes(group: {groupName: "backups", repositoryName: "__repository__",
  repositoryLocationName: "stateroom"}){assetChecksOrError{... on AssetChecks{checks{name
  executionForLatestMaterialization{status}}}}}}"""


def eventually(fleet: RunningFleet, what: str, condition: Callable[[], Any]) -> Any:
    """Wait for something that the daemon brings about."""
    end_s = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < end_s, f"{what}\n{fleet.log()}"
        time.sleep(1.0)
    return found


def rows(fleet: RunningFleet, table: str, wanted: int) -> list[dict[str, Any]]:
    """Rows of a table once it has that many; none while it has fewer or does not exist.

    Asked as `stateroom sql` does, without a process for each look.
    """
    lake = ParquetLake(DirectoryStore(str(fleet.folder / "state" / "lake")))
    try:
        found: list[dict[str, Any]] = lake.query(f"SELECT * FROM {table}").to_pylist()
    except InvalidInputError:
        return []
    return found if len(found) >= wanted else []


def claims(url: str) -> dict[str, str]:
    """Claim -> its newest status, of those that were ever judged."""
    nodes = WebserverClient(url).query(CHECKS)["assetNodes"]
    return {
        check["name"]: execution["status"]
        for node in nodes
        for check in node["assetChecksOrError"].get("checks", [])
        if (execution := check["executionForLatestMaterialization"])
    }


def settled(url: str) -> dict[str, str]:
    """Every claim with its status, once all were judged and none is being judged; else nothing."""
    found = claims(url)
    return found if len(found) >= 12 and "IN_PROGRESS" not in found.values() else {}


def test_up_is_followed_by_a_proven_backup_in_every_region(watched_fleet: RunningFleet) -> None:
    """Snapshot, replica, V1 and objectives come by themselves; keys are announced once."""
    fleet = watched_fleet
    assert "recovery key of the backups made" in fleet.log()
    recovery = fleet.folder / "state" / "keys" / "recovery.key"
    assert recovery.stat().st_mode & 0o077 == 0

    proven = eventually(
        fleet, "no copy is proven", lambda: rows(fleet, "backup_verifications", wanted=4)
    )
    assert {(row["region"], row["network_id"], row["level"], row["passed"]) for row in proven} == {
        (region, network, "V1", True)
        for region in ("eu-central-1", "us-west-2")
        for network in ("host-watch", "platform")
    }
    copies = {row["region"]: row["snapshot_id"] for row in rows(fleet, "backup_replicas", 4)}
    assert set(copies) == {"eu-central-1", "us-west-2"}
    vaults = fleet.folder / "state" / "vaults"
    packs = [
        {path.name for path in (vaults / region / "packs").rglob("*.pack")} for region in copies
    ]
    assert packs[0] == packs[1] != set()

    judged = eventually(fleet, "objectives were not judged", lambda: settled(fleet.url))
    assert set(judged.values()) == {"SUCCEEDED"}, judged
    reach = eventually(fleet, "no journal", lambda: rows(fleet, "state_journal", wanted=2))
    assert {row["network_id"] for row in reach} == {"host-watch"}
