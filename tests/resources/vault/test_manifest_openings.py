"""The hourly V1 opens what is new and misses nothing that a whole look finds in a listing."""

from __future__ import annotations

import random
from datetime import datetime

import pytest

from fleet.backup_evidence import VerificationEvidence
from fleet.manifest_openings import OPENED_KEY
from fleet.vault_keyspace import VAULT_KEY, parse_place
from fleet.vault_log import SnapshotRecord
from resources.vault.network import NetworkVault
from resources.vault.retention.removal import collect_garbage, forget, sweep
from resources.vault.retention.repack import repack
from resources.vault.snapshots.backup import back_up
from resources.vault.verification.evidence import record_evidence
from resources.vault.verification.rolling import roll
from resources.vault.verification.verify import verify_structure
from tests.fakes.object_store import InMemoryObjectStore
from tests.fakes.vault_fleet import VaultFleet
from tests.resources.vault.test_promote import Regions
from tests.resources.vault.test_repack import EAGER, NOW
from tests.resources.vault.test_rolling import Watched


class Spread(Regions):
    """One region and thirty agents, of which two others change before each snapshot."""

    def __init__(self) -> None:
        """Nothing is backed up yet."""
        self.fleet = VaultFleet(30)
        self.stores = {"ams": InMemoryObjectStore()}
        self.stores["ams"].create(VAULT_KEY, b'{"format":1,"vault_id":"v"}')
        self.bodies: dict[str, dict[str, bytes]] = {}
        self.changed = 0

    def back_up(self, region: str, vault: NetworkVault | None = None) -> str:
        """Change the next two agents and back up."""
        self.changed += 2
        return self.back_up_changed(region, self.changed, vault)

    def back_up_changed(self, region: str, number: int, vault: NetworkVault | None = None) -> str:
        """Change two agents and back up; no pack drops out as long as others were changed last."""
        self.fleet.clock.advance(60)
        self.fleet.change(*self.fleet.agent_ids[number % 30 : number % 30 + 2])
        result = back_up(vault or self.vault(region), self.fleet.store, workers=1)
        self.bodies[result.snapshot_id] = self.fleet.bodies()
        return result.snapshot_id


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Spread:
    """A region with a chain of one full manifest and seven deltas."""
    monkeypatch.setattr("resources.vault.snapshots.backup.FULL_BELOW_ROWS", 1)
    monkeypatch.setattr("resources.vault.snapshots.backup._delta_pays", lambda *_: True)
    world = Spread()
    for _ in range(8):
        world.back_up("ams")
    return world


def look(
    world: Spread, *, days: float = 1 / 24, level: str = "V1"
) -> tuple[VerificationEvidence, list[str]]:
    """A bounded look, recorded, and the manifests that it has read; then time passes."""
    store = Watched(world.stores["ams"])
    vault = world.vault("ams", store)
    found = roll(vault, level, vault.clock.now(), "v")
    record_evidence(vault, "ams", found)
    world.fleet.clock.advance(days * 24 * 3600)
    return found, [one for one in store.asked if one.startswith("manifests/")]


def manifests_of(store: InMemoryObjectStore) -> list[str]:
    """Keys of all manifests."""
    return sorted(one for one in store.objects if one.startswith("manifests/"))


def test_a_look_opens_only_what_is_new_since_the_one_before(world: Spread) -> None:
    """All at first, each once; then none; then the delta of a new snapshot alone."""
    store = world.stores["ams"]
    found, read = look(world)
    assert found.ok
    assert sorted(read) == manifests_of(store)
    assert len(read) == 8
    found, read = look(world)
    assert (found.ok, read) == (True, [])
    assert OPENED_KEY not in found.detail
    before = set(manifests_of(store))
    newest = world.back_up("ams")
    found, read = look(world)
    assert found.ok
    assert set(read) == set(manifests_of(store)) - before
    assert len(read) == 1
    assert list(found.detail[OPENED_KEY]) == [newest]
    assert look(world)[1] == []


def test_where_a_pack_is_not_needed_any_more_the_whole_chain_says_so(world: Spread) -> None:
    """The delta alone does not show that no row of its base still lies in that pack."""
    look(world)
    world.back_up_changed("ams", world.changed)
    found, read = look(world)
    assert found.ok
    assert sorted(read) == manifests_of(world.stores["ams"])
    assert look(world)[1] == []


