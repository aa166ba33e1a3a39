"""Gathers every proposal that saves money into one list, dearest first."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import dagster as dg

from fleet.cleanup import CleanupProposal
from fleet.consolidation.records import ConsolidationProposal, Standing
from fleet.costs.proposals import (
    PROPOSALS_TABLE,
    ProposalKind,
    SavingProposal,
    make_proposal,
    rightsizing_proposals,
    spot_proposals,
)
from fleet.costs.spot import SPOT_TABLE, SpotSuitability
from fleet.errors import NotFoundError
from fleet.ports.clock import Clock
from fleet.ports.lake import Lake
from ops.cleanup import read_cleanup
from ops.consolidation import read_plan
from ops.evidence import column_schema, number_evidence, object_evidence, table_preview
from ops.inventory import AFTER
from ops.outcomes import outcomes
from ops.rightsizing import read_advice

PARTITION = "all"
PREVIEW = ("kind", "subject", "saving_per_month", "tested", "reason")
_REMOVALS = {
    "idle_agent": "Lower the workload's replicas, or stop the agent.",
    "retired_state": "Back the network up, then remove the state by hand.",
    "undeclared_backups": "`stateroom keys shred --network NAME` destroys them for good.",
    "lake_partition": "`stateroom costs cleanup --approve ID` removes the rows.",
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
    found = [
        *rightsizing_proposals(read_advice(lake), now),
        *spot_proposals(read_spot(lake), now),
        *(consolidation_saving(one, now) for one in read_plan(lake) if _stands(one)),
        *(cleanup_saving(one, now) for one in read_cleanup(lake) if not one.held),
    ]
    return sorted(found, key=lambda one: (-one.saving_per_hour, one.kind, one.subject))


def _stands(one: ConsolidationProposal) -> bool:
    return one.standing == Standing.VALIDATED


def consolidation_saving(one: ConsolidationProposal, now: datetime) -> SavingProposal:
    """Nodes that could be given back, as a proposal."""
    names = ", ".join(one.nodes[:5]) + (", ..." if len(one.nodes) > 5 else "")
    return make_proposal(
        ProposalKind.CONSOLIDATION,
        ",".join(one.nodes),
        one.region,
        one.saving_per_hour,
        "two looks at the placements, apart in time",
        one.reason,
        f"Move their agents away (`stateroom failover node NAME --approve`): {names}.",
        now,
    )


def cleanup_saving(one: CleanupProposal, now: datetime) -> SavingProposal:
    """Something left behind, as a proposal."""
    return make_proposal(
        ProposalKind.CLEANUP,
        f"{one.kind} {one.region} {one.subject}".replace("  ", " "),
        one.region,
        one.saving_per_hour,
        "the newest listing",
        one.reason,
        _REMOVALS[one.kind],
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
