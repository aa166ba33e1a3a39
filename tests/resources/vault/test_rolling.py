"""The bounded looks of schedules cost what is new; in a week they find what whole ones do."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fleet.backup_evidence import VerificationEvidence
from fleet.verification_status import fold_verifications
from resources.vault.log.checkpoint_checks import check_checkpoints
from resources.vault.verification.evidence import read_evidence, record_evidence
from resources.vault.verification.rolling import roll
from resources.vault.verification.verify import verify_structure
from tests.fakes.crashing_store import CrashingStore
from tests.fakes.object_store import InMemoryObjectStore
from tests.resources.vault.test_promote import Regions

LOGS = ("log/", "local/")


class Watched(CrashingStore):
    """Notes what is read."""

    def __init__(self, inner: InMemoryObjectStore) -> None:
        """Nothing is read yet."""
        super().__init__(inner)
        self.asked: list[str] = []

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Noted."""
        self.asked.append(key)
        return super().get(key, offset, length)


@pytest.fixture
def world() -> Regions:
    """A region whose logs have nine records and more, most of them in checkpoints."""
    world = Regions(["ams"])
    for _ in range(9):
        world.back_up("ams")
    return world


def look(world: Regions, level: str) -> VerificationEvidence:
    """One bounded look, recorded; a day passes."""
    vault = world.vault("ams")
    found = roll(vault, level, vault.clock.now(), "v")
    record_evidence(vault, "ams", found)
    world.fleet.clock.advance(24 * 3600)
    return found


def records_of(store: InMemoryObjectStore) -> list[str]:
    """Keys of all records, oldest first."""
    return sorted(one for one in store.objects if one.startswith("log/"))


def test_the_hourly_look_reads_records_out_of_checkpoints(world: Regions) -> None:
    """Of a log of any length it reads those behind the newest checkpoint alone."""
    store = Watched(world.stores["ams"])
    vault = world.vault("ams", store)
    assert verify_structure(vault, whole=False).ok
    bounded = [one for one in store.asked if one.startswith(LOGS)]
    store.asked.clear()
    assert verify_structure(vault).ok
    whole = [one for one in store.asked if one.startswith(LOGS)]
    assert len(bounded) <= 4 < len(whole)
    assert set(whole) >= set(records_of(world.stores["ams"]))


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_the_hourly_look_misses_no_record_that_is_gone_or_cut(world: Regions, damage: str) -> None:
    """The listing tells it, although no record is read."""
    store = world.stores["ams"]
    key = records_of(store)[1]
    if damage == "missing":
        store.delete([key])
    else:
        store.replace(key, store.objects[key][:-1])
    found = look(world, "V1")
    assert not found.ok
    assert key in found.failures[0]


def test_a_doubtful_checkpoint_makes_the_hourly_look_a_whole_one(world: Regions) -> None:
    """It is named, as the whole look names it."""
    store = world.stores["ams"]
    newest = max(one for one in store.objects if one.startswith("checkpoints/log/"))
    store.replace(newest, b"rotten")
    found = look(world, "V1")
    assert [one.partition(":")[0] for one in found.failures] == [
        one.key for one in check_checkpoints(world.vault("ams").log)
    ]
    assert found.failures


@pytest.mark.parametrize("kind", ["log/", "local/", "checkpoints/", "packs/", "manifests/"])
def test_a_changed_byte_anywhere_is_found_within_a_week(world: Regions, kind: str) -> None:
    """Of the same size, so that no listing tells it; the next day it is looked at again."""
    world.vault("ams")
    for _ in range(3):
        look(world, "V1")
    store = world.stores["ams"]
    key = min(one for one in store.objects if one.startswith(kind))
    data = bytearray(store.objects[key])
    data[len(data) // 2] ^= 1
    store.replace(key, bytes(data))
    week = [look(world, "V2") for _ in range(7)]
    (first, *after) = [one for one in week if not one.ok] or [None]
    assert first is not None
    assert key in "".join(first.failures)
    assert len(after) == len(week) - week.index(first) - 1, "damage is read again every day"


def test_coverage_grows_from_day_to_day_and_dates_the_proof(world: Regions) -> None:
    """Evidence says which part was read; a snapshot passes V2 with the last part, not before."""
    began_at = world.fleet.clock.now()
    week = [look(world, "V2") for _ in range(7)]
    vault = world.vault("ams")
    assert [len(one.detail["parts"]) for one in week] == [1] * 7
    assert [bool(one.detail["proven_since"]) for one in week] == [False] * 6 + [True]
    assert week[6].detail["proven_since"] == began_at.isoformat()
    known = read_evidence(vault, "ams")
    newest = list(vault.log.refresh().live)[-1]
    assert fold_verifications(known)[newest].passed["V2"] == began_at
    assert "V2" not in fold_verifications(known[:-1])[newest].passed


def test_damage_condemns_the_snapshots_that_read_the_object_and_no_others(world: Regions) -> None:
    """V2 sees objects; the log says whose they are."""
    vault, store = world.vault("ams"), world.stores["ams"]
    live = vault.log.refresh().live
    newest, packs = list(live)[-1], live
    own = sorted(
        one
        for one in packs[newest].packs
        if not any(one in packs[other].packs for other in packs if other != newest)
    )
    key = next(one for one in store.objects if own and own[0] in one)
    store.replace(key, b"x" * len(store.objects[key]))
    world.fleet.clock.advance(1)
    week = [look(world, "V2") for _ in range(7)]
    bad = next(one for one in week if not one.ok)
    assert bad.detail["failed_snapshots"] == [newest]
    status = fold_verifications(read_evidence(world.vault("ams"), "ams"))
    assert {one for one, found in status.items() if "V2" in found.failed} == {newest}


def test_content_is_opened_whole_first_and_a_sample_then(world: Regions) -> None:
    """Of the newest snapshot and a random older one; a sample says that it is one."""
    whole, sample = look(world, "V3"), look(world, "V3")
    assert len(whole.detail["snapshots"]) == 2
    assert "sample_share" not in whole.detail
    assert sample.detail["sample_share"] == pytest.approx(0.01)
    assert 1 <= sample.items < whole.items
    for _ in range(5):
        assert "sample_share" in look(world, "V3").detail
    assert "sample_share" not in look(world, "V3").detail


def test_without_evidence_to_trust_everything_is_read(world: Regions) -> None:
    """A damaged evidence log is no reason to look at less."""
    vault, store = world.vault("ams"), world.stores["ams"]
    look(world, "V1")
    for key in [one for one in store.objects if one.startswith(("local/", "checkpoints/local/"))]:
        store.replace(key, b"rotten")
    found = roll(vault, "V2", vault.clock.now() + timedelta(days=1), "v")
    assert found.detail["parts"] == list(range(7))
    assert "evidence cannot be read" in found.detail["part"]
    assert not found.ok, "the damaged log itself is a finding"
