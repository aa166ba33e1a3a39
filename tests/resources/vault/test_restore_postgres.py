"""Restores into a PostgreSQL control store: agents, a network, and the guard of versions there."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing

import pytest

from fleet.agents import Placement, StatePut
from fleet.errors import VersionConflictError
from fleet.reports import AgentDeclaration
from resources.control_store.opening import open_control_store
from resources.control_store.store import SqlControlStore
from resources.vault.restores.control_store_target import ControlStoreTarget
from resources.vault.restores.restore import LiveHead, restore
from resources.vault.restores.targets import RenamedTarget, prefixed
from resources.vault.snapshots.backup import back_up
from tests.fakes.object_store import InMemoryObjectStore
from tests.fakes.vault_fleet import AT, VaultFleet, body_of
from tests.servers.empty_stores import postgres_url
from tests.servers.postgres import PostgresServer

pytestmark = pytest.mark.postgres


class PostgresFleet:
    """Agents of one network in a PostgreSQL control store, and a vault in memory."""

    def __init__(self, store: SqlControlStore) -> None:
        """Declare, place, write a first state each, and take a snapshot of it."""
        self.store = store
        self.fleet = VaultFleet(6)
        self.ids = self.fleet.agent_ids
        self.objects = InMemoryObjectStore(self.fleet.clock.now)
        self.place("net", self.ids)
        for agent_id in self.ids:
            self.write(agent_id, body_of(agent_id, 1))
        self.before = self.bodies()
        self.snapshot_id = back_up(self.fleet.vault(self.objects), store).snapshot_id

    def place(self, network_id: str, ids: list[str]) -> None:
        """Declare and place agents."""
        self.store.declare_agents(
            [AgentDeclaration(one, network_id, "w", "eu", 1, 1) for one in ids]
        )
        self.store.place_agents(
            [Placement(one, network_id, "w", "n", "eu", 0, 1, "running", "", AT) for one in ids]
        )

    def write(self, agent_id: str, body: bytes) -> None:
        """The next version of a state."""
        state = self.store.state(agent_id)
        put = StatePut(agent_id, 1, state.version if state else 0, body)
        assert self.store.put_states([put])[0].error is None

    def bodies(self, ids: list[str] | None = None) -> dict[str, bytes]:
        """Live states."""
        return {one.agent_id: one.body for one in self.store.states(ids or self.ids)}

    def versions(self) -> dict[str, int]:
        """Live versions."""
        return {one.agent_id: one.version for one in self.store.state_infos()}


@pytest.fixture
def world(postgres_server: PostgresServer) -> Iterator[PostgresFleet]:
    """In a database of its own."""
    url = postgres_url(postgres_server, f"restore_{uuid.uuid4().hex}")
    with closing(open_control_store(url, clock=VaultFleet(1).clock)) as store:
        yield PostgresFleet(store)


def test_one_agent_comes_back_and_its_version_rises(world: PostgresFleet) -> None:
    """A running writer of the newer version must load again; nobody else is touched."""
    agent_id = world.ids[2]
    world.write(agent_id, b"a mistake")
    versions = world.versions()
    result = restore(
        world.fleet.vault(world.objects),
        ControlStoreTarget(world.store),
        snapshot_id=world.snapshot_id,
        agent_ids=[agent_id],
        newer="overwrite",
    )
    assert (result.restored, result.refused) == (1, ())
    assert world.bodies() == world.before
    assert world.versions() == {**versions, agent_id: versions[agent_id] + 1}
    (stale,) = world.store.put_states([StatePut(agent_id, 1, versions[agent_id], b"late")])
    assert isinstance(stale.error, VersionConflictError)


def test_a_network_comes_back_into_an_empty_database(
    world: PostgresFleet, postgres_server: PostgresServer
) -> None:
    """After the loss of the server: declared and placed anew, every state as it was."""
    url = postgres_url(postgres_server, f"restore_{uuid.uuid4().hex}")
    with closing(open_control_store(url, clock=world.fleet.clock)) as empty:
        lost, world.store = world.store, empty
        world.place("net", world.ids)
        result = restore(world.fleet.vault(world.objects), ControlStoreTarget(empty))
        assert (result.restored, result.unchanged, result.refused) == (6, 0, ())
        assert world.bodies() == world.before
        again = restore(world.fleet.vault(world.objects), ControlStoreTarget(empty))
        assert (again.restored, again.unchanged) == (0, 6)
        world.store = lost


def test_newer_states_are_refused_before_anything_is_written(world: PostgresFleet) -> None:
    """Without force; skipped on demand, and the others come back."""
    for agent_id in world.ids[:2]:
        world.write(agent_id, b"newer")
    live, versions = world.bodies(), world.versions()
    vault, target = world.fleet.vault(world.objects), ControlStoreTarget(world.store)
    with pytest.raises(VersionConflictError, match="2 live states are newer"):
        restore(vault, target)
    assert (world.bodies(), world.versions()) == (live, versions)
    result = restore(vault, target, newer="skip")
    assert (result.skipped, result.unchanged, result.restored) == (tuple(world.ids[:2]), 4, 0)
    assert world.bodies() == live


def test_a_state_that_moves_on_while_it_is_restored_is_not_overwritten(
    world: PostgresFleet,
) -> None:
    """The switch compares versions in the database itself, not only before."""
    moving, other = world.ids[0], world.ids[1]
    for agent_id in (moving, other):
        world.write(agent_id, b"wrong")

    class Moving(ControlStoreTarget):
        """The agent writes between the look at the versions and the switch."""

        def heads(self, agent_ids: Sequence[str]) -> Mapping[str, LiveHead]:
            """Looked at, then overtaken."""
            found = super().heads(agent_ids)
            world.write(moving, b"in between")
            return found

    result = restore(
        world.fleet.vault(world.objects),
        Moving(world.store),
        agent_ids=[moving, other],
        newer="overwrite",
    )
    assert [agent_id for agent_id, _ in result.refused] == [moving]
    assert world.bodies([moving, other]) == {
        moving: b"in between",
        other: world.before[other],
    }


def test_a_network_comes_back_under_other_ids_beside_the_live_one(world: PostgresFleet) -> None:
    """Into another network of the same database; the live one stays as it is."""
    for agent_id in world.ids:
        world.write(agent_id, b"newer")
    live = world.bodies()
    ids = [f"copy-{one}" for one in world.ids]
    world.place("copies", ids)
    result = restore(
        world.fleet.vault(world.objects),
        RenamedTarget(world.store, "copies", prefixed("copy-")),
    )
    assert (result.restored, result.refused) == (6, ())
    assert world.bodies(ids) == {f"copy-{one}": body for one, body in world.before.items()}
    assert world.bodies() == live
