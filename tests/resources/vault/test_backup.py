"""Backup and restore: the same bytes come back, and what has not changed costs nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.agents import AgentState, StateChange
from fleet.errors import InvalidInputError, NotFoundError, VersionConflictError
from fleet.state_cuts import ChangeCursor, StateListing
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.packs.manifest import FULL_BELOW_ROWS
from resources.vault.restores.restore import ControlStoreTarget, restore
from resources.vault.snapshots.backup import back_up
from tests.examples import examples
from tests.fakes.control_store import InMemoryControlStore
from tests.fakes.crashing_store import CrashingStore
from tests.fakes.vault_fleet import VaultFleet, body_of


class CountingSource:
    """The fleet's control store, counting what a backup reads of it."""

    def __init__(self, store: InMemoryControlStore) -> None:
        """Count from zero."""
        self.store = store
        self.listed: list[str] = []
        self.read: list[str] = []

    def cut_states(
        self, network_id: str, since: ChangeCursor | None, *, whole: bool = False
    ) -> StateListing:
        """Counted by what is listed."""
        listing = self.store.cut_states(network_id, since, whole=whole)
        self.listed += listing.states.agent_ids
        return listing

    def state_changes(self, after: int, limit: int) -> list[StateChange]:
        """As the store."""
        return self.store.state_changes(after, limit)

    def states(self, agent_ids: Sequence[str]) -> list[AgentState]:
        """Counted."""
        self.read += agent_ids
        return self.store.states(agent_ids)


@pytest.fixture
def small_manifests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deltas also for small networks."""
    monkeypatch.setattr("resources.vault.snapshots.backup.FULL_BELOW_ROWS", 4)


def test_each_snapshot_restores_what_was_live_when_it_was_taken(
    tmp_path: Path, small_manifests: None
) -> None:
    """Over changes, removals, agents that come anew, and agents with equal states."""
    store, fleet = DirectoryObjectStore(tmp_path), VaultFleet(40)
    taken = {}
    for day in range(30):
        fleet.clock.advance(3600)
        fleet.change(fleet.agent_ids[day], fleet.agent_ids[day // 2])
        fleet.write(fleet.agent_ids[-1], b"" if day % 2 else b"equal")
        fleet.write(fleet.agent_ids[-2], b"equal")
        if day % 7 == 3:
            fleet.drop(fleet.agent_ids[day + 2])
        result = back_up(fleet.vault(store), fleet.store)
        taken[result.snapshot_id] = (result.taken_at, fleet.bodies())
    for snapshot_id, (_, bodies) in taken.items():
        assert fleet.restored(store, snapshot_id) == bodies


@pytest.mark.parametrize("plan", ["whole", "deltas"])
@settings(max_examples=examples(25))
@given(
    rounds=st.lists(
        st.dictionaries(
            st.sampled_from([f"agent-{number:04d}" for number in range(6)]),
            st.one_of(st.none(), st.binary(max_size=50), st.sampled_from([b"", b"same"])),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_any_history_restores_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, plan: str, rounds: list[dict[str, bytes | None]]
) -> None:
    """Whatever is written, dropped and written again with a lower version."""
    store, fleet = DirectoryObjectStore(tmp_path_factory.mktemp("v")), VaultFleet(6)
    with pytest.MonkeyPatch.context() as patch:
        limit = 0 if plan == "deltas" else FULL_BELOW_ROWS
        patch.setattr("resources.vault.snapshots.backup.FULL_BELOW_ROWS", limit)
        taken = []
        for changes in rounds:
            for agent_id, body in changes.items():
                if body is not None:
                    fleet.write(agent_id, body)
                elif fleet.version(agent_id) and len(fleet.bodies()) > 1:
                    fleet.drop(agent_id)
            result = back_up(fleet.vault(store), fleet.store)
            taken.append((result.snapshot_id, fleet.bodies()))
        for snapshot_id, bodies in taken:
            assert fleet.restored(store, snapshot_id) == bodies


@pytest.mark.usefixtures("shipped_spacing")
def test_unchanged_agents_are_neither_read_nor_stored(
    tmp_path: Path, small_manifests: None
) -> None:
    """No change: one record, nothing else. One change: one pack, one delta, one record."""
    inner, fleet = DirectoryObjectStore(tmp_path), VaultFleet(50)
    back_up(fleet.vault(inner), fleet.store)
    store, source = CrashingStore(inner), CountingSource(fleet.store)
    vault = fleet.vault(store)
    idle = back_up(vault, source)
    assert (idle.changed, idle.removed, idle.packs, idle.manifest) == (0, 0, 0, "same")
    assert (source.read, idle.bytes_stored, store.counts["create"]) == ([], 0, 1)
    assert source.listed == []
    fleet.change("agent-0007")
    store.counts.clear()
    one = back_up(vault, source)
    assert (one.changed, one.packs, one.manifest, source.read) == (1, 1, "delta", ["agent-0007"])
    assert source.listed == ["agent-0007"]
    assert store.counts["create"] == 3
    assert store.counts["delete"] == 0


def test_one_agent_takes_at_most_four_requests(tmp_path: Path, small_manifests: None) -> None:
    """For a reader that knows the snapshot's record; with a full manifest or a delta."""
    inner, fleet = DirectoryObjectStore(tmp_path), VaultFleet(50)
    back_up(fleet.vault(inner), fleet.store)
    store = CrashingStore(inner)
    reader = fleet.vault(store)
    target = ControlStoreTarget(fleet.store)
    restore(reader, target, agent_ids=["agent-0001"])
    fleet.change("agent-0007")
    back_up(fleet.vault(inner), fleet.store)
    wanted = fleet.bodies()["agent-0007"]
    fleet.change("agent-0007")
    reader.log.refresh()
    store.calls = 0
    result = restore(reader, target, agent_ids=["agent-0007"], newer="overwrite")
    assert result.restored == 1
    assert fleet.bodies()["agent-0007"] == wanted
    assert store.calls <= 4, store.counts


