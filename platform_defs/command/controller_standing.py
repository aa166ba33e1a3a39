"""How automatic failover stands: who leads, whether it is paused or frozen, what is open.

Read from the control store alone, so that it is known wherever the store is reached.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from fleet.controller_view import ControllerView
from fleet.errors import LeaseLostError, TransientError
from fleet.failover.explain import RULE_TEXTS
from fleet.failover.records import ControllerState
from fleet.failover.rules import Rule
from fleet.incidents import IncidentHeader, IncidentKind
from fleet.leases import LEADER_LEASE, Lease
from fleet.operator_orders import UNTOUCHED, Automation, Maintenance, select_live_maintenances
from fleet.ports.control_store import ControlStore

INCIDENTS_READ = 1000
"""Open ones that a command looks at: more have never one cause each."""

NOBODY_LEADS = (
    "`stateroom up`, without --no-ui, starts the sensors that decide; where it runs, start "
    "node_failover_sensor and region_failover_sensor in the UI (Automation), or set "
    "failover.enabled."
)


class Freeze(NamedTuple):
    """Why nothing is moved."""

    reason: str
    since: datetime
    incident_id: str
    """'' before it has lasted for so long that there is one."""


class Standing(NamedTuple):
    """Automatic failover at one moment."""

    lease: Lease | None
    """The controller's, also when it is over; None when none ever led."""
    leads: bool
    """Whether its holder leads now, by the store's clock."""
    automation: Automation
    incidents: list[IncidentHeader]
    """Those that have not ended, newest first."""
    maintenances: list[Maintenance]
    """Marks that count now."""

    view: ControllerView | None = None
    """What the leading controller sees, as it told last; None when it has not told any."""

    @property
    def frozen(self) -> Freeze | None:
        """Why the controller does not act, and since when; None while it does, or nobody leads.

        The view says so at once; the incident is opened when a freeze lasts.
        """
        told = next((one for one in self.incidents if one.kind == IncidentKind.CONTROLLER), None)
        if told is not None:
            return Freeze(told.reason, told.opened_at, told.incident_id)
        view = self.view
        if view is None or view.controller is not ControllerState.FROZEN:
            return None
        why = "; ".join(RULE_TEXTS[Rule(one)] for one in view.frozen_by)
        return Freeze(f"failover is frozen, nothing is moved: {why}", view.looked_at, "")


UNKNOWN = Standing(None, leads=False, automation=UNTOUCHED, incidents=[], maintenances=[])
"""Of a fleet of which nothing has been read."""


def read_standing(store: ControlStore, now: datetime) -> Standing:
    """Ask the store.

    Args:
        store: of the fleet.
        now: by which maintenance marks are judged.
    """
    lease = store.lease(LEADER_LEASE)
    leads = _leads(store, lease)
    return Standing(
        lease,
        leads,
        store.automation(),
        store.incidents(open_only=True, limit=INCIDENTS_READ),
        select_live_maintenances(store.maintenances(), now),
        _view_of(store, lease) if leads else None,
    )


def _view_of(store: ControlStore, lease: Lease | None) -> ControllerView | None:
    """The view of who leads now; that of an earlier one says nothing any more."""
    kept = store.controller_view()
    if kept is None or lease is None or kept.view.term != lease.term:
        return None
    return kept.view


def _leads(store: ControlStore, lease: Lease | None) -> bool:
    if lease is None:
        return False
    try:
        store.demand_leader_term(lease.term)
    except LeaseLostError:
        return False
    return True


def demand_controller(standing: Standing, wanted: str) -> None:
    """Refuse to order what nobody would carry out.

    Args:
        standing: as it was read.
        wanted: what nobody would do, as the end of a sentence.

    Raises:
        TransientError: no controller leads.
    """
    if not standing.leads:
        raise TransientError(
            f"no controller leads, so nobody would {wanted}; nothing was recorded",
            hint=NOBODY_LEADS,
        )


def leader_text(standing: Standing) -> str:
    """Who leads, in a few words."""
    if standing.lease is None:
        return "nobody leads, nobody ever has; no agent is moved"
    if not standing.leads:
        return f"nobody leads (the last one had term {standing.lease.term}); no agent is moved"
    return f"{standing.lease.holder} leads, term {standing.lease.term}"


def standing_document(standing: Standing) -> dict[str, Any]:
    """The same for `--json`."""
    lease, frozen = standing.lease, standing.frozen
    return {
        "leader": None
        if lease is None
        else {
            "holder": lease.holder,
            "term": lease.term,
            "expires_at": lease.expires_at,
            "leads": standing.leads,
        },
        "automation": standing.automation._asdict(),
        "frozen": None if frozen is None else frozen.reason,
        "frozen_since": None if frozen is None else frozen.since,
        "incidents": [one._asdict() for one in standing.incidents],
        "maintenances": [one._asdict() for one in standing.maintenances],
    }
