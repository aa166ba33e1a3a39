"""The sensor asks for one rehearsal of each proposal, and for another one while that fails."""

from __future__ import annotations

import dagster as dg

from fleet.incidents import IncidentKind, IncidentOpening
from ops.fail_back_jobs import REHEARSAL_JOB
from sensors.fail_back import AGAIN_S, build_fail_back_sensor
from tests.fakes.clock import ManualClock
from tests.fakes.control_store import InMemoryControlStore


def look(store: InMemoryControlStore, clock: ManualClock) -> dg.SensorResult | dg.SkipReason:
    """One tick of the sensor."""
    context = dg.build_sensor_context(resources={"control_store": store, "clock": clock})
    found = build_fail_back_sensor(running=True)(context)
    assert isinstance(found, dg.SensorResult | dg.SkipReason)
    return found


def open_one(store: InMemoryControlStore, clock: ManualClock, kind: IncidentKind) -> str:
    """An incident of region eu that has not ended."""
    opening = IncidentOpening(kind, "eu", "eu", "why", clock.now())
    return store.open_incident(opening).incident_id


def test_a_proposal_is_rehearsed_once_and_again_after_a_while() -> None:
    """The run key keeps a second look from asking twice."""
    clock = ManualClock()
    store = InMemoryControlStore(clock)
    open_one(store, clock, IncidentKind.REGION)
    assert isinstance(look(store, clock), dg.SkipReason)
    incident = open_one(store, clock, IncidentKind.FAIL_BACK)
    keys = []
    for wait_s in (0.0, 1.0, AGAIN_S):
        clock.advance(wait_s)
        found = look(store, clock)
        assert isinstance(found, dg.SensorResult)
        assert found.run_requests is not None
        [request] = found.run_requests
        assert request.job_name == REHEARSAL_JOB
        assert request.run_config["ops"]["rehearse_op"]["config"]["region"] == "eu"
        keys.append(request.run_key)
    assert keys == [f"{incident}/rehearsal/{number}" for number in (1, 1, 2)]


def test_what_has_been_rehearsed_is_left_to_people() -> None:
    """By whomever it was."""
    clock = ManualClock()
    store = InMemoryControlStore(clock)
    incident = open_one(store, clock, IncidentKind.FAIL_BACK)
    store.approve_action(incident, "rehearsed:eu", "ann", "looked at it")
    found = look(store, clock)
    assert isinstance(found, dg.SkipReason)
    assert "1 fail-backs are open" in str(found.skip_message)
