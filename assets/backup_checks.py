"""Claims about backups, judged at the moment of the check on the newest rows of all partitions.

Evidence that is not renewed turns a claim red by its age alone: `recovery_objectives_job` judges
all of them every quarter of an hour, whether or not anything ran in between.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import dagster as dg

from fleet.backup_checks import (
    check_covered_networks,
    check_damage,
    check_damaged_states,
    check_evidence_age,
    check_recovery_point,
    check_recovery_time,
    check_replicas,
    evidence_ages,
)
from fleet.backup_declaration import BackupDeclaration
from fleet.backup_tables import (
    OBJECTIVES,
    REPLICAS,
    SNAPSHOTS,
    VERIFICATIONS,
    ProvenLevel,
    RecoveryObjective,
    Replica,
    TakenSnapshot,
)
from fleet.errors import CorruptObjectError
from fleet.inventory_checks import CheckVerdict, Offender
from fleet.ports.clock import Clock
from fleet.ports.lake import Lake
from ops.backup_rows import read_rows
from ops.evidence import check_result
from ops.inventory import STATES
from ops.inventory_reads import qualify
from ops.outcomes import outcomes
from ops.recovery_objectives import read_histories, read_objectives

CLAIMS = {
    SNAPSHOTS: {
        "no_live_state_was_damaged": "Every state that was backed up last matched its digest.",
    },
    REPLICAS: {
        "replicas_are_not_behind": (
            "No region's copy is behind the home by more than half of the recovery point objective."
        ),
    },
    VERIFICATIONS: {
        "no_damage_was_found": "The newest verification of each level found nothing wrong.",
        "structure_is_proven": "Every copy has passed V1 within three hours.",
        "restores_are_tested": "Every copy has been restored and opened (V4) lately.",
        "drills_are_run": "Every copy has brought a lost region back (V5) lately.",
    },
    OBJECTIVES: {
        "every_network_has_a_verified_snapshot": (
            "Every network whose agents have states has a snapshot that was verified (V1)."
        ),
        "recovery_point_objective_holds": "No network would lose more than the objective allows.",
        "recovery_time_objective_holds": "The newest drills stayed within the objective.",
    },
}
"""Table -> claim -> what it means."""

EVIDENCE_CLAIMS = {"V1": "structure_is_proven", "V4": "restores_are_tested", "V5": "drills_are_run"}

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

    def objectives(self, now: datetime) -> list[RecoveryObjective]:
        """The objectives of all regions at this moment, whenever they were recorded last."""
        history = read_histories(self.lake)
        return [
            row
            for region in self.declaration.regions
            for row in read_objectives(self.lake, region, history, now)
        ]


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
        return judge(evidence)
    except CorruptObjectError as error:
        unread = [Offender(table, "lake", str(error))]
        nothing = check_damage([])
        return {name: qualify(nothing, unread) for name in CLAIMS[table]}


def _judge_snapshots(evidence: Evidence) -> Mapping[str, CheckVerdict]:
    snapshots = evidence.rows(SNAPSHOTS, TakenSnapshot)
    return {"no_live_state_was_damaged": check_damaged_states(snapshots)}


def _judge_replicas(evidence: Evidence) -> Mapping[str, CheckVerdict]:
    replicas = evidence.rows(REPLICAS, Replica)
    return {"replicas_are_not_behind": check_replicas(replicas, evidence.declaration.rpo_max_s)}


def _judge_verifications(evidence: Evidence) -> Mapping[str, CheckVerdict]:
    declaration, now = evidence.declaration, evidence.clock.now()
    objectives = evidence.objectives(now)
    ages = evidence_ages(declaration.restore_test_max_age_days, declaration.drill_max_age_days)
    verdicts = {
        EVIDENCE_CLAIMS[age.level]: check_evidence_age(objectives, age, now) for age in ages
    }
    damage = check_damage(evidence.rows(VERIFICATIONS, ProvenLevel))
    return {"no_damage_was_found": damage, **verdicts}


def _judge_objectives(evidence: Evidence) -> Mapping[str, CheckVerdict]:
    declaration, now = evidence.declaration, evidence.clock.now()
    objectives = evidence.objectives(now)
    return {
        "every_network_has_a_verified_snapshot": check_covered_networks(
            _stated_networks(evidence.lake), objectives, declaration.home_region
        ),
        "recovery_point_objective_holds": check_recovery_point(
            objectives, declaration.rpo_max_s, now
        ),
        "recovery_time_objective_holds": check_recovery_time(objectives, declaration.rto_max_s),
    }


def _stated_networks(lake: Lake) -> dict[str, int]:
    """Networks whose agents have states, with their number, by the newest inventory."""
    if not lake.objects(STATES):
        return {}
    found = lake.query(f"SELECT network_id, count(*) AS agents FROM {STATES} GROUP BY 1")  # noqa: S608  our own name
    return {row["network_id"]: row["agents"] for row in found.to_pylist()}
