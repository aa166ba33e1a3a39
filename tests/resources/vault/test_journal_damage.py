"""A damaged, missing, exchanged or foreign segment is detected, named, and never returned."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fleet.errors import CorruptObjectError, NotFoundError, StateroomError
from fleet.pack_keys import PackKeys
from fleet.vault_keyspace import SegmentPlace
from resources.vault.journal.journal import append_segment
from resources.vault.journal.journal_upkeep import copy_segments, verify_journal
from resources.vault.network import NetworkVault
from resources.vault.snapshots.backup import back_up
from tests.fakes.journaled_fleet import JournaledFleet
from tests.fakes.object_store import InMemoryObjectStore
from tests.fakes.vault_fleet import VaultFleet
from tests.resources.vault.test_journal import segments, step
from tests.resources.vault.test_verify_vault import DAMAGES

Attack = Callable[[InMemoryObjectStore, list[str]], str]


@pytest.fixture
def fleet() -> JournaledFleet:
    """A snapshot and six segments, one agent changed in each of five."""
    fleet = JournaledFleet(4)
    fleet.snapshot()
    step(fleet)
    for number in range(5):
        step(fleet, fleet.agent_ids[number % 4])
    return fleet


def swap(store: InMemoryObjectStore, keys: list[str]) -> str:
    """Two segments change places."""
    third, fourth = store.get(keys[2]), store.get(keys[3])
    store.replace(keys[2], fourth)
    store.replace(keys[3], third)
    return keys[2]


def repeat(store: InMemoryObjectStore, keys: list[str]) -> str:
    """An old segment is put in the place of a newer one."""
    store.replace(keys[3], store.get(keys[1]))
    return keys[3]


def remove(store: InMemoryObjectStore, keys: list[str]) -> str:
    """One in the middle is gone."""
    store.delete([keys[3]])
    return keys[4]


def remove_first(store: InMemoryObjectStore, keys: list[str]) -> str:
    """All up to one in the middle but the first are gone."""
    store.delete(keys[1:3])
    return keys[3]


def cross_over(store: InMemoryObjectStore, keys: list[str]) -> str:
    """A segment of another network under the same number."""
    other = VaultFleet(4, "other")
    foreign = PackKeys(b"d" * 32, "net.0001", "other")
    vault = NetworkVault(InMemoryObjectStore(other.clock.now), foreign, other.clock)
    back_up(vault, other.store)
    key = append_segment(vault, other.store).segments[0]
    store.replace(keys[0], vault.store.get(key))
    return keys[0]


def fork(store: InMemoryObjectStore, keys: list[str]) -> str:
    """An authentic segment of the right place from another history of the same network."""
    other = JournaledFleet(4)
    other.snapshot()
    for _ in range(4):
        step(other, "agent-0000")
    store.replace(keys[2], other.objects.get(keys[2]))
    return keys[2]


ATTACKS: dict[str, Attack] = {
    "swapped": swap,
    "replayed": repeat,
    "deleted": remove,
    "first deleted": remove_first,
    "foreign": cross_over,
    "forked": fork,
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_exchanged_segment_is_named(fleet: JournaledFleet, name: str) -> None:
    """By a check, by a copy, and by a restore that needs it; nothing of it is returned."""
    keys = segments(fleet.objects)
    damaged = fleet.objects.copy()
    subject = ATTACKS[name](damaged, keys)
    named = [one.subject for one in verify_journal(fleet.opened(damaged)).findings]
    assert subject in named or keys[3] in named
    with pytest.raises(CorruptObjectError, match="segment"):
        fleet.restored_at(fleet.covered[-1], damaged)
    if name != "foreign":  # under its own number it is only foreign to those who have the key
        with pytest.raises(CorruptObjectError, match="segment"):
            copy_segments(fleet.opened(damaged), fleet.opened(InMemoryObjectStore(fleet.clock.now)))
    result = fleet.check(fleet.covered[-1], damaged, best_effort=True)
    assert not result.certain
    assert any("segment" in one for one in result.notes)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_to_a_segment_is_found_and_never_restored(
    fleet: JournaledFleet, damage: str
) -> None:
    """Every moment gives the right bytes or an error; with best effort, the rest and a report."""
    keys = segments(fleet.objects)
    points = sorted({one.updated_at for one in fleet.history})
    good = {at: fleet.restored_at(at)[0] for at in points}
    for key in keys:
        damaged = fleet.objects.copy()
        data = DAMAGES[damage](damaged.get(key))
        if data is None:
            damaged.delete([key])
        else:
            damaged.replace(key, data)
        last = key == keys[-1] and data is None
        found = verify_journal(fleet.opened(damaged)).findings
        assert found or last or key == keys[0]
        for at in points:
            try:
                items, result = fleet.restored_at(at, damaged)
            except (CorruptObjectError, NotFoundError):
                pass
            else:
                assert result.certain
                reported = {one.agent_id for one in result.substitutions}
                right = {k: v for k, v in items.items() if k not in reported}
                assert right.items() <= good[at].items()
            try:
                items, result = fleet.restored_at(at, damaged, best_effort=True)
            except NotFoundError:
                assert last or at > max(fleet.taken)
                continue
            bodies = {(one.agent_id, one.version): one.body for one in fleet.history}
            for agent_id, item in items.items():
                assert item.body == bodies[agent_id, item.version]
                assert item.updated_at <= at


def test_a_damaged_frame_is_replaced_by_the_newest_older_version_on_request(
    fleet: JournaledFleet,
) -> None:
    """Refused with a list by default, and nothing is written; else substituted and reported."""
    step(fleet, "agent-0001", "agent-0002")
    before = {one.agent_id: one.version for one in fleet.expected_at(None).values()}
    key = segments(fleet.objects)[-1]
    (listed,) = [one for one in fleet.opened().journal.refresh() if one.key == key]
    segment = fleet.opened().journal.read(listed)
    data = bytearray(fleet.objects.get(key))
    data[segment.frames[0].offset + 3] ^= 1
    fleet.objects.replace(key, bytes(data))
    fleet.reader = None
    with pytest.raises(CorruptObjectError, match="1 agents cannot be restored: agent-0001"):
        fleet.restored_at(None)
    items, result = fleet.restored_at(None, best_effort=True)
    assert {one: item.version for one, item in items.items()} == before | {"agent-0001": 2}
    (substitution,) = result.substitutions
    assert substitution[:3] == ("agent-0001", 3, 2)
    assert "damaged in the vault" in substitution.reason


def test_a_lost_pack_is_replaced_by_an_older_snapshot_on_request(fleet: JournaledFleet) -> None:
    """The agents of that pack come from before; the others are not touched by it."""
    fleet.change("agent-0003")
    newest = fleet.snapshot()
    (pack,) = [
        one.key for one in fleet.objects.list_objects("packs/") if newest.snapshot_id in one.key
    ]
    fleet.objects.delete([pack])
    fleet.clock.advance(1)
    with pytest.raises(CorruptObjectError, match="is missing"):
        fleet.restored_at(None)
    items, result = fleet.restored_at(None, best_effort=True)
    lost = {one.agent_id for one in result.substitutions}
    assert "agent-0003" in lost
    assert items.keys() == set(fleet.agent_ids)
    assert {items[one].version for one in items.keys() - lost} <= {2, 3}


def test_a_damaged_manifest_costs_its_snapshot_and_no_more(fleet: JournaledFleet) -> None:
    """On request the snapshot before it and the journal give the same."""
    wanted = {one: item.body for one, item in fleet.restored_at(None)[0].items()}
    newest = fleet.snapshot()
    (manifest,) = [
        one.key for one in fleet.objects.list_objects("manifests/") if newest.snapshot_id in one.key
    ]
    fleet.objects.replace(manifest, b"rotten")
    fleet.reader = None
    with pytest.raises(CorruptObjectError):
        fleet.restored_at(None)
    items, result = fleet.restored_at(None, best_effort=True)
    assert {one: item.body for one, item in items.items()} == wanted
    assert any("manifest" in one for one in result.notes)


def test_a_segment_of_another_key_or_of_none_is_refused(fleet: JournaledFleet) -> None:
    """Nothing in the journal's folder is passed over."""
    wrong = NetworkVault(fleet.objects, PackKeys(b"x" * 32, "net.0001", "net"), fleet.clock)
    with pytest.raises(CorruptObjectError, match="does not open"):
        wrong.journal.head()
    renamed = NetworkVault(fleet.objects, PackKeys(b"d" * 32, "net.0009", "net"), fleet.clock)
    with pytest.raises(StateroomError, match="data key"):
        renamed.journal.head()
    fleet.objects.create("journal/net/0000/notes.txt", b"x")
    with pytest.raises(CorruptObjectError, match="nothing that a vault writes"):
        fleet.opened().journal.refresh()


def test_every_place_has_its_own_key() -> None:
    """Keys sort as places do."""
    places = [SegmentPlace(0, 1), SegmentPlace(0, 20), SegmentPlace(1, 2)]
    assert sorted(places) == places
