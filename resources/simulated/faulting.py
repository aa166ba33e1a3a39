"""Plays fault scripts on the machinery: each fault becomes effects on nodes, begun and ended.

A subject is resolved when its fault begins, so nodes declared later are not struck. Whatever ends
ends for exactly the nodes it began for.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from fleet.errors import InvalidInputError
from fleet.faults import (
    CapacityLoss,
    ClockSkew,
    Crash,
    Fault,
    Flapping,
    Partition,
    Pause,
    SlowHeartbeats,
    Subject,
    SubjectKind,
)
from resources.simulated.clock import as_microseconds
from resources.simulated.machinery import SIGKILL_EXIT, Machinery
from resources.simulated.nodes import Effect, SimulatedNode

ALL_REGIONS = "*"
"""Stands for every region but one's own in `Condition.cut_regions`."""


class FaultPlayer:
    """Turns fault records into effects at the right moments."""

    def __init__(
        self, machinery: Machinery, controller_region: str | None, store_region: str | None
    ) -> None:
        """Know where controller and store live; None: outside of all regions."""
        self._machinery = machinery
        self._homes = {"controller": controller_region, "store": store_region}
        self._keys = 0

    def plan(self, faults: Iterable[Fault]) -> None:
        """Plan faults `start_s` from now; all subjects are checked before any is planned.

        Raises:
            InvalidInputError: a subject or peer is not part of the cluster.
        """
        script = list(faults)
        self._validate(script)
        queue = self._machinery.queue
        base_us = queue.now_us
        for fault in script:
            queue.plan(base_us + as_microseconds(fault.start_s), partial(self.begin, fault))

    def _validate(self, script: list[Fault]) -> None:
        """Refuse subjects and peers that name nothing in the cluster."""
        nodes = [node.declaration for node in self._machinery.nodes.values()]
        names: dict[str, set[str]] = {
            SubjectKind.NODE: {node.node_id for node in nodes},
            SubjectKind.ZONE: {node.zone for node in nodes},
            SubjectKind.REGION: {node.region for node in nodes},
            SubjectKind.AGENT: set(self._machinery.agents),
        }
        for fault in script:
            kind, name = fault.subject
            if name not in names[kind]:
                raise InvalidInputError("subject", str(fault.subject), f"a {kind} of this cluster")
            peer = fault.peer if isinstance(fault, Partition) else ""
            if "/" in peer and peer.partition("/")[2] not in names[SubjectKind.REGION]:
                raise InvalidInputError("peer", peer, "a region of this cluster")

    def begin(self, fault: Fault) -> None:
        """Let a fault begin now."""
        machinery = self._machinery
        machinery.queue.record("fault_begins", str(fault.subject), fault.kind)
        if fault.subject.kind is SubjectKind.AGENT:
            for copy in list(machinery.copies.get(fault.subject.name, ())):
                if copy.runs and copy.node.condition.works:
                    machinery.crash_agent(copy, SIGKILL_EXIT)
            return
        self._keys += 1
        key = self._keys
        struck = self.nodes_of(fault.subject)
        end_us = None
        if fault.duration_s is not None:
            end_us = machinery.now_us + as_microseconds(fault.duration_s)
            machinery.queue.plan(end_us, partial(self._end, fault, struck, key))
        if isinstance(fault, Flapping):
            self._flap(fault, struck, key, end_us, away=True)
            return
        for node in struck:
            machinery.set_effect(node, key, self._effect(fault, node))

    def _end(self, fault: Fault, struck: list[SimulatedNode], key: int) -> None:
        self._machinery.queue.record("fault_ends", str(fault.subject), fault.kind)
        for node in struck:
            self._machinery.set_effect(node, key, None)

    def _flap(
        self,
        fault: Flapping,
        struck: list[SimulatedNode],
        key: int,
        end_us: int | None,
        *,
        away: bool,
    ) -> None:
        """Go away or come back, and plan the next turn while the fault lasts."""
        for node in struck:
            self._machinery.set_effect(node, key, self._effect(fault, node) if away else None)
        step_s = fault.down_s if away else fault.up_s
        next_us = self._machinery.now_us + as_microseconds(step_s)
        if end_us is None or next_us < end_us:
            turn = partial(self._flap, fault, struck, key, end_us, away=not away)
            self._machinery.queue.plan(next_us, turn)

    def nodes_of(self, subject: Subject) -> list[SimulatedNode]:
        """The nodes a subject stands for, in the order of their declaration."""
        nodes = self._machinery.nodes
        if subject.kind is SubjectKind.NODE:
            return [nodes[subject.name]]
        zone = subject.kind is SubjectKind.ZONE
        return [
            node
            for node in nodes.values()
            if (node.declaration.zone if zone else node.declaration.region) == subject.name
        ]

    def _effect(self, fault: Fault, node: SimulatedNode) -> Effect:
        """What a fault does to one node while it lasts."""
        effect: Effect | None = None
        match fault:
            case Crash():
                effect = Effect(down=True, silent=fault.silent)
            case Partition():
                effect = self._cut(fault.peer, node.declaration.region)
            case SlowHeartbeats():
                effect = Effect(delay_us=as_microseconds(fault.delay_s))
            case ClockSkew():
                effect = Effect(skew_us=as_microseconds(fault.skew_s))
            case CapacityLoss():
                effect = Effect(
                    cpu_fraction=fault.cpu_fraction,
                    memory_fraction=fault.memory_fraction,
                    gpus=fault.gpus,
                )
            case Flapping(mode="crash"):
                effect = Effect(down=True)
            case Flapping():
                effect = self._cut("all", node.declaration.region)
            case Pause():
                effect = Effect(paused=True)
        if effect is None:
            raise TypeError(f"no effect is known for {fault!r}")
        return effect

    def _cut(self, peer: str, own_region: str) -> Effect:
        """What a node cannot reach any more; a region cut off takes along what lives in it."""
        if peer in {"controller", "store"}:
            return Effect(store_cut=peer == "store", controller_cut=peer == "controller")
        regions = frozenset({ALL_REGIONS if peer in {"regions", "all"} else peer.partition("/")[2]})

        def lost(service: str) -> bool:
            home = self._homes[service]
            if peer == "all":
                return True
            if home is None or home == own_region:
                return False
            return ALL_REGIONS in regions or home in regions

        return Effect(
            store_cut=lost("store"), controller_cut=lost("controller"), cut_regions=regions
        )
