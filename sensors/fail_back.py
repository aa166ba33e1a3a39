"""Proposes that agents go home: rehearses what the controller has found to be calm for long enough.

The controller opens the proposal (an incident of the kind `fail_back`), which reaches people like
any other. This sensor lets it be rehearsed, again at intervals while that fails. Going home is
ordered by a person, or by the mode `auto`.
"""

import dagster as dg

from fleet.errors import StateroomError
from fleet.incidents import IncidentHeader, IncidentKind
from fleet.ports.clock import Clock
from fleet.ports.control_store import ControlStore
from ops.fail_back_jobs import REHEARSAL_JOB, rehearsal_request
from ops.fail_back_rehearsal import find_due

FAIL_BACK_SENSOR = "fail_back_sensor"

INTERVAL_S = 15

AGAIN_S = 600.0
"""Between two rehearsals of one proposal that fail."""

LOOKED_AT_MAX = 20_000
"""More than can be open at once; see `ops.failover_evidence`."""


def build_fail_back_sensor(*, running: bool) -> dg.SensorDefinition:
    """The sensor.

    Args:
        running: whether it runs unless somebody stops it in the UI.
    """
    status = dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED

    @dg.sensor(
        name=FAIL_BACK_SENSOR,
        job_name=REHEARSAL_JOB,
        minimum_interval_seconds=INTERVAL_S,
        default_status=status,
        description="Rehearses the way home of agents whose region is whole again.",
    )
    def fail_back_sensor(
        control_store: dg.ResourceParam[ControlStore], clock: dg.ResourceParam[Clock]
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            proposals = open_proposals(control_store)
            given = {(one.incident_id, one.action) for one in control_store.approvals()}
        except StateroomError as error:
            return dg.SkipReason(f"proposals cannot be read: {error}")
        due = find_due(proposals, lambda *name: name in given, clock.now(), AGAIN_S)
        requests = [rehearsal_request(one.subject, one.incident_id, n) for one, n in due]
        if not requests:
            return dg.SkipReason(f"{len(proposals)} fail-backs are open; none is to be rehearsed")
        return dg.SensorResult(run_requests=requests)

    return fail_back_sensor


def open_proposals(store: ControlStore) -> list[IncidentHeader]:
    """Fail-backs that have not ended, newest first."""
    found = store.incidents(open_only=True, limit=LOOKED_AT_MAX)
    return [one for one in found if one.kind == IncidentKind.FAIL_BACK]
