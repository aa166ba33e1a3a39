"""The state cache: fresh, bounded, never older than what it held, never before the store."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.agents import AgentState, Placement, StatePut
from fleet.errors import InvalidInputError, StaleEpochError, StoreUnavailableError
from fleet.ports.control_store import PutResult
from fleet.reports import AgentDeclaration
from resources.state_cache import CachedAgentStates, InProcessStateCache
from tests.fakes.clock import ManualClock
from tests.fakes.control_store import InMemoryControlStore

AT = datetime(2026, 3, 1, tzinfo=UTC)


def state(agent_id: str, version: int = 1, body: bytes = b"x") -> AgentState:
    """A state of an agent."""
    return AgentState(agent_id, version, 1, hashlib.sha256(body).hexdigest(), body, AT)


def cache_of(
    max_bytes: int = 1 << 20, ttl_s: float = 60.0
) -> tuple[InProcessStateCache, ManualClock]:
    """A cache and the clock it goes by."""
    clock = ManualClock()
    return InProcessStateCache(clock=clock, ttl_s=ttl_s, max_bytes=max_bytes), clock


def test_a_copy_lives_for_its_time_whatever_the_wall_clock_does() -> None:
    """Setting the clock back does not revive it, setting it forward does not end it."""
    cache, clock = cache_of(ttl_s=60.0)
    cache.put("net", state("a"))
    clock.jump(7200.0)
    clock.advance(59.0)
    assert cache.get("a") == state("a")
    clock.jump(-86400.0)
    clock.advance(1.0)
    assert cache.get("a") is None
    assert cache.size_bytes == 0


def test_an_older_version_never_replaces_a_newer_one() -> None:
    """A slow reader that comes back with what it read before the write is ignored."""
    cache, _ = cache_of()
    cache.put("net", state("a", 4, b"new"))
    cache.put("net", state("a", 3, b"old"))
    assert cache.get("a") == state("a", 4, b"new")


def test_the_least_recently_used_copy_leaves_first() -> None:
    """A read counts as use."""
    cache, _ = cache_of(max_bytes=3 * 2048)
    for name in ("a", "b", "c"):
        cache.put("net", state(name, body=b"x" * 1024))
    cache.get("a")
    cache.put("net", state("d", body=b"x" * 1024))
    assert [name for name in "abcd" if cache.get(name)] == ["a", "c", "d"]


def test_a_state_larger_than_the_cache_drops_its_older_copy() -> None:
    """Keeping the old one would hide the new one."""
    cache, _ = cache_of(max_bytes=4096)
    cache.put("net", state("a", 1))
    cache.put("net", state("a", 2, b"x" * 4096))
    assert cache.get("a") is None
    assert cache.size_bytes == 0


def test_invalidation_reaches_exactly_what_it_names() -> None:
    """One agent, one network, or everything."""
    cache, _ = cache_of()
    for name, network in (("a", "n1"), ("b", "n1"), ("c", "n2"), ("d", "n2")):
        cache.put(network, state(name))
    cache.invalidate_agent("a")
    cache.invalidate_agent("ghost")
    assert [name for name in "abcd" if cache.get(name)] == ["b", "c", "d"]
    cache.invalidate_network("n2")
    cache.invalidate_network("ghost")
    assert [name for name in "abcd" if cache.get(name)] == ["b"]
    cache.invalidate_all()
    assert cache.get("b") is None
    assert cache.size_bytes == 0


@pytest.mark.parametrize("limits", [{"ttl_s": 0.0}, {"ttl_s": float("nan")}, {"max_bytes": 0}])
def test_senseless_limits_are_refused(limits: dict[str, float]) -> None:
    """The error names the field."""
    with pytest.raises(InvalidInputError, match=next(iter(limits))):
        InProcessStateCache(clock=ManualClock(), **limits)  # type: ignore[arg-type]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from("abcd"), st.integers(1, 5), st.integers(0, 3000)),
        st.tuples(st.just("get"), st.sampled_from("abcd")),
        st.tuples(st.just("wait"), st.floats(0.0, 40.0)),
        st.tuples(st.just("agent"), st.sampled_from("abcd")),
        st.tuples(st.just("network"), st.sampled_from(["n0", "n1"])),
    ),
    max_size=60,
)


@given(STEPS)
def test_a_copy_is_a_fresh_put_since_it_was_forgotten_and_the_size_is_kept(
    steps: list[tuple[object, ...]],
) -> None:
    """Against a list of everything ever put: nothing else, and nothing stale, comes back."""
    cache, clock = cache_of(max_bytes=6000, ttl_s=60.0)
    held: dict[str, list[tuple[AgentState, float]]] = {name: [] for name in "abcd"}
    for step in steps:
        match step:
            case ("put", str(name), int(version), int(size)):
                put = state(name, version, b"x" * size)
                cache.put(f"n{ord(name) % 2}", put)
                held[name].append((put, clock.monotonic_s()))
            case ("get", str(name)):
                found = cache.get(name)
                fresh = [kept for kept, at in held[name] if clock.monotonic_s() - at < 60.0]
                assert found is None or found in fresh
            case ("wait", float(seconds)):
                clock.advance(seconds)
            case ("agent", str(name)):
                cache.invalidate_agent(name)
                held[name] = []
            case ("network", str(network)):
                cache.invalidate_network(network)
                held |= {name: [] for name in held if f"n{ord(name) % 2}" == network}
        assert 0 <= cache.size_bytes <= 6000


def test_threads_leave_the_size_consistent() -> None:
    """Puts, reads and invalidations from eight threads; at the end everything adds up."""
    cache, _ = cache_of(max_bytes=20_000)
    start = threading.Barrier(8)

    def work(seed: int) -> None:
        start.wait()
        for number in range(400):
            name = f"a{(number * 7 + seed) % 23}"
            cache.put(f"n{number % 3}", state(name, number, b"x" * (number % 900)))
            cache.get(name)
            if number % 50 == seed:
                cache.invalidate_network(f"n{seed % 3}")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = [found for n in range(23) if (found := cache.get(f"a{n}"))]
    assert cache.size_bytes == sum(len(found.body) + 1024 for found in kept)


class CountingStore(InMemoryControlStore):
    """The fake store, which counts reads and can be made to fail after it has stored."""

    reads = 0
    broken = False

    def state(self, agent_id: str) -> AgentState | None:
        """Count the read."""
        self.reads += 1
        return super().state(agent_id)

    def put_states(self, puts: Sequence[StatePut]) -> list[PutResult]:
        """Store, then perhaps lose the answer."""
        results = super().put_states(puts)
        if self.broken:
            raise StoreUnavailableError("connection lost after the commit")
        return results


@pytest.fixture
def states() -> tuple[CountingStore, InProcessStateCache, CachedAgentStates]:
    """A store with two placed agents behind a cache."""
    store = CountingStore()
    shapes = [AgentDeclaration(name, f"net-{name}", "w", "eu", 1, 1) for name in ("a", "b")]
    store.declare_agents(shapes)
    store.place_agents(
        [
            Placement(s.agent_id, s.network_id, "w", "n", "eu", 0, 1, "running", "", AT)
            for s in shapes
        ]
    )
    cache, _ = cache_of()
    return store, cache, CachedAgentStates(store, cache, lambda agent_id: f"net-{agent_id}")


Through = tuple[CountingStore, InProcessStateCache, CachedAgentStates]


def test_a_put_is_read_back_without_asking_the_store(states: Through) -> None:
    """And what the cache holds is exactly what the store holds."""
    store, _, cached = states
    cached.put_states([StatePut("a", 1, 0, b"one"), StatePut("a", 1, 1, b"two")])
    assert cached.state("a") == InMemoryControlStore.state(store, "a")
    assert store.reads == 0


def test_a_read_asks_the_store_once(states: Through) -> None:
    """Absence is not cached: an agent may write its first state at any time."""
    store, cache, cached = states
    store.put_states([StatePut("a", 1, 0, b"one")])
    assert cached.state("a") == cached.state("a")
    assert store.reads == 1
    assert (cached.state("b"), cached.state("b")) == (None, None)
    assert store.reads == 3
    cache.invalidate_network("net-a")
    assert cached.state("a") is not None
    assert store.reads == 4


def test_a_refused_put_drops_the_copy_that_misled_the_writer(states: Through) -> None:
    """Somebody else has written: the next read must see it."""
    store, _, cached = states
    cached.put_states([StatePut("a", 1, 0, b"mine")])
    store.put_states([StatePut("a", 1, 1, b"theirs")])
    (refused,) = cached.put_states([StatePut("a", 1, 1, b"mine again")])
    assert refused.error is not None
    assert not isinstance(refused.error, StaleEpochError)
    found = cached.state("a")
    assert found is not None
    assert found.body == b"theirs"


def test_a_put_whose_answer_was_lost_leaves_no_copy(states: Through) -> None:
    """What was stored is unknown, so the next read asks the store."""
    store, _, cached = states
    cached.put_states([StatePut("a", 1, 0, b"one")])
    store.broken = True
    with pytest.raises(StoreUnavailableError):
        cached.put_states([StatePut("a", 1, 1, b"two")])
    found = cached.state("a")
    assert found is not None
    assert found.body == b"two"