def test_equal_states_are_stored_once(tmp_path: Path) -> None:
    """In one run, against the base, and when a state returns to what it was."""
    store, fleet = DirectoryObjectStore(tmp_path), VaultFleet(30)
    body = bytes(range(256)) * 40
    for agent_id in fleet.agent_ids:
        fleet.write(agent_id, body)
    first = back_up(fleet.vault(store), fleet.store, workers=3)
    assert first.bytes_logical == 30 * len(body)
    (pack,) = store.list_objects("packs/")
    assert pack.size_bytes < 2 * len(body)
    fleet.write("agent-0003", body)
    again = back_up(fleet.vault(store), fleet.store)
    assert (again.changed, again.packs) == (1, 0)
    assert fleet.restored(store, again.snapshot_id) == fleet.bodies()


def test_large_states_are_stored_in_pieces(tmp_path: Path) -> None:
    """A state above the size of a pack comes back whole."""
    store, fleet = DirectoryObjectStore(tmp_path), VaultFleet(2)
    fleet.write("agent-0000", body_of("x", 1) * 400_000)
    fleet.write("agent-0001", random.Random(1).randbytes(34 * 1024 * 1024))
    result = back_up(fleet.vault(store), fleet.store)
    assert fleet.restored(store, result.snapshot_id) == fleet.bodies()
    assert max(one.size_bytes for one in store.list_objects("packs/")) <= 33 * 1024 * 1024


def test_a_moment_means_the_newest_snapshot_before_it(tmp_path: Path) -> None:
    """And a moment before the first, an unknown id, an unknown agent are one clear error each."""
    store, fleet = DirectoryObjectStore(tmp_path), VaultFleet(3)
    target = ControlStoreTarget(fleet.store)
    with pytest.raises(NotFoundError, match="there is no backup yet"):
        restore(fleet.vault(store), target)
    taken: list[tuple[datetime, str]] = []
    for _ in range(3):
        fleet.clock.advance(60)
        result = back_up(fleet.vault(store), fleet.store)
        taken.append((result.taken_at, result.snapshot_id))
    vault = fleet.vault(store)
    for moment, snapshot_id in taken:
        assert restore(vault, target, at=moment).snapshot_id == snapshot_id
        later = min(moment + timedelta(seconds=59), taken[-1][0])
        assert restore(vault, target, at=later).snapshot_id == snapshot_id
    with pytest.raises(NotFoundError, match="is covered until 2026-11-20T14:03:00"):
        restore(vault, target, at=taken[-1][0] + timedelta(microseconds=1))
    with pytest.raises(NotFoundError, match="the oldest is of 2026-11-20T14:01:00"):
        restore(vault, target, at=taken[0][0] - timedelta(seconds=1))
    with pytest.raises(NotFoundError, match="no snapshot nothing"):
        restore(vault, target, snapshot_id="nothing")
    with pytest.raises(NotFoundError, match="does not hold nobody"):
        restore(vault, target, agent_ids=["nobody", "agent-0001"])
    with pytest.raises(InvalidInputError, match="time zone"):
        restore(vault, target, at=datetime(2026, 11, 20))  # noqa: DTZ001
    with pytest.raises(InvalidInputError, match="newer"):
        restore(vault, target, newer="force")


