"""Routers and registries that do not answer, as incidents: opened once, ended when they answer.

An incident goes the way of all others: people are told of it once, louder while nobody has it, and
told its end (`sensors/notifications.py`). Whoever meets the failure opens it, a failover run or the
keeper of routes; whoever is answered first ends it.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from fleet.errors import VersionConflictError
from fleet.incidents import (
    IncidentHeader,
    IncidentKind,
    IncidentOpening,
    IncidentState,
    incident_key,
)
from fleet.ports.control_store import ControlStore

KINDS = frozenset({IncidentKind.ROUTER, IncidentKind.REGISTRY})

_HARM = {
    IncidentKind.ROUTER: (
        "router",
        "does not take its tables, so that requests may go to agents that have left",
    ),
    IncidentKind.REGISTRY: (
        "service registry",
        "does not answer, so that routers are left as they are",
    ),
}

_OPEN_MAX = 1000
_REASON_MAX_CHARS = 500


def open_traffic_incidents(store: ControlStore) -> dict[str, IncidentHeader]:
    """Those that have not ended, by key (`kind/name`)."""
    found = store.incidents(open_only=True, limit=_OPEN_MAX)
    return {one.key: one for one in found if one.kind in KINDS}


def tell_failure(
    store: ControlStore, kind: IncidentKind, name: str, problem: str, at: datetime, term: int
) -> IncidentHeader:
    """Open the incident of a router or registry, or find the one that is open.

    Args:
        store: holds the incidents.
        kind: ROUTER or REGISTRY.
        name: of the settings.
        problem: what happens, in words.
        at: when it was met.
        term: of the controller that met it.
    """
    words = " ".join(problem.replace("\x00", "").split()) or "it gave no reason"
    noun, harm = _HARM[kind]
    words = f"{noun} {name} {harm}: {words}"
    return store.open_incident(IncidentOpening(kind, name, "", words[:_REASON_MAX_CHARS], at, term))


def tell_recovery(
    store: ControlStore, header: IncidentHeader, outcome: str, at: datetime, term: int
) -> bool:
    """End an incident; False when somebody changed it in this moment: try again with the next look.

    Raises:
        LeaseLostError: a controller of a higher term has it.
    """
    try:
        store.update_incident(
            header._replace(
                state=IncidentState.ENDED,
                ended_at=max(at, header.opened_at),
                outcome=outcome,
                waits_for="",
                term=term,
            )
        )
    except VersionConflictError:
        return False
    return True


class Asked(NamedTuple):
    """A router or registry as one look of the keeper found it."""

    kind: IncidentKind
    name: str
    problem: str
    """Of its last failure; '' when there was none since it answered."""
    is_to_be_told: bool
    """It has failed often enough."""
    has_answered: bool
    """In this look; one that was not asked has proved nothing."""


def settle_incidents(
    store: ControlStore,
    asked: Iterable[Asked],
    known: Mapping[str, IncidentHeader],
    at: datetime,
    term: int,
) -> list[str]:
    """Open and end what one look shows; returns what is news, in sentences.

    Args:
        store: holds the incidents.
        asked: every router and registry that the settings name.
        known: incidents that have not ended (`open_traffic_incidents`).
        at: moment of the look.
        term: of the controller that looks.
    """
    said = []
    left = dict(known)
    for one in asked:
        header = left.pop(incident_key(one.kind, one.name), None)
        if header is None and one.is_to_be_told:
            tell_failure(store, one.kind, one.name, one.problem, at, term)
            said.append(f"{one.kind} {one.name}: {one.problem}")
        answers = f"{one.kind} {one.name} answers again"
        if header is not None and one.has_answered:
            said += [answers] if tell_recovery(store, header, answers, at, term) else []
    for _, header in sorted(left.items()):
        gone = f"the settings do not name {header.kind} {header.subject} any more"
        said += [gone] if tell_recovery(store, header, gone, at, term) else []
    return said
