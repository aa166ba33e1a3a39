"""Agent states of a backup: which have changed since the base, read and stored batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from fleet.agents import AgentState
from fleet.errors import CorruptObjectError
from fleet.inventory import AgentStateInfo
from resources.vault.packs.manifest import (
    STATE,
    arrow,
    diff_states,
    manifest_schema,
    of_kinds,
    tombstones,
)
from resources.vault.snapshots.attempt import Attempt

_BATCH_BYTES = 2 * 1024 * 1024
_BATCH_AGENTS = 1000


class StateSource(Protocol):
    """What a backup reads: the part of `fleet.ports.AgentStateStore` that it needs."""

    def state_infos(self) -> list[AgentStateInfo]:
        """Metadata of all states, as one consistent cut."""
        ...

    def states(self, agent_ids: Sequence[str]) -> list[AgentState]:
        """The newest states of these agents, digests verified."""
        ...


class StateChanges:
    """The states' part of one attempt.

    Args:
        attempt: that it belongs to.
        source: the control store.
    """

    def __init__(self, attempt: Attempt, source: StateSource) -> None:
        """Nothing is read yet."""
        self._attempt = attempt
        self._source = source
        self._infos: list[AgentStateInfo] = []
        self.agents = 0
        """In the listing."""
        self.changed = self.removed = 0
        self.damaged: list[str] = []

    def take_cut(self) -> int:
        """Take one consistent listing of the network's states; how many there are."""
        network_id = self._attempt.vault.network_id
        self._infos = [one for one in self._source.state_infos() if one.network_id == network_id]
        self.agents = len(self._infos)
        return self.agents

    def store(self) -> list[Any]:
        """Store what has changed since the base; the delta's rows, tombstones included."""
        pa = arrow()
        attempt = self._attempt
        infos, self._infos = self._infos, []
        diff = diff_states(of_kinds(attempt.current, states=True).table, infos)
        batches = list(_batches([infos[number] for number in diff.changed]))
        del infos  # a network's listing is the largest thing in memory, and has been read
        fresh, gone = self._store(batches)
        removed = pa.concat_arrays([diff.removed, pa.array(gone, pa.string())])
        self.changed, self.removed = len(set(fresh["item_id"].to_pylist())), len(removed)
        attempt.replace(fresh, removed)
        return [fresh, tombstones(removed)]

    def rescue(self, lost: Sequence[str]) -> int:
        """Store agents whose packs go away again from their live states; how many.

        Who has no live state any more is left out: nothing is left to store.
        """
        wanted = set(lost)
        infos = [one for one in self._source.state_infos() if one.agent_id in wanted]
        fresh, _ = self._store(list(_batches(infos)))
        self._attempt.replace(fresh, arrow().array(lost, arrow().string()))
        return len(infos)

    def _store(self, batches: Sequence[list[str]]) -> tuple[Any, list[str]]:
        """Store the live states of these agents; their rows, and who has none any more."""
        gone: list[str] = []
        if not batches:
            return manifest_schema().empty_table(), gone
        with self._attempt.writer(STATE) as writer:
            for batch in batches:
                states = self._read(batch)
                found = {one.agent_id for one in states} | set(self.damaged)
                gone += [one for one in batch if one not in found]
                writer.add(states)
            fresh = writer.finish()
        self._attempt.adopt(writer)
        return fresh, gone

    def _read(self, agent_ids: Sequence[str]) -> list[AgentState]:
        """States of a batch; a damaged one is set aside, so that it does not stop the others."""
        try:
            return self._source.states(agent_ids)
        except CorruptObjectError:
            states = []
            for agent_id in agent_ids:
                try:
                    states += self._source.states([agent_id])
                except CorruptObjectError:
                    self.damaged.append(agent_id)
            return states


def _batches(infos: Sequence[AgentStateInfo]) -> Iterator[list[str]]:
    """Agent ids in batches of bounded bytes."""
    batch: list[str] = []
    size = 0
    for info in infos:
        if batch and (size + info.size_bytes > _BATCH_BYTES or len(batch) >= _BATCH_AGENTS):
            yield batch
            batch, size = [], 0
        batch.append(info.agent_id)
        size += info.size_bytes
    if batch:
        yield batch
