"""Claims about failover, judged at the moment of the check on what the store and the lake hold.

None rests on a run having succeeded: a controller that is dead, an incident that nobody ends and a
backup that grows old turn a claim red by their age alone.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import dagster as dg

from fleet.agents import StateChange
from fleet.declaration import FleetDeclaration
from fleet.errors import CorruptObjectError
from fleet.failover_declaration import FailoverDeclaration
from fleet.failover_tables import (
    INCIDENTS,
    NODE_HEALTH,
    PLACEMENTS,
    READINESS,
    ReadinessRow,
)
from fleet.incident_rows import check_ends
from fleet.inventory_checks import CheckVerdict, Offender
from fleet.leases import LEADER_LEASE
from fleet.node_health import check_controller
from fleet.placement_judgement import check_double_placements, check_stale_epochs
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from fleet.ports.lake import Lake
from fleet.takeover import check_readiness
from ops.backup_rows import read_rows
from ops.evidence import check_result
from ops.failover_reports import placement_pages
from ops.inventory_reads import qualify
from ops.outcomes import outcomes

CLAIMS = {
    NODE_HEALTH: {
        "the_controller_is_alive": "A controller leads, has looked lately, and is not frozen.",
    },
    INCIDENTS: {
        "no_incident_is_without_an_end": "No incident is open for longer than its bound.",
    },
    PLACEMENTS: {
        "no_agent_is_on_two_nodes": "No epoch was ever given to two nodes, and none lacks its row.",
        "no_stale_epoch_was_accepted": (
            "No order and no state was accepted under an epoch or term that had been replaced."
        ),
    },
    READINESS: {
        "every_region_could_be_taken_over": (
            "Every claim about a takeover holds, or is waived by the settings."
        ),
    },
}
"""Table -> claim -> what it means."""

OPEN_MAX = 1000
"""Open incidents that are judged, newest first: a fleet with more has other troubles."""

CHANGES_PAGE = 20_000
"""Entries of the change log that are read at once."""


class Evidence(NamedTuple):
    """What the judges may read, and the moment at which they judge."""

    store: ControlStore
    lake: Lake
    declaration: FailoverDeclaration
    fleet: FleetDeclaration
    clock: Clock


Judge = Callable[[Evidence], Mapping[str, CheckVerdict]]


def build_failover_checks() -> list[dg.AssetChecksDefinition]:
    """The checks of the group; none blocks."""
    judges: dict[str, Judge] = {
        NODE_HEALTH: _judge_controller,
        INCIDENTS: _judge_incidents,
        PLACEMENTS: _judge_placements,
        READINESS: _judge_readiness,
    }
    return [_checks(table, judge) for table, judge in judges.items()]


def _checks(table: str, judge: Judge) -> dg.AssetChecksDefinition:
    """One step that judges all claims about a table."""

    @dg.multi_asset_check(
        specs=[
            dg.AssetCheckSpec(name, asset=table, description=meaning, blocking=False)
            for name, meaning in CLAIMS[table].items()
        ],
        can_subset=True,
        name=f"check_{table}",
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        control_store: dg.ResourceParam[ControlStore],
        lake: dg.ResourceParam[Lake],
        failover_declaration: dg.ResourceParam[FailoverDeclaration],
        fleet_declaration: dg.ResourceParam[FleetDeclaration],
        clock: dg.ResourceParam[Clock],
    ) -> Iterator[dg.AssetCheckResult]:
        with outcomes(context.op_execution_context.retry_number):
            verdicts = judge(
                Evidence(control_store, lake, failover_declaration, fleet_declaration, clock)
            )
        for name, verdict in verdicts.items():
            key = dg.AssetCheckKey(dg.AssetKey(table), name)
            if key in context.selected_asset_check_keys:
                yield check_result(key, verdict)

    return check


def _judge_controller(evidence: Evidence) -> Mapping[str, CheckVerdict]:
    store = evidence.store
    verdict = check_controller(
        store.lease(LEADER_LEASE),
        store.controller_view(),
        evidence.clock.now(),
        enabled=evidence.declaration.enabled,
    )
    return {"the_controller_is_alive": verdict}


def _judge_incidents(evidence: Evidence) -> Mapping[str, CheckVerdict]:
    standing = evidence.store.incidents(open_only=True, limit=OPEN_MAX)
    return {"no_incident_is_without_an_end": check_ends(standing, evidence.clock.now())}


def _judge_placements(evidence: Evidence) -> Mapping[str, CheckVerdict]:
    """Both claims on one reading; placements first, so that none lacks a row by a race."""
    placed = evidence.store.placements()
    rows = [row for page in placement_pages(evidence.store) for row in page]
    return {
        "no_agent_is_on_two_nodes": check_double_placements(rows, placed),
        "no_stale_epoch_was_accepted": check_stale_epochs(rows, _changes(evidence.store)),
    }


def _changes(store: ControlStore) -> Iterator[StateChange]:
    """The log of state changes, page by page."""
    after = 0
    while page := store.state_changes(after, CHANGES_PAGE):
        yield from page
        after = page[-1].change_id
        if len(page) < CHANGES_PAGE:
            return


def _judge_readiness(evidence: Evidence) -> Mapping[str, CheckVerdict]:
    """Rows that cannot be read are no evidence, so the claim about them fails."""
    unread: list[Offender] = []
    rows: list[ReadinessRow] = []
    try:
        rows = read_rows(evidence.lake, READINESS, ReadinessRow)
    except CorruptObjectError as error:
        unread.append(Offender(READINESS, "lake", str(error)))
    verdict = check_readiness(rows, evidence.fleet.regions, evidence.clock.now())
    return {"every_region_could_be_taken_over": qualify(verdict, unread)}
