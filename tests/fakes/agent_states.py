"""The part of the control store that agents write to, in memory, with failures on demand."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from threading import Lock

from fleet.agents import (
    Activity,
    AgentState,
    Note,
    StateChange,
    StateHead,
    StatePut,
    StateRestore,
    decide_put,
    plan_restore,
)
from fleet.errors import PermanentError, StoreUnavailableError
from fleet.inventory import AgentStateInfo
from fleet.ports.control_store import PutResult


class InMemoryAgentStates:
    """`AgentStateStore` and `ActivityStore`; commits whole batches or nothing."""

    def __init__(self) -> None:
        """Start without placements; see `place`."""
        self._lock = Lock()
        self.heads: dict[str, StateHead] = {}
        self.stored: dict[str, AgentState] = {}
        self.history: list[tuple[str, int, bytes]] = []
        """Accepted puts in commit order: agent, version, body."""
        self.activity_log: dict[str, Activity] = {}
        self.note_log: dict[str, Note] = {}
        self.batch_sizes: list[int] = []

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            for book in (self.heads, self.stored, self.activity_log, self.note_log):
                book.clear()
            self.history.clear()
            self.batch_sizes.clear()

    def place(self, agent_id: str, epoch: int = 1, node_id: str = "node-1") -> None:
        """Give an agent to a node under an epoch; its version stays."""
        with self._lock:
            version = self.heads[agent_id].version if agent_id in self.heads else 0
            self.heads[agent_id] = StateHead(epoch, node_id, version)

    def put_states(self, puts: Sequence[StatePut]) -> list[PutResult]:
        """Apply puts in order."""
        with self._lock:
            self.batch_sizes.append(len(puts))
            return [self._put(put) for put in puts]

    def state(self, agent_id: str) -> AgentState | None:
        """The newest state."""
        return self.stored.get(agent_id)

    def states(self, agent_ids: Sequence[str]) -> list[AgentState]:
        """The newest states of these agents."""
        return [self.stored[one] for one in sorted(set(agent_ids)) if one in self.stored]

    def restore_states(
        self, restores: Sequence[StateRestore], *, more: bool = False
    ) -> list[PutResult]:
        """Put states back, in order."""
        del more
        with self._lock:
            results = []
            for restore in restores:
                put, head = plan_restore(restore, self.heads.get(restore.agent_id))
                if head is not None:
                    self.heads[restore.agent_id] = head
                results.append(self._put(put, restore.digest))
            return results

    def state_infos(self, region: str | None = None) -> list[AgentStateInfo]:
        """Metadata of all states."""
        return [
            AgentStateInfo(
                s.agent_id, "", "", s.version, s.epoch, len(s.body), s.digest, s.updated_at
            )
            for s in self.stored.values()
        ]

    def state_changes(self, after: int, limit: int) -> list[StateChange]:
        """The change log from `history`."""
        now = datetime.now(UTC)
        return [
            StateChange(number, agent_id, version, 0, len(body), "", now)
            for number, (agent_id, version, body) in enumerate(self.history, start=1)
            if number > after
        ][:limit]

    def append_activities(self, activities: Sequence[Activity]) -> None:
        """Append; repeated ids are ignored."""
        with self._lock:
            for activity in activities:
                self.activity_log.setdefault(activity.activity_id, activity)

    def activities(self, agent_id: str | None, limit: int) -> list[Activity]:
        """Newest first."""
        found = [a for a in self.activity_log.values() if agent_id in {None, a.agent_id}]
        return found[::-1][:limit]

    def append_notes(self, notes: Sequence[Note]) -> None:
        """Append; repeated ids are ignored."""
        with self._lock:
            for note in notes:
                self.note_log.setdefault(note.note_id, note)

    def notes(self, network_id: str, after: str, limit: int) -> list[Note]:
        """Notes of a network by id."""
        found = [n for n in self.note_log.values() if n.network_id == network_id]
        return sorted(n for n in found if n.note_id > after)[:limit]

    def _put(self, put: StatePut, digest: str = "") -> PutResult:
        head = self.heads.get(put.agent_id)
        error = decide_put(put, head)
        if error is not None or head is None:
            return PutResult(put.agent_id, 0, error)
        version = head.version + 1
        self.heads[put.agent_id] = head._replace(version=version)
        digest = digest or hashlib.sha256(put.body).hexdigest()
        self.stored[put.agent_id] = AgentState(
            put.agent_id, version, put.epoch, digest, put.body, datetime.now(UTC)
        )
        self.history.append((put.agent_id, version, put.body))
        return PutResult(put.agent_id, version, None)


class FailingAgentStates(InMemoryAgentStates):
    """Fails by a seed: before a commit, after it (the answer is lost), or for one poison record."""

    def __init__(self, seed: int, failure_rate: float) -> None:
        """Fail this share of calls; see `poison`."""
        super().__init__()
        self._random = random.Random(seed)
        self.failure_rate = failure_rate
        self.poison = "\x00poison"
        """A batch with this text fails for good, as PostgreSQL fails at a NUL."""

    def put_states(self, puts: Sequence[StatePut]) -> list[PutResult]:
        """As the parent, or StoreUnavailableError."""
        self._fail("before the commit")
        results = super().put_states(puts)
        self._fail("after the commit")
        return results

    def append_activities(self, activities: Sequence[Activity]) -> None:
        """As the parent, or an error."""
        self._fail("before the commit")
        if any(activity.detail == self.poison for activity in activities):
            raise PermanentError("poison")
        super().append_activities(activities)
        self._fail("after the commit")

    def append_notes(self, notes: Sequence[Note]) -> None:
        """As the parent, or StoreUnavailableError."""
        self._fail("before the commit")
        super().append_notes(notes)
        self._fail("after the commit")

    def _fail(self, moment: str) -> None:
        if self._random.random() < self.failure_rate:
            raise StoreUnavailableError(f"injected failure {moment}", hint="It is a test.")
