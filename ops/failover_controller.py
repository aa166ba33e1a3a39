"""The controller: looks, decides, tells, and hands out orders; it moves nobody itself.

`tick` is the one loop body of the live sensor and of tests. What a decision asks for is done in
its order: incidents are opened before anything refers to them, people are told, orders are handed
to whoever launches runs. Each is idempotent, so a tick that dies is made up for by the next.
"""

from datetime import datetime
from typing import NamedTuple

from fleet.failover.decide import decide
from fleet.failover.limits import withhold
from fleet.failover.records import (
    Action,
    ActionKind,
    ControllerState,
    Decision,
    Evidence,
    FailoverState,
    NodeState,
)
from fleet.failover_declaration import FailoverDeclaration
from fleet.failover_order import FailoverOrder, OrderKind
from fleet.ports.notifier import Notifier
from ops.failover_acts import DecisionActs
from ops.failover_discovery import DISCOVERY, DiscoveryVerdicts
from ops.failover_evidence import EvidenceReader, Wanted, WatchPorts
from ops.failover_standing import given_up, keep_standing, name_step
from ops.failover_view import ViewKeeper

_ORDERS = {
    ActionKind.MOVE_NODE: OrderKind.NODE,
    ActionKind.EVACUATE_REGION: OrderKind.REGION,
    ActionKind.FAIL_BACK: OrderKind.FAIL_BACK,
}

_ASKED_ONCE = frozenset({ActionKind.OPEN_INCIDENT, ActionKind.PARK_AGENT})
"""The decision remembers that it has asked for these, and never asks again; moves it does."""

DOOMED_MAX = 500
"""Nodes whose stateless agents are counted in one tick: 4 ms of processor time with ten agents on
each, and ten times what the production profile's rate lets 10,000 nodes move in a window."""


class Tick(NamedTuple):
    """What one tick found, decided and did."""

    at: datetime
    decision: Decision
    orders: tuple[FailoverOrder, ...]
    """To be launched now, each as a run of its own."""
    faults: tuple[str, ...]
    """What could not be done this time, in words; the next tick tries again."""


