"""Acknowledged means durable; refused or given up means never acknowledged."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Event

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.agents import Activity, Note, StatePut
from fleet.errors import (
    InvalidInputError,
    PermanentError,
    StaleEpochError,
    StateroomError,
    StoreUnavailableError,
    VersionConflictError,
)
from fleet.ports.control_store import PutResult
from resources.clock import SystemClock
from resources.local.write_batcher import BatchLimits, WriteBatcher
from tests.examples import examples
from tests.fakes.agent_states import FailingAgentStates, InMemoryAgentStates

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SHORT = BatchLimits(deadline_s=0.05, retry_delay_s=0.001, retry_delay_max_s=0.004)
PATIENT = BatchLimits(deadline_s=30.0, retry_delay_s=0.0005, retry_delay_max_s=0.002)


class GatedAgentStates(InMemoryAgentStates):
    """Holds each commit of states until the test opens the gate."""

    def __init__(self) -> None:
        """Start closed."""
        super().__init__()
        self.gate = Event()
        self.entered = Event()

    def put_states(self, puts: list[StatePut]) -> list[PutResult]:  # type: ignore[override]
        """As the parent, behind the gate."""
        self.entered.set()
        assert self.gate.wait(20)
        return super().put_states(puts)


def _activity(number: int, agent_id: str = "a", detail: str = "") -> Activity:
    return Activity(f"{number}.{agent_id}", agent_id, "net-1", "poll", NOW, None, True, detail)


def _note(number: int, agent_id: str = "a") -> Note:
    return Note(f"{number}.{agent_id}", agent_id, "net-1", NOW, "seen")


def test_each_write_gets_its_own_result_or_error() -> None:
    """One batch may hold successes and refusals."""
    store = GatedAgentStates()
    for agent_id in ("a", "b", "c"):
        store.place(agent_id, epoch=2)
    batcher = WriteBatcher(store, SystemClock())
    first = batcher.submit(StatePut("c", 2, 0, b"c1"))
    assert store.entered.wait(20)
    accepted = batcher.submit(StatePut("a", 2, 0, b"a1"))
    fenced = batcher.submit(StatePut("b", 1, 0, b"b1"))
    conflict = batcher.submit(StatePut("c", 2, 7, b"c2"))
    records = batcher.submit((_activity(1), _activity(2)))
    store.gate.set()
    assert (first.result(20), accepted.result(20), records.result(20)) == (1, 1, 2)
    with pytest.raises(StaleEpochError, match="node-1 holds"):
        fenced.result(20)
    with pytest.raises(VersionConflictError, match="expected version 7"):
        conflict.result(20)
    batcher.close()
    assert store.batch_sizes == [1, 3]


def test_what_queues_during_a_commit_is_committed_together() -> None:
    """Fifty writers that wait for one commit share the next."""
    store = GatedAgentStates()
    for number in range(51):
        store.place(f"a{number}")
    batcher = WriteBatcher(store, SystemClock())
    futures = [batcher.submit(StatePut("a0", 1, 0, b"x"))]
    assert store.entered.wait(20)
    futures += [batcher.submit(StatePut(f"a{n}", 1, 0, b"x")) for n in range(1, 51)]
    assert batcher.stats().queued == 50
    store.gate.set()
    assert [future.result(20) for future in futures] == [1] * 51
    batcher.close()
    assert store.batch_sizes == [1, 50]
    assert batcher.stats().writes == 51


def test_batches_are_bounded_by_number_and_by_bytes() -> None:
    """A batch never holds more, except a single write that is larger by itself."""
    store = GatedAgentStates()
    limits = BatchLimits(batch_max_writes=4, batch_max_bytes=3000)
    for number in range(10):
        store.place(f"a{number}")
    batcher = WriteBatcher(store, SystemClock(), limits)
    futures = [batcher.submit(StatePut("a0", 1, 0, b""))]
    assert store.entered.wait(20)
    sizes = [0, 0, 0, 0, 0, 2000, 2000, 9000, 0]
    futures += [
        batcher.submit(StatePut(f"a{n}", 1, 0, b"x" * size)) for n, size in enumerate(sizes, 1)
    ]
    store.gate.set()
    assert [future.result(20) for future in futures] == [1] * 10
    batcher.close()
    assert store.batch_sizes == [1, 4, 2, 1, 1, 1]


def test_a_full_queue_refuses_at_once_and_takes_again_when_it_has_drained() -> None:
    """Back-pressure by number and by bytes; what was accepted before is not harmed."""
    store = GatedAgentStates()
    for name in "abcd":
        store.place(name)
    limits = BatchLimits(queue_max_writes=2, queue_max_bytes=2000)
    batcher = WriteBatcher(store, SystemClock(), limits)
    futures = [batcher.submit(StatePut("a", 1, 0, b""))]
    assert store.entered.wait(20)
    futures.append(batcher.submit(StatePut("b", 1, 0, b"x" * 1000)))
    with pytest.raises(StoreUnavailableError, match="wait for the store"):
        batcher.submit(StatePut("c", 1, 0, b"x" * 1000))
    futures.append(batcher.submit(StatePut("c", 1, 0, b"")))
    with pytest.raises(StoreUnavailableError, match="2 writes"):
        batcher.submit(StatePut("d", 1, 0, b""))
    store.gate.set()
    assert [future.result(20) for future in futures] == [1, 1, 1]
    assert batcher.submit(StatePut("d", 1, 0, b"x" * 5000)).result(20) == 1
    batcher.close()


def test_a_write_that_the_store_never_takes_is_given_up_and_not_acknowledged() -> None:
    """After the deadline the caller hears so, with the cause and what to do."""
    store = FailingAgentStates(seed=1, failure_rate=1.0)
    store.place("a")
    batcher = WriteBatcher(store, SystemClock(), SHORT)
    futures: list[Future[int]] = [
        batcher.submit(StatePut("a", 1, 0, b"x")),
        batcher.submit((_activity(1),)),
        batcher.submit((_note(1),)),
    ]
    for future in futures:
        with pytest.raises(StoreUnavailableError, match="did not take the write") as caught:
            future.result(20)
        assert isinstance(caught.value.__cause__, StoreUnavailableError)
        assert caught.value.hint
    store.failure_rate = 0.0
    assert batcher.submit(StatePut("a", 1, 0, b"x")).result(20) == 1
    batcher.close()
    stats = batcher.stats()
    assert (stats.given_up, stats.writes) == (3, 1)
    assert stats.retries > 0


def test_a_repeated_delivery_of_the_same_put_is_accepted_with_the_same_version() -> None:
    """An answer that was lost on the way is not a conflict; other bytes or epochs are one."""
    store = InMemoryAgentStates()
    store.place("a")
    batcher = WriteBatcher(store, SystemClock())
    assert batcher.submit(StatePut("a", 1, 0, b"x")).result(20) == 1
    assert batcher.submit(StatePut("a", 1, 0, b"x")).result(20) == 1
    assert len(store.history) == 1
    with pytest.raises(VersionConflictError):
        batcher.submit(StatePut("a", 1, 0, b"y")).result(20)
    assert batcher.submit(StatePut("a", 1, 1, b"z")).result(20) == 2
    with pytest.raises(VersionConflictError):
        batcher.submit(StatePut("a", 1, 0, b"x")).result(20)
    store.place("a", epoch=2)
    with pytest.raises(VersionConflictError):
        batcher.submit(StatePut("a", 2, 1, b"z")).result(20)
    batcher.close()


@pytest.mark.parametrize("position", range(5))
def test_one_poison_record_fails_alone(position: int) -> None:
    """The other writes of its batch are stored, once, in order."""
    store = FailingAgentStates(seed=1, failure_rate=0.0)
    batcher = WriteBatcher(store, SystemClock())
    details = ["fine"] * 5
    details[position] = store.poison
    gate = Event()
    blocker = batcher.submit((_activity(99),))
    blocker.add_done_callback(lambda _: gate.wait(20))
    futures = [batcher.submit((_activity(n, detail=d),)) for n, d in enumerate(details)]
    gate.set()
    for number, future in enumerate(futures):
        if number == position:
            with pytest.raises(PermanentError, match="poison"):
                future.result(20)
        else:
            assert future.result(20) == 1
    batcher.close()
    kept = [f"{n}.a" for n in range(5) if n != position]
    assert list(store.activity_log) == ["99.a", *kept]


def test_a_defect_of_the_store_reaches_the_caller_and_the_writer_lives_on() -> None:
    """An unexpected exception is neither swallowed nor the end of the thread."""

    class Defective(InMemoryAgentStates):
        def append_notes(self, notes: object) -> None:
            raise ZeroDivisionError("defect")

    store = Defective()
    store.place("a")
    batcher = WriteBatcher(store, SystemClock())
    with pytest.raises(ZeroDivisionError):
        batcher.submit((_note(1),)).result(20)
    assert batcher.submit(StatePut("a", 1, 0, b"x")).result(20) == 1
    batcher.close()


def test_close_settles_everything_that_was_accepted_and_takes_nothing_more() -> None:
    """What waits at the close is committed before it returns."""
    store = GatedAgentStates()
    for number in range(20):
        store.place(f"a{number}")
    batcher = WriteBatcher(store, SystemClock(), BatchLimits(batch_max_writes=3))
    futures = [batcher.submit(StatePut(f"a{n}", 1, 0, b"x")) for n in range(20)]
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(batcher.close)
        while not batcher.is_closing:
            time.sleep(0.001)
        with pytest.raises(StoreUnavailableError, match="stopping"):
            batcher.submit(StatePut("a0", 1, 1, b"late"))
        store.gate.set()
        closing.result(20)
    assert all(future.done() for future in futures)
    assert [future.result(0) for future in futures[:20]] == [1] * 20
    batcher.close()


def test_close_ends_although_the_store_is_down() -> None:
    """Each waiting write is given up at its deadline."""
    store = FailingAgentStates(seed=1, failure_rate=1.0)
    batcher = WriteBatcher(store, SystemClock(), SHORT)
    futures = [batcher.submit((_note(n),)) for n in range(5)]
    batcher.close()
    assert all(isinstance(f.exception(0), StoreUnavailableError) for f in futures)


def test_a_caller_cannot_take_back_a_write_under_way() -> None:
    """Cancelling its future has no effect: the write may be in a commit already."""
    store = GatedAgentStates()
    store.place("a")
    batcher = WriteBatcher(store, SystemClock())
    future = batcher.submit(StatePut("a", 1, 0, b"x"))
    assert not future.cancel()
    store.gate.set()
    assert future.result(20) == 1
    batcher.close()


def test_an_empty_write_is_refused() -> None:
    """It would have no kind."""
    batcher = WriteBatcher(InMemoryAgentStates(), SystemClock())
    with pytest.raises(InvalidInputError, match="at least one"):
        batcher.submit(())
    batcher.close()


def _run_agent(
    batcher: WriteBatcher, agent_id: str, rounds: int
) -> tuple[list[tuple[int, bytes]], list[str], list[str]]:
    """Write as an agent does: one write at a time, each on what is known to be stored.

    Returns:
        Acknowledged states (version, body), acknowledged activity ids, refused activity ids.
    """
    version, states, acknowledged, refused = 0, [], [], []
    for number in range(rounds):
        body = f"{agent_id}:{number}".encode()
        try:
            version = batcher.submit(StatePut(agent_id, 1, version, body)).result(30)
            states.append((version, body))
        except StateroomError:
            # What became of it is unknown; an agent loads the state again before it goes on.
            stored = batcher._store.state(agent_id)
            version = 0 if stored is None else stored.version
        activity = _activity(number, agent_id)
        try:
            batcher.submit((activity,)).result(30)
            acknowledged.append(activity.activity_id)
        except StoreUnavailableError:
            refused.append(activity.activity_id)
    return states, acknowledged, refused


@settings(max_examples=examples(15))
@given(
    seed=st.integers(0, 2**32),
    failure_rate=st.sampled_from([0.0, 0.2, 0.6]),
    agents=st.integers(1, 8),
    limits=st.sampled_from([PATIENT, BatchLimits(deadline_s=0.004, retry_delay_s=0.001)]),
)
def test_every_acknowledged_write_is_stored_exactly_once_in_the_order_of_its_agent(
    seed: int, failure_rate: float, agents: int, limits: BatchLimits
) -> None:
    """With a store that fails before or after commits, nothing unstored is claimed."""
    store = FailingAgentStates(seed, failure_rate)
    names = [f"agent-{number}" for number in range(agents)]
    for name in names:
        store.place(name)
    batcher = WriteBatcher(store, SystemClock(), limits)
    with ThreadPoolExecutor(agents) as pool:
        runs = dict(zip(names, pool.map(lambda n: _run_agent(batcher, n, 6), names), strict=True))
    batcher.close()
    for name, (states, acknowledged, refused) in runs.items():
        stored = [(version, body) for agent, version, body in store.history if agent == name]
        assert [version for version, _ in stored] == list(range(1, len(stored) + 1))
        assert len({body for _, body in stored}) == len(stored)
        assert [entry for entry in stored if entry in states] == states
        kept = [a.activity_id for a in store.activity_log.values() if a.agent_id == name]
        assert [i for i in kept if i in set(acknowledged)] == acknowledged
        assert set(kept) <= set(acknowledged) | set(refused)
        if failure_rate == 0.0:
            assert len(states) == len(stored) == 6
            assert refused == []