def test_a_week_of_looks_opens_every_manifest_again(world: Spread) -> None:
    """A chain has one day, and is read once on it."""
    look(world, days=1)
    week = [look(world, days=1)[1] for _ in range(7)]
    assert sorted(one for read in week for one in read) == manifests_of(world.stores["ams"])
    assert sum(bool(read) for read in week) == 1


def test_a_new_snapshot_is_no_younger_than_the_manifest_it_goes_on_from(world: Spread) -> None:
    """What was opened says when; a delta alone does not make its base fresh."""
    began_at = world.fleet.clock.now()
    look(world, days=0.1)
    newest = world.back_up("ams")
    found, _ = look(world)
    assert found.detail[OPENED_KEY][newest][1] == began_at.isoformat()


def test_damage_that_a_listing_shows_is_found_whatever_was_opened_before(world: Spread) -> None:
    """The same snapshots fail as in a whole look; the evidence does not vouch for them again."""
    look(world)
    store = world.stores["ams"]
    chance = random.Random(7)
    keys = [one for one in store.objects if one.startswith(("packs/", "manifests/"))]
    for key in chance.sample(keys, 8):
        original = store.objects[key]
        store.delete([key])
        if chance.random() < 0.5:
            store.create(key, original[:-1])
        whole = verify_structure(world.vault("ams"))
        found, _ = look(world)
        assert not found.ok
        bad = {one for finding in whole.findings for one in finding.snapshots}
        assert set(found.detail["failed_snapshots"]) == bad
        assert not bad & found.detail.get(OPENED_KEY, {}).keys()
        store.delete([key])
        store.create(key, original)
        again, read = look(world)
        assert again.ok
        assert again.detail[OPENED_KEY].keys() >= bad
        assert read


def test_a_manifest_that_the_scrub_found_damaged_is_opened_by_the_next_look(world: Spread) -> None:
    """Of the same size: no listing tells it, the evidence of the other level does."""
    look(world)
    store = world.stores["ams"]
    key = manifests_of(store)[3]
    data = bytearray(store.objects[key])
    data[len(data) // 2] ^= 1
    store.replace(key, bytes(data))
    assert look(world)[0].ok, "the bytes are the scrub's business"
    week = [look(world, days=1, level="V2")[0] for _ in range(7)]
    assert not all(one.ok for one in week)
    found, read = look(world)
    assert not found.ok
    assert key in read


def test_what_a_repack_has_moved_is_opened_again_and_whole(world: Spread) -> None:
    """The packs that are read are others than those listed then."""
    look(world)
    vault = world.vault("ams")
    live = list(vault.log.refresh().live)
    forget(vault, live[1:6])
    collect_garbage(vault, NOW)
    sweep(vault, NOW)
    assert look(world)[0].ok
    assert repack(world.vault("ams"), EAGER).packs_new
    found, read = look(world)
    assert found.ok, found.failures
    assert read
    assert found.detail[OPENED_KEY]
    assert look(world)[1] == []
    world.back_up("ams")
    assert look(world)[0].ok


def test_a_pack_that_a_delta_needs_and_no_record_names_is_found(
    world: Spread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that left a pack out of its record: the delta alone does not tell all."""
    look(world)
    store = world.stores["ams"]

    def without_own(snapshot_id: str, at: datetime, packs: frozenset[str]) -> SnapshotRecord:
        own = (one for one in store.objects if one.startswith(f"packs/net/{snapshot_id}/"))
        return SnapshotRecord(snapshot_id, at, packs - {parse_place(one, 0).sha256 for one in own})

    monkeypatch.setattr("resources.vault.snapshots.attempt.SnapshotRecord", without_own)
    newest = world.back_up("ams")
    found, _ = look(world)
    assert found.detail["failed_snapshots"] == [newest]
    assert "which its record lacks" in found.failures[0]


def test_without_evidence_that_can_be_read_everything_is_opened(world: Spread) -> None:
    """And the reason is named."""
    look(world)
    store = world.stores["ams"]
    for key in [one for one in store.objects if one.startswith(("local/", "checkpoints/local/"))]:
        store.replace(key, b"rotten")
    vault = world.vault("ams", Watched(store))
    found = roll(vault, "V1", vault.clock.now(), "v")
    assert len(found.detail[OPENED_KEY]) == 8
    assert "evidence cannot be read" in found.detail["part"]
