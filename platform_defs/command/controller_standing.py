"""How automatic failover stands: who leads, whether it is paused or frozen, what is open.

Read from the control store alone, so that it is known wherever the store is reached.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from fleet.errors import LeaseLostError, TransientError
from fleet.incidents import IncidentHeader, IncidentKind
from fleet.leases import LEADER_LEASE, Lease
from fleet.operator_orders import UNTOUCHED, Automation, Maintenance, select_live_maintenances
from fleet.ports.control_store import ControlStore

INCIDENTS_READ = 1000
"""Open ones that a command looks at: more have never one cause each."""

NOBODY_LEADS = (
    "`stateroom up` starts the sensors that decide; where it runs, start node_failover_sensor and "
    "region_failover_sensor in the UI (Automation), or set failover.enabled."
)


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

    @property
    def frozen(self) -> IncidentHeader | None:
        """The incident that says why the controller does not act; None while it does."""
        return next((one for one in self.incidents if one.kind == IncidentKind.CONTROLLER), None)


UNKNOWN = Standing(None, leads=False, automation=UNTOUCHED, incidents=[], maintenances=[])
"""Of a fleet of which nothing has been read."""


def read_standing(store: ControlStore, now: datetime) -> Standing:
    """Ask the store.

    Args:
        store: of the fleet.
        now: by which maintenance marks are judged.
    """
    lease = store.lease(LEADER_LEASE)
    return Standing(
        lease,
        _leads(store, lease),
        store.automation(),
        store.incidents(open_only=True, limit=INCIDENTS_READ),
        select_live_maintenances(store.maintenances(), now),
    )


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
        "frozen_since": None if frozen is None else frozen.opened_at,
        "incidents": [one._asdict() for one in standing.incidents],
        "maintenances": [one._asdict() for one in standing.maintenances],
    }