class FailoverController:
    """One controller of one process; one thread uses it.

    Args:
        ports: what it looks through and acts on.
        reader: reads the evidence; remembers ages.
        declaration: policy, targets, limits.
        notifier: whom alerts reach.
        state: what an earlier process decided last, if anything.
    """

    def __init__(
        self,
        ports: WatchPorts,
        reader: EvidenceReader,
        declaration: FailoverDeclaration,
        notifier: Notifier,
        state: FailoverState | None = None,
    ) -> None:
        """Nothing is looked at yet."""
        self._ports, self._reader = ports, reader
        self._declaration, self._notifier = declaration, notifier
        self.state = state or FailoverState()
        self._frozen_from_s = ports.clock.monotonic_s()
        self._views = ViewKeeper(ports.store)
        self._discovery = DiscoveryVerdicts(ports.store, ports.registry)
        self._undone: list[Action] = []

    def tick(self) -> Tick:
        """Look once and do what follows from it."""
        evidence = self._reader.read(
            Wanted(self._suspects(), self._returned(), self._doomed(), self.state.moves_term)
        )
        now_s = self._ports.clock.monotonic_s()
        decision = decide(evidence, self.state, self._declaration.policy, now_s)
        frozen = decision.controller is ControllerState.FROZEN
        if frozen and self.state.controller is not ControllerState.FROZEN:
            # At the beginning of a freeze, not at its end: the votes that end it must be fresh.
            self._reader.restart()
        self.state = decision.state
        if not frozen:
            self._frozen_from_s = now_s
        orders, faults = self._carry_out(evidence, decision)
        faults += keep_standing(self._ports.store, evidence, decision, now_s - self._frozen_from_s)
        if orders:
            self._reader.forget_counts()
        faults += self._views.keep(evidence, decision, now_s)
        return Tick(evidence.at, decision, tuple(orders), tuple(faults))

    def _carry_out(
        self, evidence: Evidence, decision: Decision
    ) -> tuple[list[FailoverOrder], list[str]]:
        """Do what needs no run, in the order decided; the orders for what does, and the faults."""
        nodes, store = evidence.nodes, self._ports.store
        regions = (
            {name: nodes.region_of(index) for index, name in enumerate(nodes.node_ids)}
            if decision.actions
            else {}
        )
        acts = DecisionActs(
            store, self._notifier, evidence.at, regions, self._ports.leader.store_time()
        )
        if decision.controller is ControllerState.ACTIVE:
            opened = {
                one.subject for one in decision.actions if one.kind is ActionKind.OPEN_INCIDENT
            }
            self._undone = [
                one
                for one in self._undone
                if one.subject not in opened and not acts.carry_out(one).over
            ]
        orders, withheld = [], set[str]()
        for action in (*decision.actions, *given_up(evidence, decision)):
            forced = action.subject in evidence.directives.forced
            moves = action.kind in _ORDERS or (forced and action.kind is ActionKind.FENCE_NODE)
            if action.kind in DISCOVERY:
                self._discovery.want(action)
            done = acts.carry_out(action, moves=moves)
            if not done.over and action.kind in _ASKED_ONCE:
                self._undone.append(action)  # else an incident would leave no record
            # A node's move that no journal tells of would be forgotten by the next leader's budget:
            # it is not ordered, and asked for again after `move_retry_s`, within the limits then.
            if moves and (done.told or not action.subject.startswith("node/")):
                order = self._order(action, forced=forced)
                orders.append(name_step(store, evidence, order))
            elif moves:
                withheld.add(action.move_key)
        self.state = withhold(self.state, withheld)
        acts.tell_waiting(decision.non_actions)
        if decision.controller is ControllerState.ACTIVE:
            return orders, [*acts.faults, *self._discovery.carry_out()]
        return orders, acts.faults

    def _suspects(self) -> list[str]:
        """Nodes that are looked at directly: those whose silence is judged, until they are moved.

        A verdict must still stand when it is acted on, so a vote of ours that it rests on must not
        grow old while a fence, a region's verdict or a person is waited for.
        """
        judged = {
            NodeState.SUSPECT,
            NodeState.CONFIRMED,
            NodeState.FENCED,
            NodeState.DEGRADED,
            NodeState.GRAY,
            NodeState.PROBATION,
        }
        return [mark.node_id for mark in self.state.nodes.values() if mark.state in judged]

    def _doomed(self) -> list[str]:
        """Nodes whose stateless agents may have to go soon, the longest suspected first.

        Not more at once than any rate lets move within seconds: the others' turn comes.
        """
        early = {NodeState.SUSPECT, NodeState.CONFIRMED}
        found = [
            mark
            for mark in self.state.nodes.values()
            if mark.state in early and not mark.stateless_moved
        ]
        found.sort(key=lambda mark: (mark.suspect_s, mark.node_id))
        return [mark.node_id for mark in found[:DOOMED_MAX]]

    def _returned(self) -> list[str]:
        """Nodes that are back after a move: what ran there before must have ended."""
        return [
            mark.node_id for mark in self.state.nodes.values() if mark.state is NodeState.PROBATION
        ]

    def _order(self, action: Action, *, forced: bool) -> FailoverOrder:
        """The order of an action; a run that is forced on a living node stops its agents first."""
        kind, _, name = action.subject.partition("/")
        odd = tuple(
            sorted(
                mark.node_id
                for mark in self.state.nodes.values()
                if mark.state is not NodeState.HEALTHY
            )
        )
        beats = {one.node_id: one.heartbeat_us for one in self._ports.store.node_beats()}
        order_kind = _ORDERS.get(action.kind, OrderKind.NODE)
        targets = self._declaration.targets.get(name, ())
        verb = "was lost" if order_kind != OrderKind.FAIL_BACK else "is back"
        return FailoverOrder(
            kind=order_kind,
            subject=name,
            incident_id=action.incident,
            attempt=action.attempt,
            term=action.term,
            because=f"{kind} {name} {verb} ({action.incident})",
            nodes=action.nodes,
            heartbeats={one: beats.get(one, 0) for one in action.nodes},
            avoid=odd,
            regions=targets if order_kind == OrderKind.REGION else (),
            head_room=self._declaration.head_room if order_kind == OrderKind.REGION else 0.0,
            agents_max=action.agents_max,
            forced=forced,
            stateless_only=action.stateless_only,
        )
