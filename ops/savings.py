"""Gathers every proposal that saves money into one list, dearest first."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from fleet.capacity import looks_held
from fleet.cleanup import CleanupProposal, LeftKind
from fleet.consolidation.records import ConsolidationProposal, Standing
from fleet.costs.proposals import (
    PROPOSALS_TABLE,
    ProposalKind,
    SavingProposal,
    make_proposal,
    rightsizing_proposals,
    spot_proposals,
)
from fleet.costs.report import CostRow
from fleet.costs.spot import SPOT_TABLE, SpotSuitability
from fleet.errors import NotFoundError
from fleet.ports.clock import Clock
from fleet.ports.lake import Lake
from ops.capacity import RESOURCES, Points, read_points
from ops.cleanup import read_cleanup
from ops.consolidation import read_plan
from ops.costs import read_costs
from ops.evidence import column_schema, number_evidence, object_evidence, table_preview
from ops.inventory import AFTER
from ops.outcomes import outcomes
from ops.rightsizing import read_advice

PARTITION = "all"
TESTED_DAYS = 14
"""Of the past, that giving nodes back is tested on."""
PREVIEW = ("kind", "subject", "saving_per_month", "tested", "reason")
_APPROVAL = "`stateroom costs cleanup --approve {}`"
_REMOVALS = {
    LeftKind.IDLE_AGENT: f"{_APPROVAL} stops it and lowers its workload's number.",
    LeftKind.RETIRED_STATE: "No command removes it; an agent of this name would go on from it.",
    LeftKind.UNDECLARED_BACKUPS: f"{_APPROVAL} forgets all snapshots that no guard keeps.",
    LeftKind.LAKE_PARTITION: f"{_APPROVAL} removes the rows.",
    LeftKind.AGENT_LOGS: f"{_APPROVAL} removes the files.",
    LeftKind.INDEX_GENERATION: f"{_APPROVAL} removes the files.",
}


@dg.op(ins=AFTER, out=dg.Out(dg.Nothing), description="Gather every proposal that saves money.")
def gather_savings_op(
    context: dg.OpExecutionContext,
    lake: dg.ResourceParam[Lake],
    clock: dg.ResourceParam[Clock],
) -> None:
    """Record a row for each proposal; committed by `Lake.write`."""
    from resources.lake.records import to_table

    now = clock.now()
    with outcomes(context.retry_number):
        rows = gather_savings(lake, now)
        committed = lake.write(PROPOSALS_TABLE, PARTITION, to_table(rows, SavingProposal), now)
    metadata: dict[str, Any] = {
        **number_evidence(saving_numbers(rows)),
        **object_evidence(committed),
        "preview": table_preview(rows, PREVIEW),
        "dagster/table_name": PROPOSALS_TABLE,
        "dagster/column_schema": column_schema(SavingProposal),
    }
    context.add_output_metadata(metadata)


def gather_savings(lake: Lake, now: datetime) -> list[SavingProposal]:
    """Every proposal of the newest plans; they overlap, so their savings do not add up."""
    points = read_points(lake, now - timedelta(days=TESTED_DAYS), now)
    sizes = _node_sizes(read_costs(lake))
    found = [
        *rightsizing_proposals(read_advice(lake), now),
        *spot_proposals(read_spot(lake), now),
        *(consolidation_saving(one, points, sizes, now) for one in read_plan(lake) if _stands(one)),
        *(cleanup_saving(one, now) for one in read_cleanup(lake) if not one.held),
    ]
    return sorted(found, key=lambda one: (-one.saving_per_hour, one.kind, one.subject))


def _stands(one: ConsolidationProposal) -> bool:
    return one.standing == Standing.VALIDATED


def _node_sizes(rows: Iterable[CostRow]) -> dict[str, Counter[str]]:
    """Capacity of each node by resource, as the report adds it up."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row.node_id:
            found[row.node_id].update({name: getattr(row, name) for name in RESOURCES})
    return found


def back_test_loss(
    one: ConsolidationProposal, points: Points, sizes: Mapping[str, Mapping[str, int]]
) -> str:
    """On the recorded looks: whether the other nodes would have had room for the region."""
    held, looks = 0, 0
    for resource in RESOURCES:
        seen = points.get((one.region, resource), ())
        removed = sum(sizes.get(name, {}).get(resource, 0) for name in one.nodes)
        fitting = looks_held(seen, removed)
        held = fitting if not looks else min(held, fitting)
        looks = max(looks, len(seen))
    if not looks:
        return "two looks, apart in time; no report has recorded the region yet"
    return f"two looks; the other nodes had room at {held} of {looks} recorded looks"


def consolidation_saving(
    one: ConsolidationProposal,
    points: Points,
    sizes: Mapping[str, Mapping[str, int]],
    now: datetime,
) -> SavingProposal:
    """Nodes that could be given back, as a proposal."""
    names = ", ".join(one.nodes[:5]) + (", ..." if len(one.nodes) > 5 else "")
    return make_proposal(
        ProposalKind.CONSOLIDATION,
        ",".join(one.nodes),
        one.region,
        one.saving_per_hour,
        back_test_loss(one, points, sizes),
        one.reason,
        f"`stateroom costs consolidation --approve {one.proposal_id}` empties {names}; then give "
        "them back.",
        now,
    )


def cleanup_saving(one: CleanupProposal, now: datetime) -> SavingProposal:
    """Something left behind, as a proposal."""
    return make_proposal(
        ProposalKind.CLEANUP,
        f"{one.kind} {one.region} {one.subject}".replace("  ", " "),
        one.region,
        one.saving_per_hour,
        "its own samples of that time" if one.kind == LeftKind.IDLE_AGENT else "the newest listing",
        one.reason,
        _REMOVALS[LeftKind(one.kind)].format(one.proposal_id),
        now,
    )


def read_spot(lake: Lake) -> list[SpotSuitability]:
    """The newest judgement; none when there never was any."""
    from resources.lake.records import from_table

    try:
        return from_table(lake.read_latest(SPOT_TABLE, PARTITION), SpotSuitability)
    except NotFoundError:
        return []


def saving_numbers(rows: Sequence[SavingProposal]) -> dict[str, int | float]:
    """What plots: how many of each kind, and what each kind would save in a month."""
    numbers: dict[str, int | float] = {"proposals": len(rows)}
    for kind in ProposalKind:
        of_kind = [row for row in rows if row.kind == kind]
        numbers[kind.value] = len(of_kind)
        numbers[f"saving_per_month of {kind.value}"] = sum(
            max(0.0, row.saving_per_month) for row in of_kind
        )
    return numbers
