"""What one look of the refresh sensor asks for, over many networks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)

from fleet.ports.note_store import NoteBacklog
from fleet.vectors.declaration import NetworkVectors, VectorDeclaration
from fleet.vectors.refresh_due import AGAIN_S
from fleet.vectors.standing import IndexStanding, RefreshResult, with_result
from ops.vector_jobs import BUILD_JOB
from sensors.vectors import LOST_S, RUNS_MAX, plan_refreshes, queued_networks

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
NAMES = [f"net-{number:02d}" for number in range(RUNS_MAX + 5)]
DECLARATION = VectorDeclaration(networks=tuple(NetworkVectors(network_id=one) for one in NAMES))


def waiting(name: str, waited_s: float, standing: IndexStanding | None = None) -> NoteBacklog:
    """A network with a note that waits."""
    since = NOW - timedelta(seconds=waited_s)
    return NoteBacklog(name, standing or IndexStanding(name), 1, since, 7, None)


def test_those_that_wait_longest_are_asked_for_first_and_not_all_at_once() -> None:
    """A network that is not declared is left alone; the rest comes with the next looks."""
    backlogs = [waiting(name, 100 + place) for place, name in enumerate(NAMES)]
    backlogs.append(waiting("undeclared", 10**6))
    requests, reasons = plan_refreshes(backlogs, DECLARATION, NOW)
    assert [one.partition_key for one in requests] == NAMES[: -RUNS_MAX - 1 : -1]
    assert reasons == []


def test_a_run_is_keyed_by_what_the_index_holds_and_by_how_often_it_was_tried() -> None:
    """The same until a refresh has ended, however that was; and anew for a run that died."""

    def key(standing: IndexStanding, now: datetime = NOW) -> str | None:
        (request,), _ = plan_refreshes([waiting("net-00", 60, standing)], DECLARATION, now)
        return request.run_key

    first = IndexStanding("net-00")
    assert key(first) == key(first, NOW + timedelta(seconds=9))
    published = with_result(first._replace(indexed_change=7), RefreshResult.PUBLISHED, "", NOW)
    failed = with_result(first, RefreshResult.FAILED, "", NOW - timedelta(seconds=AGAIN_S))
    keys = {key(first), key(published), key(failed), key(first, NOW + timedelta(seconds=LOST_S))}
    assert len(keys) == 4


def test_a_network_whose_run_is_in_the_queue_is_not_asked_for_again() -> None:
    """However long another network's build keeps it there; one that has begun does not count."""
    location = GrpcServerCodeLocationOrigin(host="127.0.0.1", port=1, location_name="stateroom")
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, "__repository__"), BUILD_JOB)
    status = dg.DagsterRunStatus
    with dg.DagsterInstance.ephemeral() as instance:
        for name, state in (
            ("net-00", status.QUEUED),
            ("net-01", status.STARTED),
            ("net-02", status.NOT_STARTED),
            ("", status.QUEUED),
        ):
            tags = {"dagster/partition": name} if name else {}
            run = dg.DagsterRun(BUILD_JOB, status=state, tags=tags, remote_job_origin=origin)
            instance.add_run(run)
        found = queued_networks(instance)
    assert found == {"net-00"}
    backlogs = [waiting("net-00", 10**4), waiting("net-01", 10**4)]
    requests, reasons = plan_refreshes(backlogs, DECLARATION, NOW, found)
    assert [one.partition_key for one in requests] == ["net-01"]
    assert reasons == ["net-00: its run waits in the queue"]


def test_why_nothing_is_asked_for_is_told_network_by_network() -> None:
    """As the tick shows it."""
    quiet = waiting("net-00", 0)._replace(waiting=0, oldest_at=None)
    requests, reasons = plan_refreshes([quiet, waiting("net-01", 3)], DECLARATION, NOW)
    assert requests == []
    assert reasons == [
        "net-00: no note waits",
        "net-01: 1 note waits, the first for 3 s; due after 30 s",
    ]
