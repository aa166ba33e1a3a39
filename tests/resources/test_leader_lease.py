"""Exactly one controller may act, and a leader that was paused is refused by the store."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet.agents import Placement
from fleet.errors import InvalidInputError, LeaseLostError, StoreUnavailableError
from fleet.leases import LEADER_LEASE, Lease
from fleet.ports.control_store import ControlStore
from fleet.reports import AgentDeclaration
from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from resources.leader_lease import LeaderLease
from tests.fakes.clock import ManualClock
from tests.fakes.control_store import InMemoryControlStore
from tests.servers.empty_stores import postgres_url, sqlite_url
from tests.servers.postgres import PostgresServer

AT = datetime(2026, 3, 1, tzinfo=UTC)


class Silence(InMemoryControlStore):
    """A store that does not answer while the test says so."""

    silent = False

    def acquire_lease(self, name: str, holder: str, ttl_s: float) -> Lease:
        """Unless it is silent."""
        self._answer()
        return super().acquire_lease(name, holder, ttl_s)

    def renew_lease(self, lease: Lease) -> Lease:
        """Unless it is silent."""
        self._answer()
        return super().renew_lease(lease)

    def _answer(self) -> None:
        if self.silent:
            raise StoreUnavailableError("no answer")


@pytest.fixture
def clock() -> ManualClock:
    """Time of everybody."""
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> Silence:
    """A store that can fall silent."""
    return Silence(clock)


def candidate(store: InMemoryControlStore, name: str, clock: ManualClock) -> LeaderLease:
    """A candidate with the shipped times, by the test's clock."""
    return LeaderLease(store, name, now_s=clock.monotonic_s)


def test_the_first_candidate_leads_and_the_other_knows_whom_it_follows(
    store: Silence, clock: ManualClock
) -> None:
    """Nobody acts before asking; the second is told who holds it."""
    one, two = candidate(store, "one", clock), candidate(store, "two", clock)
    with pytest.raises(LeaseLostError, match="not asked for yet"):
        one.demand_term()
    assert one.campaign()[:2] == (True, 1)
    followed = two.campaign()
    assert (followed.held, followed.holder) == (False, "one")
    assert "held by one, term 1" in followed.reason
    assert one.demand_term() == 1
    with pytest.raises(LeaseLostError, match="held by one"):
        two.demand_term()


def test_a_leader_that_cannot_renew_stops_before_anybody_can_follow(
    store: Silence, clock: ManualClock
) -> None:
    """At no moment do both hold it, and there is a moment in which neither does."""
    one, two = candidate(store, "one", clock), candidate(store, "two", clock)
    one.campaign()
    store.silent = True
    held = []
    for _ in range(40):
        clock.advance(0.5)
        one.campaign()
        store.silent = False
        two.campaign()
        store.silent = True
        held.append((one.leadership().held, two.leadership().held))
    assert (True, True) not in held
    assert held[0] == (True, False)
    assert (False, False) in held
    assert held[-1] == (False, True)
    assert held.index((False, False)) * 0.5 < 15.0
    assert two.demand_term() == 2


def test_a_tick_says_whether_the_lease_was_renewed_in_it(
    store: Silence, clock: ManualClock
) -> None:
    """Held but not renewed is no licence: the store may have left us."""
    one, two = candidate(store, "one", clock), candidate(store, "two", clock)
    assert one.tick() == (True, 1, 12.5, True, "one")
    assert two.tick() == (False, 0, 0.0, False, "one")
    clock.advance(1.0)
    store.silent = True
    assert one.tick() == (True, 1, 11.5, False, "one")
    store.silent = False
    assert one.tick() == (True, 1, 12.5, True, "one")


def test_an_act_that_would_outlast_the_lease_is_refused(store: Silence, clock: ManualClock) -> None:
    """12.5 s after the sending of the last renewal nothing may be under way."""
    one = candidate(store, "one", clock)
    one.campaign()
    clock.advance(10.0)
    assert one.demand_term(2.5) == 1
    with pytest.raises(LeaseLostError, match=r"it ends in 2\.5 s, 2\.6 s are needed"):
        one.demand_term(2.6)
    clock.advance(2.5)
    with pytest.raises(LeaseLostError, match=r"not renewed for 12\.5 s"):
        one.demand_term()


def test_a_renewal_counts_from_its_sending(store: Silence, clock: ManualClock) -> None:
    """An answer that took 13 s brings a lease that is over for us."""
    one = candidate(store, "one", clock)
    slow = store.acquire_lease

    def acquire(name: str, holder: str, ttl_s: float) -> Lease:
        lease = slow(name, holder, ttl_s)
        clock.advance(13.0)
        return lease

    store.acquire_lease = acquire  # type: ignore[method-assign]
    assert not one.campaign().held


def test_a_gap_is_followed_by_a_new_term_also_when_nobody_led_meanwhile(
    store: Silence, clock: ManualClock
) -> None:
    """What was planned before it is stale."""
    one = candidate(store, "one", clock)
    one.campaign()
    clock.advance(5.0)
    assert one.campaign().term == 1
    clock.advance(16.0)
    assert not one.leadership().held
    assert one.campaign()[:2] == (True, 2)


def test_resigning_lets_the_next_one_lead_at_once(store: Silence, clock: ManualClock) -> None:
    """Without waiting for the ttl; resigning without a lease does nothing."""
    one, two = candidate(store, "one", clock), candidate(store, "two", clock)
    two.resign()
    one.campaign()
    one.resign()
    with pytest.raises(LeaseLostError, match="resigned"):
        one.demand_term()
    assert two.campaign()[:2] == (True, 2)


