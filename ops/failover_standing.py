"""Incidents beside those of the decision: the controller is frozen; a region's agents go home.

The first tells people, and `stateroom status`, why nothing is moved. The second takes a person's
approvals after the evacuation has ended; it stays open until everybody is home, and is the journal
of the steps on the way.
"""

from datetime import datetime

from fleet.errors import StateroomError
from fleet.failover.explain import RULE_TEXTS
from fleet.failover.records import (
    Action,
    ActionKind,
    ControllerState,
    Decision,
    Evidence,
    RegionState,
)
from fleet.failover.rules import Rule
from fleet.failover_moves import PLAN
from fleet.failover_order import FailoverOrder, OrderKind
from fleet.incidents import IncidentKind, IncidentOpening, IncidentState
from fleet.ports.control_store import ControlStore
from ops.failover_proposals import keep_proposals

CONTROLLER = "controller"
"""The subject of an incident of the controller, of which there is one."""

_FORCED_WAVES = 1_000_000
"""Added to the number of a forced evacuation: above all waves that a decision ever numbers."""

FROZEN_TOLD_S = 15.0
"""A freeze that lasts for so long needs a person; each start of a controller is a short one."""


def keep_standing(
    store: ControlStore, evidence: Evidence, decision: Decision, frozen_s: float
) -> list[str]:
    """Open and end these incidents after a tick; what fails is made up for by the next.

    Args:
        store: holds the incidents.
        evidence: of the tick.
        decision: of the tick.
        frozen_s: how long the controller has been frozen without a break.

    Returns:
        What could not be done, in words.
    """
    if not evidence.store_reachable:
        return []
    try:
        _keep_frozen(store, evidence, decision, frozen_s)
        _keep_fail_backs(store, evidence, decision)
    except StateroomError as error:
        return [f"incidents of the controller: {error}"]
    return []


def name_step(store: ControlStore, evidence: Evidence, order: FailoverOrder) -> FailoverOrder:
    """A fail-back's order with the journal and number of its step, and the way it goes.

    The decision numbers no steps of a fail-back; two of one number would be one to the journal and
    to Dagster. Counted are the plans that are written down, so a step that was never planned is
    asked for again under its number.
    """
    if order.kind != OrderKind.FAIL_BACK:
        return order
    wanted = f"{IncidentKind.FAIL_BACK}/{order.subject}"
    known = [one.incident_id for one in evidence.incidents if one.subject == wanted]
    incident_id = known[0] if known else order.incident_id
    plans = [one.step for one in store.journal(incident_id) if one.step.startswith(f"{PLAN}/")]
    numbers = [int(step.removeprefix(f"{PLAN}/").partition("-")[0]) for step in plans]
    attempt = max(numbers, default=0) + 1
    return order._replace(incident_id=incident_id, attempt=attempt, regions=(order.subject,))


def given_up(evidence: Evidence, decision: Decision) -> list[Action]:
    """Evacuations of living regions that a person gives up, in place of one fence for each node.

    The decision asks to stop the copies on each of their nodes; a run does that first, and then
    moves all of them with one plan. Waves of the same region that the decision numbers (nodes that
    are fenced already) stay apart from these by number.
    """
    nodes, forced = evidence.nodes, evidence.directives.forced
    fences: dict[str, list[Action]] = {}
    for action in decision.actions:
        if action.kind is not ActionKind.FENCE_NODE or action.subject in forced:
            continue
        index = nodes.find(action.subject.removeprefix("node/"))
        if index is not None and f"region/{nodes.region_of(index)}" in forced:
            fences.setdefault(nodes.region_of(index), []).append(action)
    return [
        Action(
            ActionKind.EVACUATE_REGION,
            f"region/{region}",
            Rule.FORCED,
            (),
            incident=actions[0].incident,
            term=actions[0].term,
            nodes=tuple(sorted(name for one in actions for name in one.nodes)),
            agents=sum(one.agents for one in actions),
            attempt=_FORCED_WAVES + round(evidence.at.timestamp()),
        )
        for region, actions in fences.items()
    ]


def _keep_frozen(
    store: ControlStore, evidence: Evidence, decision: Decision, frozen_s: float
) -> None:
    """A pause of our own is over when it is seen: it opens nothing."""
    subject = f"{IncidentKind.CONTROLLER}/{CONTROLLER}"
    known = [one.incident_id for one in evidence.incidents if one.subject == subject]
    lasting = [rule for rule in decision.frozen_by if rule is not Rule.TICK_GAP]
    if frozen_s >= FROZEN_TOLD_S and lasting and not known:
        why = "; ".join(RULE_TEXTS[rule] for rule in lasting)
        store.open_incident(
            IncidentOpening(
                IncidentKind.CONTROLLER,
                CONTROLLER,
                "",
                f"failover is frozen, nothing is moved: {why}",
                evidence.at,
                evidence.leader.term,
                incident_id=f"{CONTROLLER}-{evidence.at:%Y%m%dT%H%M%S}",
            )
        )
    if decision.controller is ControllerState.ACTIVE:
        for incident_id in known:
            outcome = "the controller trusts what it sees again; all ages have restarted"
            _end(store, incident_id, outcome, evidence.at)


def _keep_fail_backs(store: ControlStore, evidence: Evidence, decision: Decision) -> None:
    if decision.controller is not ControllerState.ACTIVE:
        return
    keep_proposals(store, evidence, decision)
    aborted = {one.subject for one in decision.actions if one.kind is ActionKind.ABORT_FAIL_BACK}
    for fact in evidence.incidents:
        kind, _, region = fact.subject.partition("/")
        if kind != IncidentKind.FAIL_BACK:
            continue
        mark = decision.state.regions.get(region)
        lost = mark is not None and mark.state is not RegionState.NORMAL
        if lost or f"region/{region}" in aborted:
            outcome = "the region is not whole any more; rehearse and approve again once it is"
            _end(store, fact.incident_id, outcome, evidence.at)
        elif not evidence.agents_abroad.get(region, 0) and not fact.agents_pending:
            _end(store, fact.incident_id, "its agents are at home", evidence.at)


def _end(store: ControlStore, incident_id: str, outcome: str, at: datetime) -> None:
    header = store.incident(incident_id)
    if header is None or header.state == IncidentState.ENDED:
        return
    store.update_incident(
        header._replace(state=IncidentState.ENDED, ended_at=at, outcome=outcome, waits_for="")
    )
