"""Controller processes of a simulated fleet: the live controller, with clocks of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from fleet.errors import CorruptObjectError, StoreUnavailableError
from fleet.failover.invariants import InvariantChecker
from fleet.failover.records import Decision, Evidence, FailoverState
from fleet.failover.rules import Rule
from fleet.failover.state_json import decode_state, encode_state
from fleet.failover_declaration import FailoverDeclaration
from fleet.probe_reports import NodeContact, Probe
from fleet.probing import ProbePolicy
from ops import failover_controller
from ops.failover_controller import FailoverController, Tick
from ops.failover_evidence import EvidenceReader, Wanted, WatchPorts
from resources.controller_prober import ControllerProber
from resources.leader_lease import LEADER_RENEW_S, LeaderLease
from resources.simulated.clock import VirtualClock
from resources.simulated.probing import CONTROLLER, SimulatedProbes
from tests.ops.failover_world import CrashingCalls

_REGISTRY = frozenset({"registrations_of", "mark_gray", "remove_endpoints"})
_WRITES = frozenset({*CrashingCalls.WRITES, "open_incident", "keep_controller_view"})


class ReachedStore:
    """The store as one process reaches it: away while its switch says so."""

    def __init__(self, store: Any, name: str, away: set[str]) -> None:
        """`away` names who cannot reach it.

        `*` is everybody, `registry` the calls of discovery, `NAME/writes` who can only read;
        with `moves` the journal of moves is damaged, so that none of it can be read.
        """
        self._store, self._name, self._away = store, name, away

    def __getattr__(self, name: str) -> Any:
        """The store's own, or one that fails."""
        found = getattr(self._store, name)
        if not callable(found):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            if "moves" in self._away and name == "decided_moves":
                raise CorruptObjectError("the journal of moves is damaged", hint="repair it")
            registry = "registry" in self._away and name in _REGISTRY
            writes = f"{self._name}/writes" in self._away and name in _WRITES
            if registry or writes or not self._away.isdisjoint((self._name, "*")):
                raise StoreUnavailableError("the store does not answer", hint="wait")
            return found(*args, **kwargs)

        return call


class ProcessClock:
    """A process's clocks: its monotonic one begins anywhere, its wall clock may be off."""

    def __init__(self, clock: VirtualClock, began_s: float, skew_s: float) -> None:
        """Run with `clock`."""
        self._clock, self._began_s, self.skew_s = clock, began_s, skew_s

    def now(self) -> datetime:
        """The wall clock, skewed."""
        return self._clock.now() + timedelta(seconds=self.skew_s)

    def monotonic_s(self) -> float:
        """Seconds since this machine's boot."""
        return self._clock.monotonic_s() + self._began_s


class SimulatedProber(ControllerProber):
    """The controller's own probes, by the truth of a simulated network."""

    def __init__(self, probes: SimulatedProbes) -> None:
        """Ask `probes`."""
        self._probes = probes

    def probe(self, contacts: Sequence[NodeContact]) -> list[Probe]:
        """One for each."""
        return [self._probes.probe(CONTROLLER, one.node_id) for one in contacts]


class RecordingReader(EvidenceReader):
    """Keeps what was read last, for the checker."""

    seen: Evidence

    def read(self, wanted: Wanted) -> Evidence:
        """The real reading."""
        self.seen = super().read(wanted)
        return self.seen


class Mind:
    """What a controller process is made of; all of it dies with the process."""

    def __init__(
        self, ports: WatchPorts, declaration: FailoverDeclaration, probing: ProbePolicy,
        notifier: Any, identity: str, state: FailoverState,
    ) -> None:  # fmt: skip
        """Has looked at nothing yet."""
        self.reader = RecordingReader(ports, declaration.policy, probing, identity)
        self.controller = FailoverController(ports, self.reader, declaration, notifier, state)
        self.lease = ports.leader
        self.campaigned_s = float("-inf")


class SimulatedController:
    """One deployment of the controller: processes that follow each other, with one cursor.

    Args:
        name: of the deployment.
        ports: makes a process's ports from its clock and leader lease.
        declaration: policy and targets.
        probing: as the nodes probe.
        clock: of the simulation.
        without: rules that are switched off.
    """

    def __init__(
        self, name: str, store: Any, ports: Any, declaration: FailoverDeclaration,
        probing: ProbePolicy, clock: VirtualClock, without: frozenset[Rule],
    ) -> None:  # fmt: skip
        """Start the first process."""
        self.name, self.store = name, store
        self._ports, self._declaration, self._probing = ports, declaration, probing
        self._clock, self._without = clock, without
        self.checker = InvariantChecker(declaration.policy)
        self.processes = 0
        self.skew_s = 0.0
        self.paused_until_s = float("-inf")
        self.alerts: list[Any] = []
        self._cursor = ""
        self.mind: Mind | None = None
        self.start()

    def start(self) -> None:
        """A new process, from the cursor that the last one left."""
        self.processes += 1
        identity = f"{self.name}/{self.processes}"
        clock = ProcessClock(self._clock, 1000.0 * self.processes, self.skew_s)
        lease = LeaderLease(self.store, identity, now_s=clock.monotonic_s)
        state = decode_state(self._cursor) if self._cursor else FailoverState()
        ports = self._ports(clock, lease, self.store)
        self.mind = Mind(ports, self._declaration, self._probing, self, identity, state)

    def crash(self) -> None:
        """The process is gone, its lease is not."""
        self.mind = None

    def notify(self, alert: Any) -> None:
        """People are told."""
        self.alerts.append(alert)

    def set_skew(self, skew_s: float) -> None:
        """Set the machine's wall clock wrong."""
        self.skew_s = skew_s
        if self.mind is not None:
            self.mind.reader._ports.clock.skew_s = skew_s  # type: ignore[attr-defined]

    def tick(self) -> Tick | None:
        """Look once, as the sensor does; None when nothing was looked at, or could not be done."""
        now_s = self._clock.monotonic_s()
        mind = self.mind
        if mind is None or now_s < self.paused_until_s:
            return None
        if now_s - mind.campaigned_s >= LEADER_RENEW_S or not mind.lease.leadership().held:
            mind.campaigned_s = now_s
            mind.lease.campaign()
        with decided_without(self._without) as decided:
            try:
                tick = mind.controller.tick()
            except StoreUnavailableError:  # the live sensor skips such a tick, too
                tick = None
        for decision in decided:
            self.checker.observe(mind.reader.seen, decision, now_s)
        if tick is None:
            return None
        self._cursor = encode_state(mind.controller.state)
        return tick


@contextmanager
def decided_without(rules: frozenset[Rule]) -> Iterator[list[Decision]]:
    """Let the live controller decide without some rules, to see whether anybody notices.

    Yields:
        What is decided meanwhile: also a decision that cannot be carried out counts.
    """
    whole = failover_controller.decide
    decided: list[Decision] = []

    def decide(*arguments: Any) -> Decision:
        decided.append(whole(*arguments, without=rules))
        return decided[-1]

    failover_controller.decide = decide  # type: ignore[assignment]
    try:
        yield decided
    finally:
        failover_controller.decide = whole
