"""Claims about backups, judged at the moment of the check on the newest rows of all partitions.

Evidence that is not renewed turns a claim red by its age alone: `recovery_objectives_job` judges
all of them every quarter of an hour, whether or not anything ran in between.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import dagster as dg

from fleet.backup_checks import (
    agent_copies,
    check_covered_networks,
    check_damage,
    check_damaged_states,
    check_incomplete,
    check_lag,
    check_level,
    check_platform_age,
    check_recovery_point,
    check_recovery_time,
    excuse_shredded,
)
from fleet.backup_declaration import BackupDeclaration, declared_objectives
from fleet.backup_tables import (
    OBJECTIVES,
    REPLICAS,
    SHREDDED,
    SNAPSHOTS,
    VERIFICATIONS,
    ProvenLevel,
    ShreddedNetwork,
    TakenSnapshot,
)
from fleet.errors import CorruptObjectError
from fleet.inventory_checks import CheckVerdict, Offender
from fleet.ports.clock import Clock
from fleet.ports.lake import Lake
from fleet.recovery_objectives import ObjectivePolicy
from fleet.recovery_rows import CopyFacts
from ops.backup_rows import read_rows
from ops.evidence import check_result
from ops.inventory import STATES
from ops.inventory_reads import qualify
from ops.outcomes import outcomes
from ops.recovery_objectives import read_copies

CLAIMS = {
    SNAPSHOTS: {
        "no_snapshot_lacks_an_artefact": "Every artefact is whole in the newest snapshot.",
        "no_live_state_was_damaged": "Every state that was backed up last matched its digest.",
    },
    REPLICAS: {
        "replicas_are_not_behind": (
            "No region's newest snapshot is older than the home's by more than the objective."
        ),
    },
    VERIFICATIONS: {
        "no_damage_was_found": "The newest verification of each level found nothing wrong.",
        "structure_is_proven": "Every copy has passed V1 within three hours.",
        "stored_bytes_are_proven": "Every byte of every copy has been read (V2) within eight days.",
        "content_is_proven": "All content of every copy has been opened (V3) within eight days.",
        "restores_are_tested": "Every copy has been restored and opened (V4) lately.",
        "drills_are_run": "Every copy has brought a lost region back (V5) lately.",
    },
    OBJECTIVES: {
        "every_network_has_a_verified_snapshot": (
            "Every network whose agents have states has a snapshot that was verified (V1)."
        ),
        "the_platform_itself_is_backed_up": (
            "Control store and lake have a snapshot of the last hours in every region."
        ),
        "recovery_point_objective_holds": "No network would lose more than the objective allows.",
        "recovery_time_objective_holds": "The newest drills stayed within the objective.",
    },
}
"""Table -> claim -> what it means."""

EVIDENCE_CLAIMS = {
    "V1": "structure_is_proven",
    "V2": "stored_bytes_are_proven",
    "V3": "content_is_proven",
    "V4": "restores_are_tested",
    "V5": "drills_are_run",
}
"""Level -> claim about the age of its evidence."""

Verdicts = Iterator[dg.AssetCheckResult]
Judge = Callable[["Evidence"], Mapping[str, CheckVerdict]]


class Evidence(NamedTuple):
    """What the judges of one table may read, and the moment at which they judge."""

    lake: Lake
    declaration: BackupDeclaration
    clock: Clock

    def rows(self, table: str, record: type[Any]) -> list[Any]:
        """Newest rows of all partitions."""
        return read_rows(self.lake, table, record)

    def copies(self) -> list[CopyFacts]:
        """What is known of every copy in all regions."""
        return read_copies(self.lake, self.declaration.regions)

    @property
    def policy(self) -> ObjectivePolicy:
        """The declared objectives."""
        return declared_objectives(self.declaration)


def build_backup_checks() -> list[dg.AssetChecksDefinition]:
    """The checks of the group; none blocks: a backup with a fault is better than none."""
    judges = {
        SNAPSHOTS: _judge_snapshots,
        REPLICAS: _judge_replicas,
        VERIFICATIONS: _judge_verifications,
        OBJECTIVES: _judge_objectives,
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
        lake: dg.ResourceParam[Lake],
        backup_declaration: dg.ResourceParam[BackupDeclaration],
        clock: dg.ResourceParam[Clock],
    ) -> Verdicts:
        with outcomes(context.op_execution_context.retry_number):
            verdicts = _judged(judge, Evidence(lake, backup_declaration, clock), table)
        for name, verdict in verdicts.items():
            key = dg.AssetCheckKey(dg.AssetKey(table), name)
            if key in context.selected_asset_check_keys:
                yield check_result(key, verdict)

    return check


def _judged(judge: Judge, evidence: Evidence, table: str) -> Mapping[str, CheckVerdict]:
    """Verdicts; rows that cannot be read are no evidence, so every claim about them fails."""
    try:
        gone = evidence.rows(SHREDDED, ShreddedNetwork)
        declared = evidence.declaration.networks
        verdicts = judge(evidence).items()
        return {name: excuse_shredded(one, declared, gone) for name, one in verdicts}
    except CorruptObjectError as error:
        unread = [Offender(table, "lake", str(error))]
        nothing = check_damage([])
        return {name: qualify(nothing, unread) for name in CLAIMS[table]}


def _judge_snapshots(evidence: Evidence) -> Mapping[str, CheckVerdict]:
    snapshots = evidence.rows(SNAPSHOTS, TakenSnapshot)
    return {
        "no_snapshot_lacks_an_artefact": check_incomplete(snapshots),
        "no_live_state_was_damaged": check_damaged_states(snapshots),
    }


def _judge_replicas(evidence: Evidence) -> Mapping[str, CheckVerdict]:
    copies, now = agent_copies(evidence.copies()), evidence.clock.now()
    return {"replicas_are_not_behind": check_lag(copies, evidence.policy, now)}


def _judge_verifications(evidence: Evidence) -> Mapping[str, CheckVerdict]:
    copies, now = evidence.copies(), evidence.clock.now()
    verdicts = {
        # a drill starts agents, and the platform's own stores have none
        claim: check_level(
            agent_copies(copies) if level == "V5" else copies, level, evidence.policy, now
        )
        for level, claim in EVIDENCE_CLAIMS.items()
    }
    damage = check_damage(evidence.rows(VERIFICATIONS, ProvenLevel))
    return {"no_damage_was_found": damage, **verdicts}


def _judge_objectives(evidence: Evidence) -> Mapping[str, CheckVerdict]:
    everything, policy, now = evidence.copies(), evidence.policy, evidence.clock.now()
    copies = agent_copies(everything)
    return {
        "the_platform_itself_is_backed_up": check_platform_age(everything, policy, now),
        "every_network_has_a_verified_snapshot": check_covered_networks(
            _stated_networks(evidence.lake),
            copies,
            evidence.declaration.home_region,
            evidence.rows(SHREDDED, ShreddedNetwork),
        ),
        "recovery_point_objective_holds": check_recovery_point(copies, policy, now),
        "recovery_time_objective_holds": check_recovery_time(copies, policy, now),
    }


def _stated_networks(lake: Lake) -> dict[str, int]:
    """Networks whose agents have states, with their number, by the newest inventory."""
    if not lake.objects(STATES):
        return {}
    found = lake.query(f"SELECT network_id, count(*) AS agents FROM {STATES} GROUP BY 1")  # noqa: S608  our own name
    return {row["network_id"]: row["agents"] for row in found.to_pylist()}
