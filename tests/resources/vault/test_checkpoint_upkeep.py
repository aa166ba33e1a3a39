"""Whoever copies, heals, mends or removes leaves checkpoints that say what the records say."""

from __future__ import annotations

import contextlib
import dataclasses
from datetime import timedelta

import pytest

from fleet.errors import CorruptObjectError, StoreUnavailableError
from fleet.pack_keys import PackKeys
from fleet.ports.object_store import ObjectStore
from fleet.vault_checkpoint import CheckpointPlace
from resources.vault.log.checkpoint_checks import check_checkpoints
from resources.vault.log.log_store import VaultLog
from resources.vault.network import NetworkVault
from resources.vault.replicas.heal import heal
from resources.vault.replicas.replicate import replicate
from resources.vault.retention.removal import collect_garbage, forget, sweep
from resources.vault.verification.evidence import mend_evidence, record_evidence
from resources.vault.verification.verify import verify_structure
from tests.fakes.crashing_store import CRASHES, Crashed, CrashingStore, count_operations
from tests.fakes.object_store import InMemoryObjectStore
from tests.fakes.vault_fleet import KEYS, VaultFleet
from tests.resources.vault.test_evidence import passed
from tests.resources.vault.test_promote import Regions

FOLDER = "checkpoints/log/net/"


def names(store: InMemoryObjectStore) -> list[str]:
    """What lies in the folder of checkpoints."""
    return [one.key.removeprefix(FOLDER) for one in store.list_objects(FOLDER)]


class OrderKeepingStore(CrashingStore):
    """Refuses a checkpoint of which a record is not there yet."""

    def create(self, key: str, data: bytes) -> bool:
        """Looked at before it is done."""
        if key.startswith(FOLDER):
            first, last = map(int, key.rpartition("/")[2].removesuffix(".ckpt").split("-"))
            there = {one.key[-15:-5] for one in self.inner.list_objects("log/net/")}
            assert {f"{seq:010d}" for seq in range(first, last + 1)} <= there
        return super().create(key, data)


@pytest.mark.parametrize("mode", CRASHES)
def test_a_replica_has_no_checkpoint_before_its_records_and_the_same_bytes(mode: str) -> None:
    """Killed at any of its operations; in the end both regions hold equal objects."""
    world = Regions(["ams", "fra"])
    for _ in range(4):
        world.back_up("ams")
    kept = world.stores["fra"].copy()

    def copy(target: ObjectStore) -> None:
        replicate(world.vault("ams"), world.vault("fra", target))

    total = count_operations(kept.copy(), copy)
    for number in range(1, total + 1):
        store = kept.copy()
        with contextlib.suppress(Crashed, StoreUnavailableError):
            copy(CrashingStore(OrderKeepingStore(store), number, mode))
        assert_fits(world, store)
        copy(OrderKeepingStore(store))
        assert_fits(world, store)
        wanted = names_of_wanted(store)
        assert wanted
        for one in wanted:
            assert store.objects[FOLDER + one] == world.stores["ams"].objects[FOLDER + one]


def assert_fits(world: Regions, store: InMemoryObjectStore) -> None:
    """The replica's checkpoints say what its records say."""
    log = world.vault("fra", store).log
    assert check_checkpoints(log) == []


def names_of_wanted(store: InMemoryObjectStore) -> list[str]:
    """The checkpoints that a reader of this log begins with."""
    log = VaultLog(store, "net", 0, KEYS.data_key)
    log.read_whole()
    places = log.checkpoints.missing(log.records, ())
    return [log.checkpoints.key_of(one).removeprefix(FOLDER) for one in places]


