"""A failed failover run becomes one incident, once, and ends when its cause is gone."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from fleet.errors import StoreUnavailableError
from fleet.incidents import IncidentHeader, IncidentKind, IncidentOpening, IncidentState
from ops.failover_jobs import FAILOVER_JOB, INCIDENT
from sensors.failed_runs import end_incidents, open_incidents
from sensors.failover_reports import read_standing
from tests.fakes.clock import ManualClock
from tests.fakes.control_store import InMemoryControlStore

LONG_AGO = datetime.now(UTC) - timedelta(hours=1)


@dg.op(config_schema={"fails": bool})
def move(context: dg.OpExecutionContext) -> None:
    """Fails on request, with words of its own."""
    if context.op_config["fails"]:
        raise dg.Failure("nodes of eu have no room", allow_retries=False)


@dg.job(name=FAILOVER_JOB)
def failover() -> None:
    """Stands for the real one: the sensor knows a job by its name."""
    move()


class Night:
    """A store with one incident of a node, and Dagster."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        """The node is lost."""
        self.instance = instance
        self.clock = ManualClock()
        self.store = InMemoryControlStore(self.clock)
        opening = IncidentOpening(IncidentKind.NODE, "eu-1", "eu", "it is silent", self.clock.now())
        self.lost = self.store.open_incident(opening)

    def run(self, *, fails: bool) -> str:
        """A run for the incident."""
        return failover.execute_in_process(
            instance=self.instance,
            run_config={"ops": {"move": {"config": {"fails": fails}}}},
            tags={INCIDENT: self.lost.incident_id},
            raise_on_error=False,
        ).run_id

    def look(self, since: datetime = LONG_AGO) -> tuple[datetime, list[str]]:
        """One look for failed runs."""
        return open_incidents(self.instance, self.store, since)

    def end(self) -> list[str]:
        """One look for incidents that are over."""
        return end_incidents(self.instance, self.store, datetime.now(UTC))

    def of_run(self, run_id: str) -> IncidentHeader:
        """The incident of a run."""
        found = self.store.incident(f"run-{run_id}")
        assert found is not None
        return found


@pytest.fixture
def night() -> Iterator[Night]:
    """Dagster in memory."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield Night(instance)


def test_a_failed_run_is_one_incident_however_often_it_is_looked_at(night: Night) -> None:
    """With the words of the step, the place of its cause, and never a second one."""
    run_id = night.run(fails=True)
    until, opened = night.look()
    assert opened == [f"run-{run_id}"]
    header = night.of_run(run_id)
    assert (header.kind, header.region, header.state) == (IncidentKind.RUN, "eu", "open")
    assert header.reason.endswith("move: nodes of eu have no room")
    assert night.lost.incident_id in header.reason
    assert night.look(until)[1] == []
    assert night.look()[1] == []
    assert night.end() == []


def test_a_run_that_succeeded_is_no_incident(night: Night) -> None:
    """Only failures are."""
    night.run(fails=False)
    assert night.look()[1] == []


def test_a_later_success_for_the_same_incident_ends_it_for_good(night: Night) -> None:
    """And no later look opens it again."""
    run_id = night.run(fails=True)
    night.look()
    better = night.run(fails=False)
    assert night.end() == [f"run-{run_id}"]
    header = night.of_run(run_id)
    assert header.state == IncidentState.ENDED
    assert better in header.outcome
    assert night.look()[1] == []
    assert night.of_run(run_id) == header


def test_it_ends_with_the_incident_that_it_was_launched_for(night: Night) -> None:
    """The node came back: nothing is to be moved any more."""
    run_id = night.run(fails=True)
    night.look()
    night.store.update_incident(
        night.lost._replace(
            state=IncidentState.ENDED, ended_at=night.clock.now(), outcome="it has come back"
        )
    )
    assert night.end() == [f"run-{run_id}"]
    assert "it has come back" in night.of_run(run_id).outcome


def test_somebody_who_takes_note_of_it_ends_it(night: Night) -> None:
    """There is nothing else to do for a run that is over."""
    run_id = night.run(fails=True)
    night.look()
    night.store.acknowledge(f"run-{run_id}", "anna", "mended by hand")
    night.end()
    assert night.of_run(run_id).outcome == "anna has taken note of it"


def test_a_store_that_does_not_answer_loses_no_run(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look is repeated from where it began."""
    run_id = night.run(fails=True)

    def down(_opening: object) -> IncidentHeader:
        raise StoreUnavailableError("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(night.store, "open_incident", down)
        with pytest.raises(StoreUnavailableError):
            night.look()
    assert night.look()[1] == [f"run-{run_id}"]


def test_a_report_is_due_when_an_incident_has_changed_and_only_then(night: Night) -> None:
    """Begun, acknowledged, ended: each is news once."""
    empty = read_standing(InMemoryControlStore(night.clock))
    begun = read_standing(night.store)
    assert (empty, begun == "") == ("", False)
    assert read_standing(night.store) == begun
    night.store.acknowledge(night.lost.incident_id, "anna")
    assert read_standing(night.store) != begun
