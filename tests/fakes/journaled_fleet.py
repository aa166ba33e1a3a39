"""A fleet whose every write is remembered: what a restore at any moment must give back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from fleet.agents import AgentState
from fleet.errors import StateroomError
from fleet.ports.object_store import ObjectStore
from resources.vault.journal.journal import SegmentResult, append_segment
from resources.vault.network import NetworkVault
from resources.vault.packs.reading import ReadItem
from resources.vault.restores.restore import LiveHead, RestoreResult, restore
from resources.vault.snapshots.backup import BackupResult, back_up
from tests.fakes.object_store import InMemoryObjectStore
from tests.fakes.vault_fleet import VaultFleet


class Written(NamedTuple):
    """One write of the history."""

    agent_id: str
    version: int
    updated_at: datetime
    body: bytes


class DictTarget:
    """Collects what is restored."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.items: dict[str, ReadItem] = {}

    def heads(self, agent_ids: Sequence[str]) -> Mapping[str, LiveHead]:
        """Nothing is live."""
        return {}

    def write(
        self, items: Sequence[tuple[ReadItem, int]], *, more: bool
    ) -> list[StateroomError | None]:
        """Keep them."""
        del more
        self.items.update({item.agent_id: item for item, _ in items})
        return [None] * len(items)


class JournaledFleet(VaultFleet):
    """`VaultFleet` with its dumb twin: all writes, and the versions that were looked at.

    `captured` holds every version that was live at a tick or snapshot: those must come back.
    """

    def __init__(self, agents: int = 4, network_id: str = "net") -> None:
        """With a vault in memory."""
        self.history: list[Written] = []
        self.captured: set[tuple[str, int, datetime]] = set()
        super().__init__(agents, network_id)
        self.objects = InMemoryObjectStore(self.clock.now)
        self.covered: list[datetime] = []
        self.taken: list[datetime] = []
        self.reader: NetworkVault | None = None
        self.seen = 0
        """Writes before the last tick."""
        self.only_seen = False
        """Expect no more than what was seen: where clocks jump, nobody can tell what is missing."""

    def write(self, agent_id: str, body: bytes) -> None:
        """Write, and remember."""
        super().write(agent_id, body)
        self.remember(agent_id)

    def remember(self, agent_id: str) -> None:
        """Put the live version into the history."""
        state = self.state(agent_id)
        self.history.append(Written(agent_id, state.version, state.updated_at, state.body))

    def state(self, agent_id: str) -> AgentState:
        """The live state, which there is."""
        state = self.store.state(agent_id)
        assert state is not None
        return state

    def capture(self) -> None:
        """All live versions have been looked at."""
        self.captured |= {
            (one.agent_id, one.version, one.updated_at) for one in self.store.states(self.agent_ids)
        }

    def opened(self, objects: ObjectStore | None = None) -> NetworkVault:
        """A fresh handle that appends no hold."""
        vault = self.vault(objects or self.objects)
        vault.read_only = True
        return vault

    def snapshot(self, objects: ObjectStore | None = None) -> BackupResult:
        """Take one."""
        result = back_up(self.vault(objects or self.objects), self.store, workers=1)
        self.taken.append(result.taken_at)
        self.capture()
        return result

    def tick(self, objects: ObjectStore | None = None) -> SegmentResult:
        """Journal once."""
        result = append_segment(self.vault(objects or self.objects), self.store)
        if result.covered_at is not None:
            self.covered.append(result.covered_at)
            self.seen = len(self.history)
            self.capture()
        return result

    def restored_at(
        self, at: datetime | None, objects: ObjectStore | None = None, **options: bool
    ) -> tuple[dict[str, ReadItem], RestoreResult]:
        """What a restore of everybody gives."""
        target = DictTarget()
        if self.reader is None or objects is not None:
            self.reader = self.opened(objects)
        result = restore(self.reader, target, at=at, **options)  # type: ignore[arg-type]
        return target.items, result

    def expected_at(self, at: datetime | None) -> dict[str, Written]:
        """The newest version of each agent stored by a moment; of those looked at for None."""
        return {
            one.agent_id: one
            for number, one in enumerate(self.history)
            if (one[:3] in self.captured if at is None else one.updated_at <= at)
            if not self.only_seen or number < self.seen or one[:3] in self.captured
        }

    def check(
        self, at: datetime | None, objects: ObjectStore | None = None, **options: bool
    ) -> RestoreResult:
        """A restore equals the twin, or says of each agent where it does not."""
        items, result = self.restored_at(at, objects, **options)
        expected = self.expected_at(at)
        bodies = {(one.agent_id, one.version, one.updated_at): one.body for one in self.history}
        reported = {one.agent_id for one in result.substitutions} | dict(result.missing).keys()
        assert items.keys() <= expected.keys()
        for agent_id, wanted in expected.items():
            item = items.get(agent_id)
            exact = item is not None and (item.version, item.updated_at) == wanted[1:3]
            assert exact or agent_id in reported or not result.certain, (agent_id, wanted, item)
            if item is not None:
                assert item.body == bodies[agent_id, item.version, item.updated_at]
                assert at is None or item.updated_at <= at
        self.exact = {
            one
            for one, wanted in expected.items()
            if one in items and (items[one].version, items[one].updated_at) == wanted[1:3]
        }
        self.reported = reported
        return result