def test_an_empty_network_is_not_backed_up(tmp_path: Path) -> None:
    """A control store that lost everything must not become the newest snapshot."""
    store, fleet = DirectoryObjectStore(tmp_path), VaultFleet(0)
    with pytest.raises(NotFoundError, match="no agent state"):
        back_up(fleet.vault(store), fleet.store)
    assert store.list_objects("") == []


def test_newer_live_states_are_never_overwritten_unasked(tmp_path: Path) -> None:
    """Refused before anything is written, or skipped, or overwritten with a higher version."""
    store, fleet = DirectoryObjectStore(tmp_path), VaultFleet(3)
    old = fleet.bodies()
    back_up(fleet.vault(store), fleet.store)
    fleet.change("agent-0001")
    fleet.drop("agent-0002")
    live = fleet.bodies()
    target = ControlStoreTarget(fleet.store)
    with pytest.raises(VersionConflictError, match="agent-0001"):
        restore(fleet.vault(store), target)
    assert fleet.bodies() == live
    skipping = restore(fleet.vault(store), target, newer="skip")
    assert (skipping.restored, skipping.unchanged, skipping.skipped) == (1, 1, ("agent-0001",))
    assert fleet.bodies() == live | {"agent-0002": old["agent-0002"]}
    forced = restore(fleet.vault(store), target, newer="overwrite")
    assert (forced.restored, forced.unchanged) == (1, 2)
    assert fleet.bodies() == old
    assert fleet.version("agent-0001") == 3


def test_a_state_that_moves_on_during_the_restore_is_left_alone(tmp_path: Path) -> None:
    """The switch is guarded by the version that was seen, even when overwriting."""
    store, fleet = DirectoryObjectStore(tmp_path), VaultFleet(2)
    back_up(fleet.vault(store), fleet.store)
    fleet.change("agent-0000", "agent-0001")

    class Racing(ControlStoreTarget):
        def write(self, items, *, more):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            fleet.change("agent-0001")
            return super().write(items, more=more)

    result = restore(fleet.vault(store), Racing(fleet.store), newer="overwrite")
    assert result.restored == 1
    assert [agent_id for agent_id, _ in result.refused] == ["agent-0001"]
    assert fleet.bodies()["agent-0001"] == body_of("agent-0001", 3)


def test_a_damaged_live_state_keeps_its_last_good_version(tmp_path: Path) -> None:
    """The others are backed up, the damage is reported, and a restore repairs it."""
    store, fleet = DirectoryObjectStore(tmp_path), VaultFleet(4)
    before = fleet.bodies()
    back_up(fleet.vault(store), fleet.store)
    fleet.change("agent-0001", "agent-0002")
    after = fleet.bodies()
    fleet.store.damage_state("agent-0001", b"rotten")
    result = back_up(fleet.vault(store), fleet.store)
    assert (result.damaged, result.changed) == (("agent-0001",), 1)
    expected = after | {"agent-0001": before["agent-0001"]}
    assert fleet.restored(store, result.snapshot_id) == expected
    restore(
        fleet.vault(store),
        ControlStoreTarget(fleet.store),
        agent_ids=["agent-0001"],
    )
    assert fleet.bodies() == expected


def test_no_id_and_no_state_can_be_read_in_the_store(tmp_path: Path) -> None:
    """Neither in bytes nor in names; and no key or nonce pair is ever used twice."""
    store, fleet = DirectoryObjectStore(tmp_path), VaultFleet(8)
    secret = b"the agent's secret thoughts" * 3
    for _ in range(3):
        for agent_id in fleet.agent_ids:
            fleet.write(agent_id, secret + agent_id.encode() + bytes([fleet.version(agent_id)]))
        back_up(fleet.vault(store), fleet.store)
    salts = []
    for listed in store.list_objects(""):
        data = store.get(listed.key)
        assert b"agent-000" not in data
        assert b"secret" not in data
        assert "agent-000" not in listed.key
        if listed.key.startswith(("packs", "manifests")):
            start = 6 if listed.key.startswith("packs") else 5
            dek = data[start - 1]
            salts.append(data[start + dek : start + dek + 32])
    assert len(set(salts)) == len(salts) >= 6
