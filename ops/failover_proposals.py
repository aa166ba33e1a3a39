"""Proposals to go home: what people are told when an evacuated region has been calm for long.

A proposal is an open incident of the kind `fail_back`, so it is told once, stands in `stateroom
status`, and takes rehearsal and approval. It ends with a relapse, and is made anew after the next
calm, because what was rehearsed and thought of is not true any more.
"""

from datetime import datetime

from fleet.failover.explain import explain_non_action
from fleet.failover.records import ActionKind, Decision, Evidence, NonAction
from fleet.failover.rules import Rule
from fleet.incident_timeline import EntryKind, fact_entry
from fleet.incidents import (
    IncidentHeader,
    IncidentKind,
    IncidentOpening,
    IncidentState,
    Severity,
)
from fleet.ports.control_store import ControlStore

PROPOSAL = "proposal-"
"""Begins the id of what the controller opened; a person's own order is not ended by a relapse
that loses nothing."""

RELAPSED = "the region is not calm any more; it is proposed again once it has been for long enough"

_REASON_MAX_CHARS = 500
_PROPOSED = frozenset(
    {Rule.FAIL_BACK_REHEARSAL, Rule.FAIL_BACK_MODE, Rule.FAIL_BACK_WINDOW, Rule.FAIL_BACK_RATE}
)
"""Rules that are looked at only after the calm."""


def keep_proposals(store: ControlStore, evidence: Evidence, decision: Decision) -> None:
    """Open, update and end proposals after a tick of an active controller; idempotent."""
    known = {
        fact.subject.partition("/")[2]: fact.incident_id
        for fact in evidence.incidents
        if fact.subject.startswith(f"{IncidentKind.FAIL_BACK}/")
    }
    for missed in decision.non_actions:
        if missed.action.kind is ActionKind.FAIL_BACK and missed.rule in _PROPOSED:
            _keep(store, evidence, missed, known)
    for action in decision.actions:
        if action.kind is ActionKind.FAIL_BACK:  # nobody is waited for any more
            header = _open(store, known.get(action.subject.removeprefix("region/"), ""))
            if header is not None and header.waits_for:
                store.update_incident(header._replace(waits_for=""))
    for region, incident_id in known.items():
        if incident_id.startswith(PROPOSAL) and _has_relapsed(evidence, decision, region):
            _end(store, incident_id, evidence.at)


def _keep(
    store: ControlStore, evidence: Evidence, missed: NonAction, known: dict[str, str]
) -> None:
    """Open the proposal of a region, and let it say what it waits for."""
    waits_for = missed.action.key if missed.approvable else ""
    if missed.rule is Rule.FAIL_BACK_MODE and not waits_for:
        return  # the mode is `off`
    region = missed.action.subject.removeprefix("region/")
    header = _open(store, known[region]) if region in known else None
    if header is None:
        header = store.open_incident(_opening(evidence, missed, region))
    if header.state == IncidentState.ENDED or header.waits_for == waits_for:
        return
    store.update_incident(
        header._replace(waits_for=waits_for, term=max(header.term, missed.action.term))
    )
    entry = fact_entry(
        header.incident_id,
        EntryKind.DECIDED,
        f"not-{missed.action.kind}-{missed.rule}",
        region,
        explain_non_action(missed)[:_REASON_MAX_CHARS].rstrip("."),
        evidence.at,
        rule=missed.rule.value,
    )
    store.append_journal([entry])


def _opening(evidence: Evidence, missed: NonAction, region: str) -> IncidentOpening:
    away = missed.action.agents
    return IncidentOpening(
        IncidentKind.FAIL_BACK,
        region,
        region,
        f"region {region} is whole and calm again, and {away} of its agents run elsewhere: they "
        f"can go home; `stateroom fail-back {region}` orders it",
        evidence.at,
        missed.action.term,
        severity=Severity.WARN,
        incident_id=f"{PROPOSAL}{region}-{evidence.at:%Y%m%dT%H%M%S}",
    )


def _has_relapsed(evidence: Evidence, decision: Decision, region: str) -> bool:
    """Not calm any more, and nobody has ordered the way home, which the decision then aborts."""
    mark = decision.state.regions.get(region)
    if mark is None or mark.evacuated_s is None or mark.calm_s is not None:
        return False
    key = f"{ActionKind.FAIL_BACK}:region/{region}:{mark.evacuation}"
    return key not in evidence.directives.approved


def _open(store: ControlStore, incident_id: str) -> IncidentHeader | None:
    header = store.incident(incident_id) if incident_id else None
    return None if header is None or header.state == IncidentState.ENDED else header


def _end(store: ControlStore, incident_id: str, at: datetime) -> None:
    header = _open(store, incident_id)
    if header is not None:
        store.update_incident(
            header._replace(state=IncidentState.ENDED, ended_at=at, outcome=RELAPSED, waits_for="")
        )
