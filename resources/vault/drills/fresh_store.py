"""A snapshot restored into a control store of its own, and read back from there.

The restore is the one of `resources.vault.restores.restore`, through the same version-guarded port
as into the live store; only the store is new, empty and alone. Nothing of the live fleet is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from fleet.agents import AgentState, Placement
from fleet.errors import CorruptObjectError
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.reports import AgentDeclaration
from fleet.restore_test_plan import LoadedState
from resources.vault.drills.isolated_workspace import require_space
from resources.vault.network import NetworkVault
from resources.vault.packs.manifest import Manifest, of_kinds
from resources.vault.restores.restore import ControlStoreTarget, RestoreResult, restore

RESTORED_REGION = "restored-only"
"""Region of agents that have their state back and are not started."""
_WORKLOAD = "restored"
_BATCH_AGENTS = 500
_BATCH_BYTES = 8 * 1024 * 1024
_COPIES = 3
"""Staging (as sealed as it was read, at worst no smaller), database and its log, all at once."""
_ROW_BYTES = 4096
"""Allowed for each agent beside its state."""


class FreshStore(NamedTuple):
    """An opened control store in a folder of its own."""

    store: ControlStore
    url: str
    folder: Path


class ReadBack(NamedTuple):
    """What a comparison of every restored state with its manifest has found."""

    states: int
    size_bytes: int
    problems: tuple[str, ...]


@contextmanager
def open_fresh_store(folder: Path, clock: Clock) -> Iterator[FreshStore]:
    """A new SQLite control store in an empty folder, closed at the end of the block."""
    from resources.control_store.opening import open_control_store

    folder.mkdir(mode=0o700)
    url = f"sqlite:///{folder}/control.db"
    store = open_control_store(url, clock=clock)
    try:
        yield FreshStore(store, url, folder)
    finally:
        store.close()


def states_of(manifest: Manifest) -> tuple[LoadedState, ...]:
    """The agents of a snapshot with what their states must be, by agent id."""
    rows = of_kinds(manifest, states=True).table
    columns = (rows[n].to_pylist() for n in ("item_id", "version", "digest", "plain_length"))
    sizes: dict[str, int] = {}
    heads: dict[str, tuple[int, str]] = {}
    for item_id, version, digest, plain_length in zip(*columns, strict=True):
        sizes[item_id] = sizes.get(item_id, 0) + plain_length
        heads[item_id] = (version, digest.hex())
    return tuple(LoadedState(one, *heads[one], sizes[one]) for one in sorted(heads))


def demand_room(fresh: FreshStore, states: Sequence[LoadedState]) -> None:
    """Demand the room that these states need while they are restored.

    Raises:
        StoreUnavailableError: the workspace's disk has less; nothing was written.
    """
    size_bytes = sum(one.size_bytes for one in states)
    require_space(fresh.folder, _COPIES * size_bytes + _ROW_BYTES * len(states))


def restore_fresh(
    vault: NetworkVault,
    fresh: FreshStore,
    states: Sequence[LoadedState],
    snapshot_id: str | None,
    started: Mapping[str, AgentDeclaration],
    node_id: str = "",
) -> RestoreResult:
    """Declare the agents of a snapshot, place them, and bring their states back.

    Args:
        vault: the opened network; nothing may be appended to it (`read_only`).
        fresh: the empty control store.
        states: who comes back, of `states_of`.
        snapshot_id: the snapshot; None for the newest one and the journal behind it.
        started: declarations of the agents that `node_id` is to run, already moved to its region;
            all others are parked.
        node_id: the node that will run them.

    Raises:
        StoreUnavailableError: a store does not answer, or the workspace's disk is full.
        CorruptObjectError, NotFoundError: the snapshot cannot be read; nothing was restored.
    """
    assert vault.read_only, "a test must not leave a hold in the log of a copy"
    _declare(vault, fresh.store, states, started, node_id)
    return restore(
        vault,
        ControlStoreTarget(fresh.store),
        snapshot_id=snapshot_id,
        # Named one by one: what reaches the journal meanwhile is not of the moment declared.
        agent_ids=[one.agent_id for one in states],
        staging=str(fresh.folder),
    )


def read_back(store: ControlStore, states: Sequence[LoadedState]) -> ReadBack:
    """Read every state from the store again and compare version and digest with the manifest's.

    Bytes are hashed by the store as it reads them, so an equal digest means equal bytes.
    """
    problems: list[str] = []
    count = size_bytes = 0
    for batch in _batches(states):
        held = {one.agent_id: one for one in _states(store, batch, problems)}
        for wanted in batch:
            state = held.get(wanted.agent_id)
            if state is None:
                problems.append(f"{wanted.agent_id} has no readable state")
            elif (state.version, state.digest) != (wanted.version, wanted.digest):
                problems.append(
                    f"{wanted.agent_id} is version {state.version} of {state.digest[:12]}, "
                    f"backed up was {wanted.version} of {wanted.digest[:12]}"
                )
            else:
                count, size_bytes = count + 1, size_bytes + len(state.body)
    wanted_ids = {one.agent_id for one in states}
    strangers = [one.agent_id for one in store.state_infos() if one.agent_id not in wanted_ids]
    problems += [f"{one} was restored and is not in the snapshot" for one in strangers]
    return ReadBack(count, size_bytes, tuple(problems))


def _declare(
    vault: NetworkVault,
    store: ControlStore,
    states: Iterable[LoadedState],
    started: Mapping[str, AgentDeclaration],
    node_id: str,
) -> None:
    network_id, now = vault.network_id, vault.clock.now()
    shapes, placements = [], []
    for one in states:
        shape = started.get(one.agent_id) or AgentDeclaration(
            one.agent_id, network_id, _WORKLOAD, RESTORED_REGION, 0, 0
        )
        runs = one.agent_id in started
        shapes.append(shape)
        placements.append(
            Placement(
                agent_id=one.agent_id,
                network_id=network_id,
                workload=shape.workload,
                node_id=node_id if runs else "",
                region=shape.region,
                epoch=0,
                term=0,
                desired="running" if runs else "parked",
                reason="restored from a backup",
                updated_at=now,
            )
        )
    store.declare_agents(shapes)
    store.place_agents(placements)


def _batches(states: Sequence[LoadedState]) -> Iterator[list[LoadedState]]:
    batch: list[LoadedState] = []
    size_bytes = 0
    for one in states:
        batch.append(one)
        size_bytes += one.size_bytes
        if len(batch) >= _BATCH_AGENTS or size_bytes >= _BATCH_BYTES:
            yield batch
            batch, size_bytes = [], 0
    if batch:
        yield batch


def _states(
    store: ControlStore, batch: Sequence[LoadedState], problems: list[str]
) -> list[AgentState]:
    """States of a batch; a damaged one is named and does not hide the others."""
    try:
        return store.states([one.agent_id for one in batch])
    except CorruptObjectError:
        states = []
        for one in batch:
            try:
                states += store.states([one.agent_id])
            except CorruptObjectError as error:
                problems.append(str(error))
        return states
