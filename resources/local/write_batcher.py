"""Commits the writes of all agents of a node in batches, from one thread.

Batching is natural: a commit takes whatever has queued while the last one ran, so a lone write
never waits and a thousand writers share one `fsync`. Invariants: a caller's future is resolved
only after its write is durable in the store; writes of one kind are committed in the order they
were submitted; a write that is refused or given up was never acknowledged. A crash at any moment
loses only writes whose callers have had no answer.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Condition, Thread
from typing import NamedTuple, Protocol

from fleet.agents import Activity, AgentState, Note, StatePut
from fleet.errors import (
    InvalidInputError,
    StoreUnavailableError,
    TransientError,
    VersionConflictError,
)
from fleet.ports.clock import Clock
from fleet.ports.control_store import PutResult

WRITE_OVERHEAD_BYTES = 256
"""Counted for each write beside its body, for the record, its future and its place in the queue."""


class AgentWriteStore(Protocol):
    """The part of the control store that agents write to, and what a repeated put is read from."""

    def put_states(self, puts: Sequence[StatePut]) -> list[PutResult]:
        """See `fleet.ports.AgentStateStore`."""
        ...

    def state(self, agent_id: str) -> AgentState | None:
        """See `fleet.ports.AgentStateStore`."""
        ...

    def append_activities(self, activities: Sequence[Activity]) -> None:
        """See `fleet.ports.ActivityStore`."""
        ...

    def append_notes(self, notes: Sequence[Note]) -> None:
        """See `fleet.ports.ActivityStore`."""
        ...


Write = StatePut | tuple[Activity, ...] | tuple[Note, ...]
"""One request's write: a state, or activities or notes that are committed together."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Bounds of a batch and of the queue, and how long a failing store is tried."""

    batch_max_writes: int = 512
    batch_max_bytes: int = 16 * 1024 * 1024
    """A single larger write is a batch of its own."""
    queue_max_writes: int = 8192
    queue_max_bytes: int = 256 * 1024 * 1024
    deadline_s: float = 5.0
    """A write that still fails this long after it was submitted is given up."""
    retry_delay_s: float = 0.02
    """Before the second attempt; doubles with each further one."""
    retry_delay_max_s: float = 0.5


class BatcherStats(NamedTuple):
    """What a batcher has done since it was made, and what waits."""

    queued: int
    queued_bytes: int
    batches: int
    writes: int
    """Acknowledged."""
    refused: int
    """Fenced, in conflict, or invalid for the store."""
    given_up: int
    """Not stored within the deadline."""
    retries: int


class _Ticket(NamedTuple):
    write: Write
    size_bytes: int
    deadline_s: float
    future: Future[int]


