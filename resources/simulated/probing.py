"""What observers of a simulated cluster see of each other, and what its infrastructure says.

Probes follow the truth of nodes and networks at the moment of the round: a node that is down or
frozen answers nobody, a link that is cut carries nothing. Beside the cluster's own faults, single
links can be cut (one way), and observers can go blind: they reach nobody and know nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from fleet.inventory import NodePhase
from fleet.ports.infrastructure import InfrastructureVerdict
from fleet.probe_reports import Probe, ProbeOutcome, ProbeReport, RosterMember
from fleet.probing import ProbePolicy, choose_helpers, plan_probes
from resources.simulated.cluster import SimulatedCluster
from resources.simulated.faulting import ALL_REGIONS
from resources.simulated.heartbeats import Condition
from resources.simulated.machinery import infrastructure_phase

_PLAIN = Condition()

EVERYBODY = "*"
"""Stands for all nodes and the controller at one end of a cut link."""

CONTROLLER = "controller"
"""The controller's own probes, as one end of a link."""


class SimulatedProbes:
    """One round of probes after another, as real supervisors make them.

    Args:
        cluster: whose truth decides.
        policy: how nodes are probed.
    """

    def __init__(self, cluster: SimulatedCluster, policy: ProbePolicy) -> None:
        """Plan who observes whom; nobody has probed yet."""
        self._machinery = cluster.machinery
        self._clock, self._policy = cluster.clock, policy
        nodes = (node.declaration for node in self._machinery.nodes.values())
        self._members = [RosterMember(node.node_id, node.region, node.zone) for node in nodes]
        self._members.sort()
        self._targets = plan_probes(self._members, policy).targets
        self._failures: dict[tuple[str, str], int] = {}
        self.rounds = 0
        """Made so far."""
        self.cut: set[tuple[str, str]] = set()
        """Links that carry nothing, as (from, to); an end may be `EVERYBODY`."""
        self.blind: set[str] = set()
        """Observers that hear no answer, and believe what they see."""

    def round(self) -> list[ProbeReport]:
        """Let every observer that works probe its nodes once.

        Returns:
            The reports that reach the store, ordered by observer; those of a node that is cut off
            from it are lost.
        """
        self.rounds += 1
        reports = []
        for observer_id, targets in self._targets.items():
            node = self._machinery.nodes[observer_id]
            if not node.condition.works:
                continue
            probes = tuple(self.probe(observer_id, target_id) for target_id in targets)
            if not node.condition.store_cut:
                boot_id = f"{observer_id}.{node.boot}"
                at = self._clock.now()
                reports.append(ProbeReport(observer_id, boot_id, self.rounds, at, probes))
        return reports

    def probe(self, observer_id: str, target_id: str) -> Probe:
        """What one observer sees of one node now; `CONTROLLER` asks no helpers."""
        key = observer_id, target_id
        blind = observer_id in self.blind
        if not blind and self.reaches(observer_id, target_id):
            self._failures.pop(key, None)
            boot_id = f"{target_id}.{self._machinery.nodes[target_id].boot}"
            return Probe(target_id, ProbeOutcome.ANSWERED, boot_id, 0, 1.0, "")
        helped = ProbeOutcome.SILENT
        if observer_id != CONTROLLER and not blind:
            helped = self._ask_helpers(observer_id, target_id)
        if helped is ProbeOutcome.RELAYED:
            self._failures.pop(key, None)
            return Probe(target_id, helped, "", 0, None, "a helper reached it")
        failures = self._failures.get(key, 0) + (helped is ProbeOutcome.SILENT)
        self._failures[key] = failures
        return Probe(target_id, helped, "", failures, None, "no answer")

    def _ask_helpers(self, observer_id: str, target_id: str) -> ProbeOutcome:
        helpers = choose_helpers(
            observer_id,
            target_id,
            self._members,
            count=self._policy.helpers,
            round_number=self.rounds,
        )
        answering = [one for one in helpers if self.reaches(observer_id, one)]
        if any(self.reaches(one, target_id) for one in answering):
            return ProbeOutcome.RELAYED
        return ProbeOutcome.SILENT if answering else ProbeOutcome.UNSURE

    def reaches(self, sender: str, receiver: str) -> bool:
        """Tell whether a request of one gets an answer of the other: both ways must carry."""
        if self.cut and not self._links({sender, EVERYBODY}, {receiver, EVERYBODY}):
            return False
        there = self._machinery.nodes[receiver]
        if sender == CONTROLLER:
            return there.condition.works and not there.condition.controller_cut
        here = self._machinery.nodes[sender]
        if here.condition == _PLAIN == there.condition:
            return True
        if not (here.condition.works and there.condition.works):
            return False
        own, other = here.declaration.region, there.declaration.region
        if own == other:
            return True
        apart = {ALL_REGIONS, other} & here.condition.cut_regions
        return not (apart or {ALL_REGIONS, own} & there.condition.cut_regions)

    def _links(self, these: set[str], those: set[str]) -> bool:
        ends = [(one, two) for one in these for two in those]
        return self.cut.isdisjoint(ends) and self.cut.isdisjoint((b, a) for a, b in ends)


class SimulatedInfrastructure:
    """`fleet.ports.InfrastructureReader`: what runs the simulated nodes says what became of them.

    Args:
        cluster: whose nodes they are.
    """

    def __init__(self, cluster: SimulatedCluster) -> None:
        """Look at the cluster at each call."""
        self._machinery, self._clock = cluster.machinery, cluster.clock
        self.answers = True
        """Whether it can be asked at all; else every node is UNKNOWN."""
        self.buried: set[str] = set()
        """Nodes that it calls terminated although they may be alive."""

    def verdicts(self, node_ids: Sequence[str] | None = None) -> list[InfrastructureVerdict]:
        """What it says of these nodes, or of all, ordered by node_id."""
        names = sorted(self._machinery.nodes if node_ids is None else node_ids)
        return [self._verdict(name) for name in names]

    def _verdict(self, node_id: str) -> InfrastructureVerdict:
        node = self._machinery.nodes.get(node_id)
        if node is None or not self.answers:
            return InfrastructureVerdict(node_id, NodePhase.UNKNOWN, "", None, "no answer")
        buried = node_id in self.buried
        phase = NodePhase.TERMINATED if buried else infrastructure_phase(node)
        at = self._clock.now() if phase is NodePhase.TERMINATED else None
        return InfrastructureVerdict(node_id, phase, f"{node_id}.{node.boot}", at, "simulated")
