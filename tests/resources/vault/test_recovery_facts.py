"""What a region can restore is what lies there, undamaged; what it has proven is dated there."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fleet.backup_evidence import VerificationEvidence
from fleet.recovery_objectives import Drill
from fleet.vault_keyspace import VAULT_KEY
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.backup import back_up
from resources.vault.evidence import record_evidence
from resources.vault.recovery_facts import RegionRecovery, gather_recovery
from resources.vault.removal import forget
from resources.vault.replicate import replicate
from tests.fakes.clocked_store import ClockedStore
from tests.fakes.vault_fleet import VaultFleet


class TwoRegions:
    """A vault in `eu` that is written, and its replica in `us`."""

    def __init__(self, root: Path) -> None:
        """Both empty."""
        self.fleet = VaultFleet(3)
        self.stores = {
            region: ClockedStore(DirectoryObjectStore(root / region), self.fleet.clock)
            for region in ("eu", "us")
        }
        self.stores["eu"].create(VAULT_KEY, b'{"format":1,"vault_id":"v"}')

    def back_up(self) -> str:
        """A minute later."""
        self.fleet.clock.advance(60)
        self.fleet.change("agent-0001")
        vault = self.fleet.vault(self.stores["eu"])
        return back_up(vault, self.fleet.store, workers=1).snapshot_id

    def replicate(self) -> None:
        """Two minutes later."""
        self.fleet.clock.advance(120)
        eu, us = (self.fleet.vault(self.stores[one]) for one in ("eu", "us"))
        replicate(eu, us)

    def prove(self, region: str, level: str, name: str, *failures: str, **detail: Any) -> None:
        """Record a verification that took a minute."""
        now = self.fleet.clock.now()
        done = VerificationEvidence(
            "net", region, level, name, now, 60.0, 1, 1, failures, "test", detail
        )
        record_evidence(self.fleet.vault(self.stores[region]), region, done)

    def recovery(self, region: str) -> RegionRecovery:
        """As known now."""
        vault = self.fleet.vault(self.stores[region])
        return gather_recovery(vault, region, self.fleet.clock.now(), home=region == "eu")


@pytest.fixture
def regions(tmp_path: Path) -> TwoRegions:
    """Empty."""
    return TwoRegions(tmp_path)


def test_a_replica_covers_what_has_arrived_and_says_when(regions: TwoRegions) -> None:
    """The second snapshot is not there yet."""
    regions.back_up()
    regions.replicate()
    regions.back_up()
    home, replica = regions.recovery("eu"), regions.recovery("us")
    assert len(home.points) == 2
    (point,) = replica.points
    assert point.covered_at == replica.facts.snapshot_at == home.points[0].covered_at
    assert point.available_at - point.covered_at == timedelta(minutes=2)
    assert home.facts.snapshot_at == home.points[1].covered_at


def test_a_snapshot_that_fails_or_was_forgotten_covers_nothing(regions: TwoRegions) -> None:
    """The older one is what can be restored, and the failure is shown."""
    first, second, third = regions.back_up(), regions.back_up(), regions.back_up()
    regions.prove("eu", "V1", first)
    regions.prove("eu", "V3", second, "pack p is damaged")
    forget(regions.fleet.vault(regions.stores["eu"]), [third])
    facts = regions.recovery("eu").facts
    assert facts.snapshot_at == regions.recovery("eu").points[0].covered_at
    assert len(regions.recovery("eu").points) == 1
    assert facts.failing == {"V3": "pack p is damaged"}
    assert facts.verified_at.keys() == {"V1"}


def test_the_newest_drill_counts_with_its_measured_time(regions: TwoRegions) -> None:
    """Never; passed; without a time; failed."""
    name = regions.back_up()
    assert regions.recovery("eu").facts.drill is None
    regions.prove("eu", "V5", name, rto_all_s=42)
    at = regions.fleet.clock.now() + timedelta(seconds=60)
    assert regions.recovery("eu").facts.drill == Drill(at, 42.0)
    regions.prove("eu", "V5", name)
    drill = regions.recovery("eu").facts.drill
    assert drill is not None
    assert "did not measure" in drill.failure
    regions.prove("eu", "V5", name, "agent a did not start", rto_all_s=1)
    assert regions.recovery("eu").facts.drill == Drill(at, 60.0, "agent a did not start")


def test_an_empty_vault_covers_nothing(regions: TwoRegions) -> None:
    """None, not zero."""
    found = regions.recovery("eu")
    assert (found.facts.snapshot_at, found.facts.drill, found.points) == (None, None, ())
