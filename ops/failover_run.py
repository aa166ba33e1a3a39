"""A whole failover run in order; the ops of `failover_job` call its parts one by one."""

from typing import NamedTuple

from fleet.agents import Placement
from fleet.errors import VersionConflictError
from fleet.failover_order import FailoverOrder, OrderKind
from fleet.incidents import IncidentHeader, IncidentKind, IncidentOpening, IncidentState
from ops.failover_arrival import READY_TIMEOUT_S, Arrival, start, wait_ready
from ops.failover_fencing import Fencing, fence, recheck
from ops.failover_moving import move
from ops.failover_planning import plan
from ops.failover_ports import FailoverPorts
from ops.failover_redirect import Redirection, redirect

_TRIES = 5


class FailoverResult(NamedTuple):
    """What a run has done."""

    fencing: Fencing
    placed: tuple[Placement, ...]
    """Placements of this order that are in force, also of an earlier try of the same attempt."""
    arrival: Arrival
    redirection: Redirection = Redirection()

    @property
    def parked(self) -> int:
        """Agents that nothing has room for, or whose state cannot be had."""
        return sum(one.desired == "parked" for one in self.placed)


def begin(ports: FailoverPorts, order: FailoverOrder) -> None:
    """Let the incident say that something is being done; one that is told already stays so.

    One that its controller could not open, because it lost the store or the lead right after it
    had decided, is opened here: what is moved leaves a record.

    Raises:
        LeaseLostError: a controller with a higher term has the incident.
    """
    for _ in range(_TRIES):
        header = ports.store.incident(order.incident_id) or _open(ports, order)
        if header is None or header.state != IncidentState.OPEN:
            return
        try:
            ports.store.update_incident(
                header._replace(state=IncidentState.ACTING, term=max(order.term, header.term))
            )
        except VersionConflictError:
            continue  # somebody acknowledged it in the same moment
        return


def _open(ports: FailoverPorts, order: FailoverOrder) -> IncidentHeader | None:
    """The incident of an order; None for a way home, whose incident a person's word is part of."""
    if order.kind == OrderKind.FAIL_BACK:
        return None
    left = set(order.nodes)
    regions = {one.region for one in ports.store.placements() if one.node_id in left}
    region = order.subject if order.is_region else min(regions, default="")
    opening = IncidentOpening(
        IncidentKind(order.kind),
        order.subject,
        region,
        order.because,
        ports.clock.now(),
        order.term,
        incident_id=order.incident_id,
    )
    return ports.store.open_incident(opening)


def carry_out(
    ports: FailoverPorts, order: FailoverOrder, ready_timeout_s: float = READY_TIMEOUT_S
) -> FailoverResult:
    """All steps of one order; killed anywhere, it is carried out again and goes on.

    Raises:
        LeaseLostError: another controller leads; what was placed before stays.
        PermanentError: the automation is paused.
    """
    begin(ports, order)
    silent = recheck(ports, order)
    fencing = fence(ports, order, silent)
    moves = plan(ports, order, fencing.fenced)
    placed = move(ports, order, moves)
    start(ports, order, placed)
    arrival = wait_ready(ports, order, placed, ready_timeout_s)
    return FailoverResult(fencing, tuple(placed), arrival, redirect(ports, order, placed))