def test_gc_sweep_rotation_and_shredding_leave_checkpoints_as_they_leave_the_log() -> None:
    """None is deleted; a later data key opens what the first sealed; without keys none opens."""
    world = Regions(["ams"])
    vault = world.vault("ams")
    store = world.stores["ams"]
    for _ in range(3):
        world.back_up("ams")
    live = list(vault.log.refresh().live)
    forget(vault, live[:2])
    collect_garbage(vault, timedelta(0))
    before = names(store)
    assert sweep(vault, timedelta(0)).objects > 0
    assert names(store) == before
    later = PackKeys(b"n" * 32, "net.0002", "net")
    rotated = dataclasses.replace(KEYS, later=(later,))
    reader = NetworkVault(store, rotated, world.fleet.clock)
    assert (reader.log.refresh(), reader.log.doubts) == (vault.log.refresh(), ())
    sealed = b"".join(data for key, data in store.objects.items() if key.startswith(FOLDER))
    assert not [one for one in live if one.encode() in sealed]
    with pytest.raises(CorruptObjectError, match="does not open"):
        VaultLog(store, "net", 0, b"x" * 32).checkpoints.read(CheckpointPlace(0, 1, 2))


def holds(key: str, seq: int) -> bool:
    """Whether a checkpoint is about a record."""
    first, last = map(int, key.rpartition("/")[2].removesuffix(".ckpt").split("-"))
    return first <= seq <= last


def evidence(store: ObjectStore, count: int) -> None:
    """So many verifications of region `eu`."""
    fleet = VaultFleet(1)
    for number in range(count):
        record_evidence(fleet.vault(store), "eu", passed(number=number))


@pytest.mark.parametrize("mode", CRASHES)
def test_mending_evidence_takes_the_checkpoints_of_what_it_sets_aside(mode: str) -> None:
    """First, so that none outlives its records; killed anywhere, the next run goes on."""
    base = InMemoryObjectStore()
    evidence(base, 8)
    base.replace("local/eu/net/0000000006.json", b"rotten")
    for key in list(base.objects):  # nothing else holds the record
        if key.startswith("checkpoints/") and holds(key, 6):
            base.replace(key, b"rotten")
    fleet = VaultFleet(1)

    def mend(store: ObjectStore) -> None:
        mend_evidence(fleet.vault(store), "eu")

    total = count_operations(base.copy(), mend)
    for number in range(1, total + 1):
        store = base.copy()
        with contextlib.suppress(Crashed, StoreUnavailableError):
            mend(CrashingStore(store, number, mode))
        mend(store)
        evidence(store, 3)
        log = fleet.vault(store).local_log("eu")
        assert log.refresh() == fleet.vault(store).local_log("eu").read_whole()
        assert len(log.records) in {8, 9, 10}
        assert log.doubts == ()
        assert check_checkpoints(fleet.vault(store).local_log("eu")) == []


@pytest.mark.parametrize("damage", ["rotten", "missing", "all"])
@pytest.mark.parametrize("mode", CRASHES)
def test_evidence_that_a_checkpoint_holds_comes_back_bit_by_bit(mode: str, damage: str) -> None:
    """Nothing of it is set aside; killed anywhere, the next run goes on; a note says so."""
    base = InMemoryObjectStore()
    evidence(base, 8)
    good = {key: data for key, data in base.objects.items() if key.startswith("local/")}
    for key in sorted(good)[:-1] if damage == "all" else [sorted(good)[5]]:
        if damage == "missing":
            base.delete([key])
        else:
            base.replace(key, b"rotten")
    fleet = VaultFleet(1)

    def mend(store: ObjectStore) -> None:
        mend_evidence(fleet.vault(store), "eu")

    total = count_operations(base.copy(), mend)
    assert mend_evidence(fleet.vault(base.copy()), "eu") == (7 if damage == "all" else 1, 0)
    # Of many records every third crash is enough: each is put back in the same few steps.
    for number in range(1, total + 1, 3 if damage == "all" else 1):
        store = base.copy()
        with contextlib.suppress(Crashed, StoreUnavailableError):
            mend(CrashingStore(store, number, mode))
        mend(store)
        assert {key: store.objects[key] for key in good} == good
        log = fleet.vault(store).local_log("eu")
        records = log.read_whole()
        assert len(records) in {8, 9, 10}
        assert check_checkpoints(log) == []
        if damage != "missing":
            assert b"rotten" in [
                data for key, data in store.objects.items() if key.startswith("quarantine/")
            ]


