"""Plans which nodes could be given back, looks twice, and records proposals; never acts."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from fleet.consolidation.fitting import fit_as_placed
from fleet.consolidation.planning import plan_consolidation
from fleet.consolidation.records import (
    PLAN_TABLE,
    ConsolidationPolicy,
    ConsolidationProposal,
    FitTerms,
    NodeLoad,
    Standing,
)
from fleet.consolidation.validation import carried_out, validate_proposals
from fleet.costs.prices import PriceBook, RateTable
from fleet.costs.quotes import QuotePolicy
from fleet.costs.report import UNPAID
from fleet.declaration import FleetDeclaration
from fleet.errors import NotFoundError, StoreUnavailableError
from fleet.heartbeats import HeartbeatPolicy, Readiness, classify_heartbeat
from fleet.inventory_checks import HOLDING_PHASES
from fleet.operator_orders import select_live_maintenances
from fleet.placement.requests import rules_of
from fleet.ports.clock import PatientClock
from fleet.ports.control_store import ControlStore
from fleet.ports.lake import Lake
from fleet.reports import AgentDeclaration, declaration_of, node_declaration_of
from ops.evidence import column_schema, number_evidence, object_evidence, table_preview
from ops.inventory import AFTER
from ops.outcomes import outcomes
from ops.price_quotes import quoted_book

PARTITION = "all"
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
"""Since when a node counts as started that is being emptied: the emptying may start it anew."""
PREVIEW = ("kind", "region", "nodes", "agents_moved", "saving_per_hour", "standing", "reason")


@dg.op(
    ins=AFTER,
    out=dg.Out(dg.Nothing),
    description="Plan which nodes could be given back, and look again some seconds later.",
)
def plan_consolidation_op(
    context: dg.OpExecutionContext,
    control_store: dg.ResourceParam[ControlStore],
    fleet_declaration: dg.ResourceParam[FleetDeclaration],
    consolidation_policy: dg.ResourceParam[ConsolidationPolicy],
    price_book: dg.ResourceParam[PriceBook],
    quote_policy: dg.ResourceParam[QuotePolicy],
    lake: dg.ResourceParam[Lake],
    clock: dg.ResourceParam[PatientClock],
) -> None:
    """Record every proposal with its standing; committed by `Lake.write` after the second look."""
    from resources.lake.records import to_table

    heartbeats = fleet_declaration.heartbeats
    with outcomes(context.retry_number):
        book = quoted_book(lake, price_book, quote_policy)
        rows = propose_consolidation(
            control_store, lake, consolidation_policy, book, heartbeats, clock
        )
        now = clock.now()
        committed = lake.write(PLAN_TABLE, PARTITION, to_table(rows, ConsolidationProposal), now)
    metadata: dict[str, Any] = {
        **number_evidence(plan_numbers(rows)),
        **object_evidence(committed),
        "preview": table_preview(rows, PREVIEW),
        "dagster/table_name": PLAN_TABLE,
        "dagster/column_schema": column_schema(ConsolidationProposal),
    }
    context.add_output_metadata(metadata)


def propose_consolidation(
    store: ControlStore,
    lake: Lake,
    policy: ConsolidationPolicy,
    book: PriceBook,
    heartbeats: HeartbeatPolicy,
    clock: PatientClock,
) -> list[ConsolidationProposal]:
    """Plan, wait, look again.

    Raises:
        StoreUnavailableError: the process was asked to end while it waited; nothing is proposed.
    """
    fits = fit_as_placed(policy.headroom_ratio, read_terms(store))
    now = clock.now()
    loads = look_at_loads(store, book, heartbeats, now)
    past = read_past(lake, policy, now)
    planned = plan_consolidation(loads, carried_out(past, loads), policy, fits, now)
    if not planned:
        return []
    if not clock.pause(policy.validate_after_s):
        raise StoreUnavailableError("asked to end before the second look")
    now = clock.now()
    loads = look_at_loads(store, book, heartbeats, now)
    fits = fit_as_placed(policy.headroom_ratio, read_terms(store))  # rules may have changed, too
    return validate_proposals(planned, loads, carried_out(past, loads), policy, fits, now)


def read_terms(store: ControlStore) -> FitTerms:
    """Rules of workloads, quotas and limits of networks, and what is in use of them."""
    rules = {(one.network_id, one.workload): rules_of(one) for one in store.workloads()}
    limits = store.network_limits()
    used = store.network_uses([one.network_id for one in limits]) if limits else {}
    return FitTerms(rules, limits, used)


def look_once_more(
    store: ControlStore,
    lake: Lake,
    one: ConsolidationProposal,
    policy: ConsolidationPolicy,
    book: PriceBook,
    heartbeats: HeartbeatPolicy,
    now: datetime,
) -> ConsolidationProposal:
    """A recorded proposal at the moment in which somebody wants it done: validated, or dropped.

    What was done of it before a crash does not count against it.
    """
    fits = fit_as_placed(policy.headroom_ratio, read_terms(store))
    loads = look_at_loads(store, book, heartbeats, now, carrying_out=one.proposal_id)
    done = carried_out(read_past(lake, policy, now), loads)
    others = [each for each in done if each.node_id not in one.nodes]
    (again,) = validate_proposals([one], loads, others, policy, fits, now)
    return again


def mark_of(proposal_id: str) -> str:
    """How the reason of a maintenance begins that belongs to a proposal."""
    return f"consolidation {proposal_id}"


def look_at_loads(
    store: ControlStore,
    book: PriceBook,
    heartbeats: HeartbeatPolicy,
    now: datetime,
    carrying_out: str = "",
) -> list[NodeLoad]:
    """Every node that is paid for, with its agents; three listings of the store.

    Args:
        store: of the fleet.
        book: prices of nodes.
        heartbeats: when a node counts as ready.
        now: moment of the look.
        carrying_out: proposal whose own marks do not make a node one that is worked on: it was
            ready when it was marked, whatever its supervisor has done since.
    """
    live = select_live_maintenances(store.maintenances(), now)
    ours = {
        one.subject for one in live if carrying_out and one.reason.startswith(mark_of(carrying_out))
    }
    worked_on = {one.subject for one in live} - ours
    rates = RateTable(book)
    held: dict[str, list[AgentDeclaration]] = defaultdict(list)
    for agent in store.agents():
        if agent.node_id and agent.phase in HOLDING_PHASES:
            held[agent.node_id].append(declaration_of(agent))
    found = []
    for node in store.nodes():
        if node.phase in UNPAID:
            continue
        ready = classify_heartbeat(node, now, heartbeats).readiness is Readiness.READY
        subject = f"node/{node.node_id}"
        marked = {subject, f"region/{node.region}"} & worked_on
        is_ours = subject in ours
        found.append(
            NodeLoad(
                node_declaration_of(node),
                tuple(held[node.node_id]),
                rates.of(node).node_hour,
                (ready or is_ours) and not marked,
                LONG_AGO if is_ours else node.started_at,
            )
        )
    return found


def read_past(
    lake: Lake, policy: ConsolidationPolicy, now: datetime
) -> list[ConsolidationProposal]:
    """Proposals of the longest window that counts; none when nothing was ever proposed."""
    from resources.lake.records import from_table

    budgets = [*policy.budgets, *(one.budget for one in policy.workload_budgets)]
    longest = max([policy.settle_s, *(budget.window_s for budget in budgets)])
    try:
        table = lake.history(PLAN_TABLE, now - timedelta(seconds=longest), now, PARTITION)
    except NotFoundError:
        return []
    return from_table(table, ConsolidationProposal)


def read_plan(lake: Lake) -> list[ConsolidationProposal]:
    """The newest proposals; none when nothing was ever proposed."""
    from resources.lake.records import from_table

    try:
        return from_table(lake.read_latest(PLAN_TABLE, PARTITION), ConsolidationProposal)
    except NotFoundError:
        return []


def plan_numbers(rows: Sequence[ConsolidationProposal]) -> dict[str, int | float]:
    """What plots: proposals by standing, and what the validated ones would save."""
    validated = [row for row in rows if row.standing == Standing.VALIDATED]
    return {
        "proposals": len(rows),
        **_counts(rows),
        "nodes": sum(len(row.nodes) for row in validated),
        "agents_moved": sum(row.agents_moved for row in validated),
        "saving_per_hour": sum(row.saving_per_hour for row in validated),
    }


def _counts(rows: Iterable[ConsolidationProposal]) -> dict[str, int]:
    counts = Counter(row.standing for row in rows)
    return {standing.value: counts[standing.value] for standing in Standing}
