"""A replica deletes late, by its own clock, and nothing that anybody here still needs."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

import pytest

from fleet.backup_evidence import SweepEvidence
from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    PermanentError,
    StoreUnavailableError,
)
from resources.vault.replicas.promote import branch_of, promote
from resources.vault.replicas.replicate import replicate
from resources.vault.retention.local_holds import hold_locally, release_locally
from resources.vault.retention.removal import collect_garbage, forget, hold, sweep
from resources.vault.retention.repack import repack
from resources.vault.retention.replica_sweep import (
    REPLICA_DELAY,
    sweep_replica,
)
from resources.vault.verification.evidence import read_local
from resources.vault.verification.verify import verify_structure
from tests.fakes.crashing_store import CRASHES, Crashed, CrashingStore, count_operations
from tests.fakes.object_store import InMemoryObjectStore
from tests.resources.vault.test_promote import Regions
from tests.resources.vault.test_repack import EAGER, NOW


def pruned() -> Regions:
    """A home that forgot, condemned and swept; the replica has copied the records."""
    world = Regions(("ams", "fra"))
    for _ in range(3):
        world.back_up("ams")
    replicate(world.vault("ams"), world.vault("fra"))
    home = world.vault("ams")
    forget(home, list(home.log.refresh().live)[:3])
    collect_garbage(home, NOW)
    sweep(home, NOW)
    replicate(world.vault("ams"), world.vault("fra"))
    return world


def age(store: InMemoryObjectStore, by: timedelta) -> None:
    """Everything in a store arrived this much earlier."""
    store.modified = {key: at - by for key, at in store.modified.items()}


def packs(world: Regions, region: str) -> set[str]:
    """Keys of packs and manifests."""
    kept = ("packs/", "manifests/")
    return {key for key in world.stores[region].objects if key.startswith(kept)}


def test_a_replica_waits_three_days_from_the_arrival_of_the_gc_record() -> None:
    """Whatever time the record itself claims, and however late it was copied."""
    world = pruned()
    world.fleet.clock.advance(timedelta(days=400).total_seconds())
    assert sweep_replica(world.vault("fra")).objects == 0
    age(world.stores["fra"], REPLICA_DELAY - timedelta(minutes=1))
    assert sweep_replica(world.vault("fra")).objects == 0
    age(world.stores["fra"], timedelta(minutes=2))
    before = packs(world, "fra")
    result = sweep_replica(world.vault("fra"))
    assert (result.objects, result.kept) == (len(before - packs(world, "ams")), ())
    assert packs(world, "fra") == packs(world, "ams")
    world.check("fra")
    (evidence,) = read_local(world.vault("fra"), "fra")
    assert isinstance(evidence, SweepEvidence)
    assert (evidence.objects, evidence.bytes_freed) == (result.objects, result.bytes_freed)
    assert sweep_replica(world.vault("fra")).objects == 0


def test_the_stores_own_clock_counts_not_ours() -> None:
    """A store whose clock is a year behind is compared with itself."""
    world = pruned()
    year = timedelta(days=365)
    store = world.stores["fra"]
    store._now = lambda: datetime.now(UTC) - year
    age(store, year)
    assert sweep_replica(world.vault("fra")).objects == 0
    age(store, REPLICA_DELAY)
    assert sweep_replica(world.vault("fra")).objects > 0


def test_what_this_region_holds_is_kept_until_it_is_released() -> None:
    """A drill or restore in the replica is not swept away under its hands."""
    world = pruned()
    age(world.stores["fra"], REPLICA_DELAY)
    vault = world.vault("fra")
    held = next(iter(vault.log.refresh().forgotten))
    with pytest.raises(PermanentError, match="no snapshot nobody"):
        hold_locally(vault, ["nobody"], "drill")
    expiring = hold_locally(vault, [held], "drill", vault.clock.now() + timedelta(hours=1))
    lasting = hold_locally(vault, [held], "audit")
    needed = vault.log.refresh().forgotten[held].packs
    assert sweep_replica(world.vault("fra")).kept
    names = {key.split("/")[-1].partition(".")[0] for key in packs(world, "fra")}
    assert needed <= names
    release_locally(vault, lasting)
    assert sweep_replica(world.vault("fra")).kept
    world.fleet.clock.advance(3601)
    assert expiring
    assert sweep_replica(world.vault("fra")).kept == ()
    assert packs(world, "fra") == packs(world, "ams")


def test_what_is_live_by_the_replicas_own_copy_is_kept_whatever_a_record_says() -> None:
    """A gc record that condemns live packs (a bug, or an attacker with the key) deletes nothing."""
    from fleet.vault_log import GcRecord

    world = Regions(("ams", "fra"))
    home = world.vault("ams")
    everything = frozenset().union(*(one.packs for one in home.log.refresh().live.values()))
    assert home.log.append(GcRecord(everything, frozenset()), home.clock.now())
    replicate(world.vault("ams"), world.vault("fra"))
    age(world.stores["fra"], REPLICA_DELAY)
    result = sweep_replica(world.vault("fra"))
    assert (result.objects, len(result.kept)) == (0, len(everything))
    world.check("fra")


def test_a_branch_is_kept() -> None:
    """What the old home alone had stays whole after it has become a replica."""
    world = Regions(("ams", "fra"))
    world.back_up("ams")
    promote(world.vault("fra"), world.stores)
    world.back_up("fra")
    home = world.vault("fra")
    forget(home, list(home.log.refresh().live)[:2])
    collect_garbage(home, NOW)
    replicate(world.vault("fra"), world.vault("ams"))
    age(world.stores["ams"], REPLICA_DELAY)
    sweep_replica(world.vault("ams"))
    names = {key.split("/")[-1].partition(".")[0] for key in packs(world, "ams")}
    (branch,) = branch_of(world.vault("ams"))
    assert all(one.packs <= names for one in branch.snapshots)
    world.check("ams")


def test_a_held_snapshot_of_the_log_and_a_repacked_one_are_kept() -> None:
    """Maps and holds count here as they do at home."""
    world = Regions(("ams", "fra"))
    for _ in range(3):
        world.back_up("ams")
    home = world.vault("ams")
    hold(home, list(home.log.refresh().live)[:1], "legal")
    repack(home, EAGER)
    collect_garbage(home, NOW)
    sweep(home, NOW)
    replicate(world.vault("ams"), world.vault("fra"))
    age(world.stores["fra"], REPLICA_DELAY)
    sweep_replica(world.vault("fra"))
    world.check("fra")
    assert packs(world, "fra") == packs(world, "ams")


def test_a_damaged_log_of_the_region_stops_the_deletion_and_no_restore() -> None:
    """It might hold something."""
    world = pruned()
    age(world.stores["fra"], REPLICA_DELAY)
    vault = world.vault("fra")
    hold_locally(vault, list(vault.log.refresh().live)[:1], "drill")
    good = world.stores["fra"].objects["local/fra/net/0000000001.json"]
    world.stores["fra"].objects["local/fra/net/0000000001.json"] = b"rotten"
    before = packs(world, "fra")
    with pytest.raises(CorruptObjectError):
        sweep_replica(world.vault("fra"))
    assert packs(world, "fra") == before
    (finding,) = verify_structure(vault).findings
    assert finding.subject == "local/fra/net/"
    world.stores["fra"].objects["local/fra/net/0000000001.json"] = good
    world.check("fra")
    with pytest.raises(InvalidInputError, match="region"):
        sweep_replica(world.fleet.vault(world.stores["fra"]))


@pytest.mark.parametrize("mode", CRASHES)
def test_a_replicas_sweep_killed_at_any_operation_is_finished_by_the_next(mode: str) -> None:
    """Every live snapshot of the replica restores at every moment."""
    world = pruned()
    store = world.stores["fra"]
    age(store, REPLICA_DELAY)
    total = count_operations(store.copy(), lambda one: sweep_replica(world.vault("fra", one)))
    for number in range(1, total + 1):
        world.stores["fra"] = store.copy()
        failing = CrashingStore(world.stores["fra"], number, mode)
        with contextlib.suppress(Crashed, StoreUnavailableError):
            sweep_replica(world.vault("fra", failing))
        assert verify_structure(world.vault("fra")).findings == ()
        sweep_replica(world.vault("fra"))
        assert packs(world, "fra") == packs(world, "ams")
    world.check("fra")
