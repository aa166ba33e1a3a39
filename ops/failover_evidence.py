"""What a controller sees of the fleet in one tick, read in a handful of light queries.

The reader keeps what has to be remembered to know ages (`ReceiverAges`, `VoteBook`): it lives as
long as the process that ticks. A new process knows no ages, and waits in full.
"""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from fleet.decided_moves import DecidedMove
from fleet.errors import StateroomError, StoreUnavailableError
from fleet.failover.ages import NEVER, Channel, ReceiverAges
from fleet.failover.columns import Infrastructure, NodeColumns, node_columns
from fleet.failover.policy import FailoverPolicy
from fleet.failover.records import AgentCrashes, Evidence, IncidentFact, LeaderFacts
from fleet.incidents import IncidentKind
from fleet.inventory import NodePhase
from fleet.node_beats import NodeBeat
from fleet.operator_orders import select_live_maintenances
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.ports.infrastructure import InfrastructureReader
from fleet.ports.service_registry import ServiceRegistry
from fleet.probe_reports import Roster
from fleet.probe_votes import VoteBook
from fleet.probing import ProbePolicy, plan_probes
from ops.failover_directives import read_directives
from ops.failover_pending import PendingAgents
from resources.controller_prober import ControllerProber
from resources.leader_lease import LeaderLease

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_log = logging.getLogger(__name__)

_ABROAD_EVERY_S = 2.0
"""Between two counts of agents per node and away from home, which read every placement's index."""

_CRASHES_EVERY_S = 5.0
"""Between two looks for agents that crash again and again."""


_INCIDENTS_MAX = 20_000
"""More than a fleet of 10,000 nodes can have open at once: one for each, and some beside."""


class Wanted(NamedTuple):
    """What is asked for beside the light reads of every tick."""

    suspects: Collection[str] = ()
    """Nodes that the controller probes itself: those that are not plainly healthy."""
    returned: Collection[str] = ()
    """Nodes on probation, of which must be known what they still run."""
    doomed: Collection[str] = ()
    """Nodes on their way out, of which must be known who may go ahead of the fence."""
    moves_term: int | None = None
    """The term of ours in which earlier leaders' moves were counted in; in another one that we hold
    they are read."""


@dataclass(slots=True)
class WatchPorts:
    """What a controller looks through."""

    store: ControlStore
    clock: Clock
    leader: LeaderLease
    prober: ControllerProber
    infrastructure: InfrastructureReader | None = None
    """None: nobody says that a node is gone for certain."""
    registry: ServiceRegistry | None = None
    """Of services; None: the store."""


@dataclass(slots=True)
class _Cached:
    """What is read less often than every tick."""

    at_s: float = float("-inf")
    running: Mapping[str, int] = field(default_factory=dict)
    abroad: Mapping[str, int] = field(default_factory=dict)
    crashes_at_s: float = float("-inf")
    crashes: tuple[AgentCrashes, ...] = ()


