"""A person's word for a failover, as the controller reads it: an approval on an open incident."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from fleet.errors import InvalidInputError, StoreUnavailableError
from fleet.incidents import IncidentHeader, IncidentKind, IncidentOpening, Severity
from fleet.ports.control_store import ControlStore
from platform_defs.command.controller_standing import INCIDENTS_READ

_TRIES = 5
"""Each but the last needs the controller to end the incident between two calls of ours."""


class GivenOrder(NamedTuple):
    """What was recorded."""

    incident_id: str
    action: str
    """`forced:<subject>`, or the key of the action that the incident waited for."""
    by: str
    """Who ordered it; somebody else when it had been ordered before."""
    reason: str
    at: datetime
    is_new: bool
    """False: it had been ordered before, nothing was changed."""


def order_failover(
    store: ControlStore, kind: str, name: str, region: str, by: str, reason: str
) -> GivenOrder:
    """Order a failover; durable when this returns, done by the controller at its next look.

    An incident that waits for a person is given that person's word for the very action that it
    waits for, so that every other rule goes on holding. Where none waits, where that word was given
    before, or while the automation is paused (which nothing but force passes), it is forced.

    Args:
        store: of the fleet.
        kind: `node` or `region`.
        name: of the subject.
        region: that it is (in).
        by: who orders it.
        reason: why.
    """
    from ops.failover_directives import FORCED

    for attempt in range(_TRIES):
        known = _open_incident(store, kind, name)
        header = known or store.open_incident(_opening(kind, name, region, by, reason, attempt))
        given = {one.action for one in store.approvals() if one.incident_id == header.incident_id}
        waits = _word_that_is_waited_for(store, header, given)
        action = waits or f"{FORCED}{kind}/{name}"
        order = approve_open(store, header, action, by, reason, is_new=action not in given)
        if order is not None:
            return order
    raise StoreUnavailableError(
        f"the incidents of {kind}/{name} end as soon as they are opened; nothing was ordered",
        hint="Try again; `stateroom incidents --all` shows them.",
    )


def would_force(store: ControlStore, header: IncidentHeader | None) -> bool:
    """Whether `order_failover` would use force now, rather than give the word that is waited for.

    Args:
        store: of the fleet.
        header: the open incident of the subject; None when there is none.
    """
    if header is None:
        return True
    given = {one.action for one in store.approvals() if one.incident_id == header.incident_id}
    return not _word_that_is_waited_for(store, header, given)


def _word_that_is_waited_for(store: ControlStore, header: IncidentHeader, given: set[str]) -> str:
    """The action that a person has only to allow; '' when nothing but force does it."""
    waits = header.waits_for
    return waits if waits and waits not in given and not store.automation().paused else ""


def approve_open(
    store: ControlStore, header: IncidentHeader, action: str, by: str, reason: str, *, is_new: bool
) -> GivenOrder | None:
    """Record an approval; None when the incident has ended meanwhile."""
    try:
        stored = store.approve_action(header.incident_id, action, by, reason)
    except InvalidInputError as error:
        if error.field != "incident":
            raise
        return None
    return GivenOrder(
        header.incident_id, action, stored.approved_by, stored.reason, stored.approved_at, is_new
    )


def open_incident_of(store: ControlStore, kind: str, name: str) -> IncidentHeader | None:
    """The incident of a subject that has not ended; None when there is none."""
    return _open_incident(store, kind, name)


def _open_incident(store: ControlStore, kind: str, name: str) -> IncidentHeader | None:
    found = store.incidents(open_only=True, limit=INCIDENTS_READ)
    return next((one for one in found if one.key == f"{kind}/{name}"), None)


def _opening(
    kind: str, name: str, region: str, by: str, reason: str, attempt: int
) -> IncidentOpening:
    """An incident that a person opens; a second try within a second needs a name of its own."""
    now = datetime.now(UTC)
    stamp = f"{now:%Y%m%dT%H%M%S}" + (f"-{attempt + 1}" if attempt else "")
    said = f"{by} orders its failover: {reason}"
    return IncidentOpening(
        IncidentKind(kind),
        name,
        region,
        said,
        now,
        severity=Severity.ERROR,
        incident_id=f"{kind}-{name}-{stamp}",
    )