def test_v1_reads_every_record_and_every_checkpoint_once() -> None:
    """Of both logs: what one look costs is said, and not paid twice."""
    world = Regions(["ams"])
    for _ in range(4):
        world.back_up("ams")
    for number in range(5):
        record_evidence(world.vault("ams"), "ams", passed(number=number)._replace(region="ams"))
    asked: list[str] = []

    class Watched(CrashingStore):
        """Notes what is read."""

        def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
            """Noted."""
            asked.append(key)
            return super().get(key, offset, length)

    store = world.stores["ams"]
    assert verify_structure(world.vault("ams", Watched(store))).ok
    logs = [key for key in store.objects if key.startswith(("log/", "local/", "checkpoints/"))]
    assert sorted(one for one in asked if one in set(logs)) == sorted(logs)


def test_v1_finds_and_heal_writes_again_what_is_wrong_with_either_log() -> None:
    """A damaged one, one of a stranger, and a gap; each is evidence, the bad bytes are kept."""
    world = Regions(["ams", "fra"])
    for _ in range(4):
        world.back_up("ams")
    vault, store = world.vault("ams"), world.stores["ams"]
    for number in range(6):
        record_evidence(vault, "ams", passed(number=number)._replace(region="ams"))
    wanted = FOLDER + names_of_wanted(store)[0]
    local = "checkpoints/local/ams/net/0000000001-0000000004.ckpt"
    good = {key: store.objects[key] for key in (wanted, local)}
    for key in good:
        store.replace(key, b"rotten")
    found = {one.subject for one in verify_structure(vault).findings}
    assert found == set(good)
    result = heal(world.vault("ams"), {}, home="ams")
    assert result.ok
    assert {one.key for one in result.healed} == set(good)
    assert {store.objects[one.quarantine] for one in result.healed} == {b"rotten"}
    # The evidence of the heal has made a longer one of the local log's.
    assert store.objects[wanted] == good[wanted]
    own = world.vault("ams").local_log()
    own.refresh()
    assert own.checkpoints.missing(own.records, own.checkpoints.list_all().places) == []
    assert own.doubts == ()
    assert verify_structure(vault).ok
    assert heal(world.vault("ams"), {}, home="ams").healed == ()
    store.delete([FOLDER + one for one in names(store)[:-1]])
    assert [one.subject for one in verify_structure(vault).findings] == [FOLDER]
    (gap,) = heal(world.vault("ams"), {}, home="ams").healed
    assert (gap.key, "written again" in gap.cause) == (FOLDER, True)
    assert verify_structure(vault).ok


@pytest.mark.parametrize("mode", CRASHES)
def test_a_heal_of_a_checkpoint_killed_anywhere_is_finished_by_the_next(mode: str) -> None:
    """Missing for a while at worst; readers read the records meanwhile."""
    world = Regions(["ams"])
    for _ in range(3):
        world.back_up("ams")
    base = world.stores["ams"]
    key = FOLDER + names_of_wanted(base)[0]
    good = base.objects[key]
    base.replace(key, b"rotten")

    def mend(store: ObjectStore) -> None:
        heal(world.vault("ams", store), {}, home="ams")

    total = count_operations(base.copy(), mend)
    for number in range(1, total + 1):
        store = base.copy()
        with contextlib.suppress(Crashed, StoreUnavailableError):
            mend(CrashingStore(store, number, mode))
        log = world.vault("ams", store).log
        assert log.refresh() == world.vault("ams", base).log.read_whole()
        mend(store)
        assert store.objects.get(key, good) == good
        assert verify_structure(world.vault("ams", store)).ok
        assert world.vault("ams", store).log.refresh().live
        world.vault("ams", store).log.rewrite_checkpoints()
