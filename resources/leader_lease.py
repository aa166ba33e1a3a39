"""The controller's right to act: one leader at a time, and it stops before its time is over.

A term is good from the moment its renewal was *sent* until a margin before the ttl has passed, by a
clock that also counts while the machine sleeps. The store dates the lease later than we do, so our
count ends first. A paused leader wakes up with this clock moved on and demotes itself; what it had
looked up before the pause is refused by the store (`place_agents(..., leader_term=...)`).

Times as Patroni has them (ttl 30, loop 10), halved: two renewals may fail before the end.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import NamedTuple

from fleet.errors import InvalidInputError, LeaseLostError, StateroomError, TransientError
from fleet.failover.records import LeaderFacts
from fleet.leases import LEADER_LEASE, Lease
from fleet.ports.control_store import LeaseStore
from resources.local.linux_processes import boottime_s

LEADER_TTL_S = 15.0
"""Longest time without a leader after one has died."""
LEADER_RENEW_S = 5.0
"""Between two renewals; a candidate tries as often."""

_log = logging.getLogger(__name__)


class Leadership(NamedTuple):
    """How things stand at one moment, by our own clock."""

    held: bool
    """We may act."""
    term: int
    """Of our last lease, 0 before the first."""
    left_s: float
    """Until we must have stopped acting; 0 when not held."""
    age_s: float | None
    """Since the last renewal that succeeded was sent; None before the first."""
    holder: str
    """Who leads, as far as we know: ourselves, or whom the store named when it refused us."""
    reason: str
    """Why it is not held; empty while it is."""


class LeaderLease:
    """One candidate's hold on the leader lease; safe for threads.

    Call `campaign` at least every `renew_s` (or let `kept` do so), and `demand_term` at the very
    moment of each act.
    """

    def __init__(
        self,
        store: LeaseStore,
        candidate: str,
        *,
        ttl_s: float = LEADER_TTL_S,
        renew_s: float = LEADER_RENEW_S,
        name: str = LEADER_LEASE,
        now_s: Callable[[], float] = boottime_s,
    ) -> None:
        """Hold nothing yet.

        Args:
            store: judges who leads.
            candidate: unique to this process and start, such as `<host>/<pid>/<random>`.
            ttl_s: of the lease.
            renew_s: between renewals; three of them must fit into the ttl.
            name: of the lease.
            now_s: seconds that go on while the machine sleeps; only differences count.

        Raises:
            InvalidInputError: no candidate, or times that leave no room for a failed renewal.
        """
        if not candidate:
            raise InvalidInputError("candidate", candidate, "a text that is not empty")
        if not 0.0 < renew_s <= ttl_s / 3:
            allowed = f"seconds above 0, at most a third of ttl_s ({ttl_s:g})"
            raise InvalidInputError("renew_s", renew_s, allowed)
        self._store = store
        self._candidate = candidate
        self._ttl_s, self._renew_s, self._name = ttl_s, renew_s, name
        self._now_s = now_s
        self._good_s = ttl_s - renew_s / 2
        """How long a renewal is good for us, from its sending: what is left is for an act that has
        begun, and for the store's answer to it."""
        self._lock = threading.Lock()
        self._calls = threading.Lock()
        self._lease: Lease | None = None
        self._sent_s: float | None = None
        self._holder = ""
        self._reason = "not asked for yet"

    def campaign(self) -> Leadership:
        """Take or renew the lease now; how things stand afterwards.

        A store that does not answer leaves a held term as it is, until its time is over.
        """
        with self._calls:
            sent_s = self._now_s()
            try:
                lease = self._ask()
            except LeaseLostError as error:
                held = self._holder_of()
                with self._lock:
                    self._lease, self._sent_s = None, None
                    self._holder, self._reason = held, str(error)
            except TransientError as error:
                with self._lock:
                    self._reason = str(error)
                _log.warning("leader lease: %s", error)
            else:
                with self._lock:
                    self._lease, self._sent_s = lease, sent_s
                    self._holder, self._reason = self._candidate, ""
        return self.leadership()

    def tick(self) -> LeaderFacts:
        """Campaign now, and say how it went as a decision wants to know it."""
        with self._lock:
            before_s = self._sent_s
        now = self.campaign()
        with self._lock:
            renewed = now.held and self._sent_s is not None and self._sent_s != before_s
        return LeaderFacts(now.held, now.term, now.left_s, renewed, now.holder)

    def leadership(self) -> Leadership:
        """How things stand now; asks nobody."""
        with self._lock:
            lease, sent_s = self._lease, self._sent_s
            holder, reason = self._holder, self._reason
        term = 0 if lease is None else lease.term
        if lease is None or sent_s is None:
            return Leadership(False, term, 0.0, None, holder, reason)
        age_s = self._now_s() - sent_s
        left_s = self._good_s - age_s
        if left_s <= 0:
            late = f"not renewed for {age_s:.1f} s; a renewal is good for {self._good_s:g} s"
            return Leadership(False, term, 0.0, age_s, "", f"{late}; {reason}".rstrip("; "))
        return Leadership(True, term, left_s, age_s, holder, "")

    def store_time(self) -> datetime | None:
        """The store's clock as we know it: its word at our last renewal, and what passed since.

        At most as late as that renewal's answer took, never early. None before the first.
        """
        with self._lock:
            lease, sent_s = self._lease, self._sent_s
        if lease is None or sent_s is None:
            return None
        return lease.renewed_at + timedelta(seconds=self._now_s() - sent_s)

    def demand_term(self, needed_s: float = 0.0) -> int:
        """The term to act under, now.

        Args:
            needed_s: how long the act takes: the term must be good for so long.

        Raises:
            LeaseLostError: it is not held, or not for long enough; nothing may be done.
        """
        now = self.leadership()
        if now.held and now.left_s >= needed_s:
            return now.term
        why = now.reason or f"it ends in {now.left_s:.1f} s, {needed_s:g} s are needed"
        raise LeaseLostError(
            f"{self._candidate} does not lead: {why}",
            hint="Do nothing. Who leads: stateroom status; a new leader decides anew.",
        )

    def resign(self) -> None:
        """Give the lease up, so that the next leader need not wait for its end.

        Raises:
            StoreUnavailableError: the store was not told; we do not act all the same, and the lease
                runs out there.
        """
        with self._calls:
            with self._lock:
                lease, self._lease, self._sent_s = self._lease, None, None
                self._holder, self._reason = "", "resigned"
            if lease is not None:
                self._store.release_lease(lease)

    @contextmanager
    def kept(self) -> Iterator[LeaderLease]:
        """Campaign in a thread of its own while the block runs; resigns at its end."""
        ended = threading.Event()
        thread = threading.Thread(
            target=self._keep, args=(ended,), name="leader-lease", daemon=True
        )
        thread.start()
        try:
            yield self
        finally:
            ended.set()
            thread.join()
            self._try_to_resign()

    def _keep(self, ended: threading.Event) -> None:
        while not ended.is_set():
            began_s = self._now_s()
            try:
                self.campaign()
            except StateroomError:
                _log.exception("leader lease: it can never be had like this")
            ended.wait(max(0.0, self._renew_s - (self._now_s() - began_s)))

    def _try_to_resign(self) -> None:
        try:
            self.resign()
        except TransientError as error:
            _log.warning("leader lease: not released, it runs out by itself: %s", error)

    def _ask(self) -> Lease:
        """A renewal while we hold it; else a lease of the next term, once it is free.

        A lease that ran out in the store while nobody took it could be renewed under its old term.
        It is taken anew instead: what was planned before the gap is stale, and the term says so.
        """
        lease = self._lease
        if lease is not None and self.leadership().held:
            return self._store.renew_lease(lease)
        return self._store.acquire_lease(self._name, self._candidate, self._ttl_s)

    def _holder_of(self) -> str:
        try:
            lease = self._store.lease(self._name)
        except TransientError:
            return ""
        return "" if lease is None else lease.holder
