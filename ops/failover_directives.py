"""What people have ordered, as the decision takes it: pause, approvals, force, rehearsals."""

from collections.abc import Iterable

from fleet.failover.records import Directives
from fleet.incidents import IncidentHeader
from fleet.ports.control_store import ControlStore

FORCED = "forced:"
"""Begins the name of an approval that orders a failover whatever the evidence says."""

REHEARSED = "rehearsed:"
"""Begins the name of an approval that records a rehearsed fail-back of a region."""


def read_directives(store: ControlStore, incidents: Iterable[IncidentHeader]) -> Directives:
    """Read the switch, and everything that was approved for incidents that have not ended.

    Args:
        store: holds the orders.
        incidents: those that have not ended; an acknowledged one lifts its subject's cool-downs.
    """
    automation = store.automation()
    paused = ""
    if automation.paused:
        paused = f"{automation.changed_by}: {automation.reason}"
    actions = {one.action for one in store.approvals()}
    return Directives(
        paused=paused,
        approved=frozenset(actions),
        acknowledged=frozenset(
            f"{one.kind}/{one.subject}" for one in incidents if one.acknowledged_at is not None
        ),
        forced=_named(actions, FORCED),
        rehearsed=_named(actions, REHEARSED),
    )


def _named(actions: Iterable[str], prefix: str) -> frozenset[str]:
    return frozenset(one.removeprefix(prefix) for one in actions if one.startswith(prefix))