class WriteBatcher:
    """Queues writes from any thread and resolves their futures when they are durable."""

    def __init__(
        self, store: AgentWriteStore, clock: Clock, limits: BatchLimits | None = None
    ) -> None:
        """Start the writer thread; `close` ends it.

        Args:
            store: where writes become durable; used from the writer thread only.
            clock: measures deadlines.
            limits: None means the defaults.
        """
        self._store = store
        self._clock = clock
        self._limits = limits or BatchLimits()
        self._condition = Condition()
        self._queue: deque[_Ticket] = deque()
        self._queued_bytes = 0
        self._closing = False
        self._counts = dict.fromkeys(("batches", "writes", "refused", "given_up", "retries"), 0)
        self._thread = Thread(target=self._run, name="agent-writes", daemon=True)
        self._thread.start()

    def submit(self, write: Write) -> Future[int]:
        """Queue one write.

        Returns:
            A future of the new version (of a state) or of the number of records (activities,
            notes). It fails with `FencedError` or `TooLargeError` when the store refuses the
            write, and with `StoreUnavailableError` when the store could not take it in time.

        Raises:
            StoreUnavailableError: the queue is full, or the batcher is closing.
            InvalidInputError: the write is empty.
        """
        if not write:
            raise InvalidInputError("write", write, "at least one activity or note")
        size_bytes = _size_bytes(write)
        limits = self._limits
        future: Future[int] = Future()
        # A caller that goes away must not take back a write that may already be in a commit.
        future.set_running_or_notify_cancel()
        deadline_s = self._clock.monotonic_s() + limits.deadline_s
        ticket = _Ticket(write, size_bytes, deadline_s, future)
        with self._condition:
            if self._closing:
                raise StoreUnavailableError(
                    "this node's supervisor is stopping", hint="Repeat the request after a moment."
                )
            over = self._queued_bytes + size_bytes > limits.queue_max_bytes
            if len(self._queue) >= limits.queue_max_writes or (over and self._queue):
                raise StoreUnavailableError(
                    f"{len(self._queue)} writes ({self._queued_bytes} bytes) wait for the store",
                    hint="Repeat the request after a moment.",
                )
            self._queue.append(ticket)
            self._queued_bytes += size_bytes
            self._condition.notify()
        return future

    def stats(self) -> BatcherStats:
        """Counters for metrics."""
        with self._condition:
            return BatcherStats(len(self._queue), self._queued_bytes, **self._counts)

    @property
    def is_closing(self) -> bool:
        """Whether `close` was called: every new write is refused."""
        return self._closing

    def close(self) -> None:
        """Take no more writes, settle those that wait, end the thread.

        Takes at most `deadline_s` longer than the commit under way, however ill the store is.
        """
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._take():
            self._commit_kind(batch, StatePut, self._put_states)
            self._commit_kind(batch, Activity, self._append_activities)
            self._commit_kind(batch, Note, self._append_notes)
            self._count("batches", 1)

    def _take(self) -> list[_Ticket]:
        """The next batch, waiting for one; empty when closed and drained."""
        limits = self._limits
        with self._condition:
            while not self._queue and not self._closing:
                self._condition.wait()
            batch: list[_Ticket] = []
            size_bytes = 0
            while self._queue and len(batch) < limits.batch_max_writes:
                size_bytes += self._queue[0].size_bytes
                if batch and size_bytes > limits.batch_max_bytes:
                    break
                batch.append(self._queue.popleft())
            self._queued_bytes -= sum(ticket.size_bytes for ticket in batch)
            return batch

    def _commit_kind(
        self,
        batch: list[_Ticket],
        kind: type[StatePut | Activity | Note],
        commit: Callable[[list[_Ticket]], None],
    ) -> None:
        tickets = [ticket for ticket in batch if _kind(ticket.write) is kind]
        if tickets:
            self._commit(tickets, commit)

    def _commit(self, tickets: list[_Ticket], commit: Callable[[list[_Ticket]], None]) -> None:
        """Commit tickets of one kind; on return each of their futures is resolved."""
        delay_s = self._limits.retry_delay_s
        while tickets:
            try:
                commit(tickets)
            except TransientError as error:
                tickets = self._give_up_expired(tickets, error)
                if tickets:
                    self._count("retries", 1)
                    time.sleep(delay_s * random.uniform(0.5, 1.0))
                    delay_s = min(2 * delay_s, self._limits.retry_delay_max_s)
            except Exception as error:  # noqa: BLE001 - it is handed to the caller, and must not end the thread
                self._commit_apart(tickets, commit, error)
                return
            else:
                return

    def _commit_apart(
        self,
        tickets: list[_Ticket],
        commit: Callable[[list[_Ticket]], None],
        error: Exception,
    ) -> None:
        """Find the write that the store cannot take by halving, so that it harms no other."""
        if len(tickets) == 1:
            self._count("refused", 1)
            tickets[0].future.set_exception(error)
            return
        middle = len(tickets) // 2
        self._commit(tickets[:middle], commit)
        self._commit(tickets[middle:], commit)

    def _give_up_expired(self, tickets: list[_Ticket], error: TransientError) -> list[_Ticket]:
        """Tell the callers whose time is up; returns the tickets that are tried again."""
        now_s = self._clock.monotonic_s()
        remaining = []
        for ticket in tickets:
            if now_s < ticket.deadline_s:
                remaining.append(ticket)
                continue
            self._count("given_up", 1)
            refusal = StoreUnavailableError(
                f"the control store did not take the write: {error}",
                hint=error.hint or "Repeat the request after a moment.",
            )
            refusal.__cause__ = error
            ticket.future.set_exception(refusal)
        return remaining

    def _put_states(self, tickets: list[_Ticket]) -> None:
        puts = [ticket.write for ticket in tickets if isinstance(ticket.write, StatePut)]
        results = [
            self._settle_repeat(put, result)
            for put, result in zip(puts, self._store.put_states(puts), strict=True)
        ]
        for ticket, result in zip(tickets, results, strict=True):
            if result.error is None:
                ticket.future.set_result(result.version)
            else:
                ticket.future.set_exception(result.error)
        accepted = sum(result.error is None for result in results)
        self._count("writes", accepted)
        self._count("refused", len(results) - accepted)

    def _settle_repeat(self, put: StatePut, result: PutResult) -> PutResult:
        """Accept a put that conflicts only with its own earlier delivery.

        A commit whose answer was lost (by the store or on the way to the agent) is delivered
        again; what it asked for is already the next version, under its epoch, byte for byte.
        """
        if not isinstance(result.error, VersionConflictError):
            return result
        stored = self._store.state(put.agent_id)
        wanted = (put.expected_version + 1, put.epoch, hashlib.sha256(put.body).hexdigest())
        if stored is None or (stored.version, stored.epoch, stored.digest) != wanted:
            return result
        return PutResult(put.agent_id, stored.version, None)

    def _append_activities(self, tickets: list[_Ticket]) -> None:
        self._store.append_activities(
            [item for ticket in tickets for item in ticket.write if isinstance(item, Activity)]
        )
        self._acknowledge(tickets)

    def _append_notes(self, tickets: list[_Ticket]) -> None:
        self._store.append_notes(
            [item for ticket in tickets for item in ticket.write if isinstance(item, Note)]
        )
        self._acknowledge(tickets)

    def _acknowledge(self, tickets: Sequence[_Ticket]) -> None:
        for ticket in tickets:
            ticket.future.set_result(len(ticket.write))
        self._count("writes", len(tickets))

    def _count(self, name: str, number: int) -> None:
        with self._condition:
            self._counts[name] += number


def _kind(write: Write) -> type[StatePut | Activity | Note]:
    return StatePut if isinstance(write, StatePut) else type(write[0])


def _size_bytes(write: Write) -> int:
    if isinstance(write, StatePut):
        return len(write.body) + WRITE_OVERHEAD_BYTES
    return sum(_record_bytes(item) for item in write)


def _record_bytes(item: Activity | Note) -> int:
    if isinstance(item, Activity):
        return len(item.detail) + WRITE_OVERHEAD_BYTES
    vector_bytes = 0 if item.vector is None else len(item.vector.values)
    return len(item.text) + vector_bytes + WRITE_OVERHEAD_BYTES
