"""Brings agents back as they were: a run like any other, so that it stands in the history.

Version-guarded, and committed agent by agent (`resources/vault/restores/restore.py`): what was
written stays, and running again brings back the rest. `stateroom restore` does the same with a
preview, and leaves the same observation.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
from pydantic import Field

from fleet.backup_tables import SNAPSHOTS
from fleet.errors import InvalidInputError
from fleet.ports.control_store import ControlStore
from ops.evidence import number_evidence
from ops.outcomes import outcomes
from resources.vault.region_vaults import RegionVaults

if TYPE_CHECKING:
    from resources.vault.restores.restore import RestoreResult

NAMED_MAX = 50
"""Agents that a restore's evidence names of each kind; all are counted."""


class RestoreConfig(dg.Config):
    """Whom to bring back, as of when, from where."""

    network: str = Field(description="Network whose agents are restored.")
    agents: list[str] = Field(default=[], description="Agent ids; empty for the whole network.")
    at: str = Field(
        default="",
        description="Moment wanted, with its zone, as 2026-11-21T14:00:00+00:00. Empty: the newest "
        "that is held.",
    )
    snapshot: str = Field(default="", description="Exactly one snapshot, in place of a moment.")
    region: str = Field(default="", description="Whose copy is read; empty for the home's.")
    newer: Literal["refuse", "skip", "overwrite"] = Field(
        default="refuse", description="What to do where live states are newer."
    )
    best_effort: bool = Field(
        default=False, description="Take the newest older good version where something is damaged."
    )


@dg.op(out=dg.Out(dg.Nothing), description="Bring agents' states back from a vault.")
def restore_agents_op(
    context: dg.OpExecutionContext,
    config: RestoreConfig,
    region_vaults: dg.ResourceParam[RegionVaults],
    control_store: dg.ResourceParam[ControlStore],
) -> None:
    """Restore, and leave what was done as an observation on the network's snapshots."""
    with outcomes(context.retry_number):
        done = _restore(region_vaults, control_store, config)
    region = config.region or region_vaults.declaration.home_region
    observed = observation_of(config.network, region, done)
    context.log_event(observed)
    context.add_output_metadata(observed.metadata)


def observation_of(network_id: str, region: str, done: "RestoreResult") -> dg.AssetObservation:
    """What a restore did, as it stands in the history of the network's snapshots."""
    metadata: dict[str, Any] = {
        "snapshot_id": done.snapshot_id,
        "achieved": str(done.achieved or done.taken_at),
        "region": region,
        "complete": done.certain and not (done.refused or done.missing or done.substitutions),
        **number_evidence(
            {
                "restored": done.restored,
                "unchanged": done.unchanged,
                "skipped": len(done.skipped),
                "refused": len(done.refused),
                "missing": len(done.missing),
                "substituted": len(done.substitutions),
                "restoring_s": done.seconds,
            }
        ),
        "refused_agents": [list(one) for one in done.refused[:NAMED_MAX]],
        "missing_agents": [list(one) for one in done.missing[:NAMED_MAX]],
        "substituted_agents": [str(one) for one in done.substitutions[:NAMED_MAX]],
        "notes": list(done.notes[:NAMED_MAX]),
    }
    said = f"{done.restored} agents of {network_id} restored, {done.unchanged} unchanged"
    return dg.AssetObservation(SNAPSHOTS, partition=network_id, description=said, metadata=metadata)


def _restore(
    vaults: RegionVaults, control_store: ControlStore, config: RestoreConfig
) -> "RestoreResult":
    from resources.vault.restores.restore import ControlStoreTarget, restore

    region = config.region or vaults.declaration.home_region
    return restore(
        vaults.network(region, config.network),
        ControlStoreTarget(control_store),
        at=parse_moment(config.at),
        snapshot_id=config.snapshot or None,
        agent_ids=config.agents or None,
        newer=config.newer,
        best_effort=config.best_effort,
    )


def parse_moment(text: str) -> datetime | None:
    """The moment that a run config names; None for the newest.

    Raises:
        InvalidInputError: it is no moment, or has no zone: an hour off would restore the wrong one.
    """
    if not text:
        return None
    allowed = "a moment with its zone, as 2026-11-21T14:00:00+00:00"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInputError("at", text, allowed) from error
    if moment.tzinfo is None:
        raise InvalidInputError("at", text, allowed)
    return moment


def build_restore_job(name: str, tags: dict[str, str]) -> dg.JobDefinition:
    """The job that restores; it has no default for the network: nobody restores by accident."""

    @dg.job(
        name=name,
        tags=tags,
        description="Brings agents' states back from a vault, as of a moment or a snapshot.",
        executor_def=dg.in_process_executor,
    )
    def restore_agents() -> None:
        restore_agents_op()

    return restore_agents