def test_times_without_room_for_failures_are_refused(store: Silence) -> None:
    """Patroni's rule: two renewals may fail before the lease ends."""
    with pytest.raises(InvalidInputError, match="renew_s"):
        LeaderLease(store, "one", ttl_s=15.0, renew_s=6.0)
    with pytest.raises(InvalidInputError, match="candidate"):
        LeaderLease(store, "")


def test_a_kept_lease_is_renewed_beside_the_work_and_released_at_its_end() -> None:
    """By a thread, in real time."""
    store = InMemoryControlStore(SystemClock())
    lease = LeaderLease(store, "one", ttl_s=0.6, renew_s=0.1)
    with lease.kept():
        deadline_s = time.monotonic() + 20.0
        while not (held := store.lease(LEADER_LEASE)) or held.renewed_at == held.expires_at:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        first = held.renewed_at
        while (again := store.lease(LEADER_LEASE)) is None or again.renewed_at <= first:
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
    released = store.lease(LEADER_LEASE)
    assert released is not None
    assert released.holder == ""
    with pytest.raises(LeaseLostError):
        lease.demand_term()


# -- real processes on real stores ----------------------------------------------------------------


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new store."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path)
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return postgres_url(server, f"leader_{abs(hash(tmp_path))}")


HEAD = """
import sys, time
from datetime import UTC, datetime
from fleet.agents import Placement
from fleet.errors import LeaseLostError, TransientError
from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from resources.leader_lease import LeaderLease

url, name, ttl_s = sys.argv[1], sys.argv[2], float(sys.argv[3])
store = open_control_store(url, clock=SystemClock())
lease = LeaderLease(store, name, ttl_s=ttl_s, renew_s=ttl_s / 3)

def move(agent_id, epoch, term):
    at = datetime.now(UTC)
    order = Placement(agent_id, "net", "w", name, "eu", epoch, term, "running", "", at)
    return store.place_agents([order], leader_term=term)

def say(*words):
    print(*words, flush=True)
"""

CONTENDER = """
for line in sys.stdin:
    if line.strip() == "end":
        break
    end_s = time.monotonic() + float(line)
    while time.monotonic() < end_s:
        try:
            lease.campaign()
            term = lease.demand_term()
            (now,) = store.placements()
            if move("a", now.epoch, term):
                say("moved", now.epoch + 1, term)
        except (LeaseLostError, TransientError):
            time.sleep(0.002)
    say("paused")
store.close()
"""

PAUSED = """
while not lease.campaign().held:
    pass
term = lease.demand_term()
say("may act", term)
sys.stdin.readline()  # SIGSTOP meets it here: after its own look, before the store's
for what in ("own clock", "store"):
    try:
        if what == "own clock":
            lease.demand_term()
        else:
            say(what, "moved", len(move("a", 1, term)))
    except LeaseLostError as error:
        say(what, "refused", error)
say("campaign", lease.campaign().held)
store.close()
"""


def declare(url: str) -> ControlStore:
    """A store with one agent on node `start`, epoch 1."""
    store = open_control_store(url, clock=SystemClock())
    store.declare_agents([AgentDeclaration("a", "net", "w", "eu", 1, 1)])
    store.place_agents([Placement("a", "net", "w", "start", "eu", 0, 0, "running", "", AT)])
    return store


def tell(process: subprocess.Popen[str], line: str) -> None:
    """Write one line to a process."""
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> str:
    """Read one line of a process, which says more or ends."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    return line.rstrip("\n")


def test_of_two_contending_processes_exactly_one_acts_under_each_term(
    url: str, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    """Every epoch has one mover, every term one holder, and terms never fall back."""
    store = declare(url)
    contenders = {name: start_python(HEAD + CONTENDER, url, name, "0.9") for name in ("x", "y")}
    moves: list[tuple[int, int, str]] = []
    for pause_s in (0.0, 1.0):
        time.sleep(pause_s)  # the lease runs out; either may have it next
        for process in contenders.values():
            tell(process, "1.5")
        for name, process in contenders.items():
            while (line := hear(process)) != "paused":
                _, epoch, term = line.split()
                moves.append((int(epoch), int(term), name))
    for process in contenders.values():
        tell(process, "end")
        assert process.wait(30) == 0
    moves.sort()
    assert [epoch for epoch, _, _ in moves] == list(range(2, 2 + len(moves)))
    terms = [term for _, term, _ in moves]
    assert terms == sorted(terms)
    assert len(set(terms)) >= 2
    assert len({(term, name) for _, term, name in moves}) == len(set(terms))
    store.close()


@pytest.mark.parametrize("followed", [False, True])
def test_a_leader_paused_past_its_ttl_is_refused_by_the_store(
    url: str, followed: bool, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    """SIGSTOP between its look and its act: whether or not another one leads by then."""
    store = declare(url)
    leader = start_python(HEAD + PAUSED, url, "paused", "1.5")
    may_act, _, term = hear(leader).rpartition(" ")
    assert may_act == "may act"
    os.kill(leader.pid, signal.SIGSTOP)
    time.sleep(2.0)
    if followed:
        assert store.acquire_lease(LEADER_LEASE, "next", 60.0).term == int(term) + 1
    tell(leader, "go on")
    os.kill(leader.pid, signal.SIGCONT)
    own, judged, after = hear(leader), hear(leader), hear(leader)
    assert own.startswith("own clock refused paused does not lead")
    reason = f"term {int(term) + 1} has followed" if followed else "its lease ran out at"
    assert judged.startswith(f"store refused leader term {term} leads no more: {reason}")
    assert after == f"campaign {not followed}"
    assert leader.wait(30) == 0
    assert [(p.node_id, p.epoch) for p in store.placements()] == [("start", 1)]
    store.close()