class EvidenceReader:
    """Reads one tick's evidence; one thread uses it.

    Args:
        ports: what it looks through.
        policy: of failover.
        probing: how nodes are probed; the same as the supervisors'.
        clock_id: names this process's monotonic clock; another one restarts all ages.
    """

    def __init__(
        self, ports: WatchPorts, policy: FailoverPolicy, probing: ProbePolicy, clock_id: str
    ) -> None:
        """Nothing has been seen yet."""
        self._ports, self._policy, self._probing = ports, policy, probing
        self._clock_id = clock_id
        self._ages = ReceiverAges((), policy)
        self._roster = Roster(-1, ())
        self._votes = VoteBook((), plan_probes((), probing), probing)
        self._work_cursor = 0
        self._work: dict[str, int] = {}
        self._cached = _Cached()
        self._pending = PendingAgents(ports.store, ports.clock)
        self._columns: NodeColumns | None = None

    def read(self, wanted: Wanted) -> Evidence:
        """Everything that is known now; a store that does not answer is evidence as well."""
        leader = self._leader()
        try:
            evidence = self._read(leader, wanted)
            if leader.held and leader.term != wanted.moves_term:
                evidence = replace(
                    evidence,
                    earlier_moves=self._earlier_moves(),
                    earlier_evacuations=self._earlier_evacuations(evidence.agents_abroad),
                )
        except StoreUnavailableError:
            return Evidence(
                at=self._ports.clock.now(),
                clock_id=self._clock_id,
                nodes=self._columns or node_columns((), ()),
                leader=leader,
                store_reachable=False,
                observers_configured=self._votes.observers_configured(),
                earlier_moves=None,
            )
        return evidence

    def _earlier_moves(self) -> tuple[DecidedMove, ...] | None:
        """Moves of all leaders; None, and the controller freezes, when they cannot be had.

        Raises:
            StoreUnavailableError: the store does not answer at all.
        """
        try:
            return tuple(self._ports.store.decided_moves(self._policy.moves_window_s))
        except StoreUnavailableError:
            raise
        except StateroomError:
            _log.exception("moves of earlier leaders cannot be read")
            return None

    def _earlier_evacuations(self, abroad: Mapping[str, int]) -> Mapping[str, str]:
        """The newest incident of each region whose agents are abroad, where the store has one."""
        found: dict[str, str] = {}
        incidents = self._ports.store.incidents(limit=_INCIDENTS_MAX) if abroad else []
        for one in incidents:
            if one.kind == IncidentKind.REGION and one.subject in abroad:
                found.setdefault(one.subject, one.incident_id)
        return found

    def restart(self) -> None:
        """Believe nothing that was seen before: after a freeze, or a pause of our own."""
        self._votes.restart()

    def _leader(self) -> LeaderFacts:
        """How our lease stands; it is renewed by its own thread, far more often than it must be."""
        now = self._ports.leader.leadership()
        renewed = now.held and (now.age_s or 0.0) < now.left_s
        return LeaderFacts(now.held, now.term, now.left_s, renewed, now.holder)

    def _read(self, leader: LeaderFacts, wanted: Wanted) -> Evidence:
        ports = self._ports
        self._follow_roster()
        beats = ports.store.node_beats()
        now_s = ports.clock.monotonic_s()
        self._votes.take(ports.store.probe_reports(), now_s)
        suspects = wanted.suspects
        contacts = ports.store.node_contacts(sorted(suspects)) if suspects else []
        self._votes.take_own(ports.prober.probe([one for one in contacts if one.address]), now_s)
        self._refresh(now_s)
        incidents = ports.store.incidents(open_only=True, limit=_INCIDENTS_MAX)
        directives = read_directives(ports.store, incidents)
        returned, doomed = sorted(wanted.returned), sorted(wanted.doomed)
        stale = ports.store.stale_copies(returned) if returned else {}
        stateless = ports.store.stateless_counts(doomed) if doomed else {}
        self._columns = self._columns_of(beats, now_s, directives.forced, stale, stateless)
        return Evidence(
            at=ports.clock.now(),
            clock_id=self._clock_id,
            nodes=self._columns,
            leader=leader,
            observers_configured=self._votes.observers_configured(),
            observers_reporting=self._votes.observers_reporting(now_s),
            directives=directives,
            crashes=self._cached.crashes,
            incidents=tuple(
                IncidentFact(
                    one.incident_id, f"{one.kind}/{one.subject}", self._pending.count(one, now_s)
                )
                for one in incidents
            ),
            agents_abroad=self._cached.abroad,
        )

    def _follow_roster(self) -> None:
        if self._ports.store.roster_version() == self._roster.version:
            return
        self._roster = self._ports.store.roster()
        members = self._roster.members
        self._votes.replan(members, plan_probes(members, self._probing))

    def _refresh(self, now_s: float) -> None:
        cached, store = self._cached, self._ports.store
        if now_s - cached.at_s >= _ABROAD_EVERY_S:
            counts = store.placement_counts()
            cached.at_s, cached.running, cached.abroad = now_s, counts.running, counts.abroad
        if now_s - cached.crashes_at_s >= _CRASHES_EVERY_S:
            cached.crashes_at_s = now_s
            cached.crashes = _crash_loops(store, self._policy)

    def forget_counts(self) -> None:
        """Count placements anew in the next tick: they have just been changed."""
        self._cached.at_s = float("-inf")

    def _columns_of(
        self,
        beats: list[NodeBeat],
        now_s: float,
        forced: Collection[str],
        stale: Mapping[str, int],
        stateless: Mapping[str, int],
    ) -> NodeColumns:
        members = {one.node_id: one for one in self._roster.members}
        beats = [one for one in beats if one.node_id in members]
        names = tuple(one.node_id for one in beats)
        self._ages = self._ages.watching(names)
        self._see(beats, names, now_s)
        regions = tuple(sorted({one.region for one in self._roster.members}))
        index = {region: number for number, region in enumerate(regions)}
        codes = self._infrastructure(beats)
        terminated_s = self._ages.see_terminated(codes == Infrastructure.TERMINATED, now_s)
        votes = self._votes.columns(names, now_s)
        return node_columns(
            names,
            regions,
            region_index=[index[members[name].region] for name in names],
            heartbeat_age_s=self._ages.age_s(Channel.HEARTBEAT, now_s),
            heartbeat_mean_s=self._ages.mean_s(),
            lease_age_s=self._ages.age_s(Channel.LEASE, now_s),
            lease_ttl_s=[one.ttl_s for one in beats],
            work_age_s=self._ages.age_s(Channel.WORK, now_s),
            infrastructure=codes,
            terminated_age_s=terminated_s,
            stop_acknowledged=[
                self._has_stopped(one, members[one.node_id].region, forced) for one in beats
            ],
            maintenance=self._maintenance(names, members),
            agents=[self._cached.running.get(name, 0) for name in names],
            agents_stateless=[stateless.get(name, 0) for name in names],
            agents_stale=[stale.get(name, 0) for name in names],
            **votes._asdict(),
        )

    def _has_stopped(self, beat: NodeBeat, region: str, forced: Collection[str]) -> bool:
        """Whether a node has given its right to act back, or was emptied by order (its region's).

        The run of a forced order stops a living node's agents before it moves them.
        """
        ordered = f"node/{beat.node_id}" in forced or f"region/{region}" in forced
        return beat.released or (ordered and beat.node_id not in self._cached.running)

    def _see(self, beats: list[NodeBeat], names: tuple[str, ...], now_s: float) -> None:
        import numpy as np

        work = self._ports.store.work_seen(self._work_cursor)
        self._work_cursor = work.cursor
        self._work.update((one.node_id, one.worked_us) for one in work.nodes)
        tokens = {
            Channel.HEARTBEAT: [one.heartbeat_us or NEVER for one in beats],
            Channel.LEASE: [one.renewed_us or NEVER for one in beats],
            Channel.WORK: [self._work.get(name, NEVER) for name in names],
        }
        for channel, values in tokens.items():
            self._ages.see(channel, np.asarray(values, dtype=np.int64), now_s)

    def _infrastructure(self, beats: list[NodeBeat]) -> "npt.NDArray[np.int8]":
        """Codes per node; a word about another boot than the one that acts is no word."""
        import numpy as np

        codes = np.full(len(beats), Infrastructure.UNKNOWN, dtype=np.int8)
        reader = self._ports.infrastructure
        if reader is None:
            return codes
        said = {one.node_id: one for one in reader.verdicts()}
        for number, beat in enumerate(beats):
            verdict = said.get(beat.node_id)
            if verdict is None:
                continue
            certain = verdict.phase in {NodePhase.TERMINATED, NodePhase.STOPPED}
            if certain and beat.acting_boot and verdict.boot_id not in {"", beat.acting_boot}:
                continue
            codes[number] = Infrastructure.of(verdict.phase)
        return codes

    def _maintenance(self, names: tuple[str, ...], members: Mapping[str, Any]) -> list[bool]:
        marks = self._ports.store.maintenances()
        live = select_live_maintenances(marks, self._ports.clock.now())
        subjects = {one.subject for one in live}
        if not subjects:
            return [False] * len(names)
        return [
            f"node/{name}" in subjects or f"region/{members[name].region}" in subjects
            for name in names
        ]


def _crash_loops(store: ControlStore, policy: FailoverPolicy) -> tuple[AgentCrashes, ...]:
    """Agents that were started again too often; nothing is read where none has failed."""
    failing = [one.region for one in store.fleet_counts() if one.agents_failed]
    return tuple(
        AgentCrashes(agent.agent_id, agent.node_id, agent.epoch, agent.restarts)
        for region in failing
        for agent in store.agents(region)
        if agent.restarts >= policy.crash_restarts_max
    )
