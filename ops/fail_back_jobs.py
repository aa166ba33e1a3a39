"""The job that rehearses a proposed fail-back, and how its run is asked for."""

import dagster as dg
from pydantic import Field

from fleet.ports.clock import PatientClock
from fleet.ports.cluster import PlacementFollower
from fleet.ports.control_store import ControlStore
from fleet.traffic_declaration import TrafficDeclaration
from ops.fail_back_rehearsal import record_rehearsal, rehearse
from ops.failover import run_ports, traffic_ports
from ops.failover_jobs import FAILOVER_CLASS, INCIDENT
from ops.outcomes import outcomes

REHEARSAL_JOB = "fail_back_rehearsal_job"


class RehearsalConfig(dg.Config):
    """What is rehearsed."""

    region: str = Field(description="Whose agents run elsewhere.")
    incident_id: str = Field(description="The proposal that takes the result.")
    attempt: int = Field(default=1, ge=1, description="Number of this rehearsal of the proposal.")


@dg.op(description="Rehearse a fail-back: capacity, states, routers. Nobody is moved.")
def rehearse_op(
    context: dg.OpExecutionContext,
    config: RehearsalConfig,
    control_store: dg.ResourceParam[ControlStore],
    cluster: dg.ResourceParam[PlacementFollower],
    clock: dg.ResourceParam[PatientClock],
    traffic_declaration: dg.ResourceParam[TrafficDeclaration],
) -> None:
    """Record in the proposal what was found; a rehearsal that fails is a result, not an error."""
    with (
        outcomes(context.retry_number),
        traffic_ports(control_store, clock, traffic_declaration) as traffic,
    ):
        ports = run_ports(control_store, cluster, clock)._replace(traffic=traffic)
        facts = rehearse(ports, config.region)
        said = record_rehearsal(ports, config.incident_id, facts, config.attempt)
    context.log.info(said)
    context.add_output_metadata(
        {"result": said, "agents_placed": facts.placed, "agents_staying": facts.staying}
    )


@dg.job(
    name=REHEARSAL_JOB,
    description="Rehearses the way home of a region's agents; nobody is moved.",
    tags=FAILOVER_CLASS,
    executor_def=dg.in_process_executor,
)
def fail_back_rehearsal_job() -> None:
    """One op."""
    rehearse_op()


def rehearsal_request(region: str, incident_id: str, attempt: int) -> dg.RunRequest:
    """Ask for one rehearsal; asked twice, it runs once."""
    config = {"region": region, "incident_id": incident_id, "attempt": attempt}
    return dg.RunRequest(
        run_key=f"{incident_id}/rehearsal/{attempt}",
        job_name=REHEARSAL_JOB,
        run_config={"ops": {"rehearse_op": {"config": config}}},
        tags={INCIDENT: incident_id, "stateroom/subject": region},
    )
