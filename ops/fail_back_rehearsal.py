"""Carries out the rehearsal of a fail-back: everything that the way home needs, moving nobody."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from fleet.controller_view import doubted_nodes
from fleet.errors import InvalidInputError, StateroomError
from fleet.fail_back_rehearsal import RehearsalFacts, rehearsal_problems, rehearsal_text
from fleet.failover_moves import PlannedMove
from fleet.failover_order import FailoverOrder, OrderKind
from fleet.incidents import IncidentHeader, IncidentState
from fleet.ports.traffic import ConfiguredRouter
from ops.failover_directives import REHEARSED
from ops.failover_planning import propose
from ops.failover_ports import FailoverPorts
from ops.failover_states import find_unreadable
from ops.step_journal import StepJournal

REHEARSED_BY = "fail_back_sensor"
"""Stands in the approval and in the story of the incident."""

_STATES_AT_ONCE = 200
_TRIED_SERVICE = "rehearsal"
"""A name that any router may be asked about where no service is declared."""


def rehearse(ports: FailoverPorts, region: str) -> RehearsalFacts:
    """Look at capacity, states and routers; nothing is written.

    The plan is made by the planner of the live run, onto what the region's nodes have free now.

    Raises:
        StoreUnavailableError: the store cannot be read; rehearse again later.
    """
    kept = ports.store.controller_view()
    order = FailoverOrder(
        kind=OrderKind.FAIL_BACK,
        subject=region,
        incident_id="",
        attempt=1,
        term=0,
        because=f"region {region} is back",
        avoid=() if kept is None else doubted_nodes(kept.view),
        regions=(region,),
    )
    abroad = [one for one in ports.store.agents_abroad(region) if one.desired == "running"]
    moves = propose(ports, order, ()).moves
    return RehearsalFacts(
        region=region,
        placed=len(moves),
        staying=len(abroad) - len(moves),
        nodes=ports.cluster.nodes(region),
        damaged=tuple(_damaged(ports, moves)),
        routers=_ask_routers(() if ports.traffic is None else ports.traffic.routers),
    )


def record_rehearsal(
    ports: FailoverPorts, incident_id: str, facts: RehearsalFacts, attempt: int
) -> str:
    """Write the result into the proposal, and where it passed let the decision know.

    Committed by `approve_action`: before it the rehearsal is asked for again, after it a person (or
    the mode `auto`) decides. The journal's entry comes first, and is the same when it is repeated.

    Returns:
        The result in words.
    """
    header = ports.store.incident(incident_id)
    if header is None or header.state == IncidentState.ENDED:
        return "the proposal has ended meanwhile; nothing was recorded"
    text = rehearsal_text(facts)
    journal = StepJournal(ports.store, ports.clock, incident_id, facts.region)
    with journal.step(f"rehearse/{attempt}", "the way home is rehearsed; nobody is moved") as step:
        step.reason = text
    if not rehearsal_problems(facts):
        try:
            ports.store.approve_action(
                incident_id, f"{REHEARSED}{facts.region}", REHEARSED_BY, text
            )
        except InvalidInputError as error:
            if error.field != "incident":
                raise
            return "the proposal has ended meanwhile; nothing was approved"
    return text


def find_due(
    incidents: Sequence[IncidentHeader], approved: Callable[[str, str], bool], now: datetime,
    every_s: float,
) -> Iterator[tuple[IncidentHeader, int]]:  # fmt: skip
    """Open proposals that are to be rehearsed now, each with the number of the rehearsal.

    Args:
        incidents: open fail-backs.
        approved: whether an incident holds an approval of this name.
        now: by the clock that dates incidents.
        every_s: between two rehearsals that fail.
    """
    for one in incidents:
        if not approved(one.incident_id, f"{REHEARSED}{one.subject}"):
            age_s = max(0.0, (now - one.opened_at).total_seconds())
            yield one, 1 + int(age_s // every_s)


def _damaged(ports: FailoverPorts, moves: Sequence[PlannedMove]) -> Iterator[str]:
    names = [one.agent_id for one in moves]
    for first in range(0, len(names), _STATES_AT_ONCE):
        _, damaged = find_unreadable(ports, names[first : first + _STATES_AT_ONCE])
        yield from damaged


def _ask_routers(routers: Sequence[ConfiguredRouter]) -> dict[str, str]:
    answers = {}
    for one in routers:
        try:
            one.router.live_routes(min(one.services, default=_TRIED_SERVICE))
        except StateroomError as error:
            answers[one.name] = str(error)
        else:
            answers[one.name] = ""
    return answers
