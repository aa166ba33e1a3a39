"""The rehearsal as Dagster runs it."""

from __future__ import annotations

from pathlib import Path

from fleet.fail_back_rehearsal import rehearsal_problems
from ops.fail_back_jobs import fail_back_rehearsal_job, rehearsal_request
from ops.fail_back_rehearsal import rehearse
from platform_defs.declared_traffic import simple_traffic
from tests.ops.test_fail_back_proposals import proposed


def test_the_job_records_what_it_found_and_lets_the_decision_know(tmp_path: Path) -> None:
    """With the embedded table of routes as the one router."""
    world, proposal = proposed()
    assert rehearsal_problems(rehearse(world.ports(), "eu")) == []
    request = rehearsal_request("eu", proposal.incident_id, 1)
    done = fail_back_rehearsal_job.execute_in_process(
        run_config=request.run_config,
        resources={
            "control_store": world.store,
            "cluster": _Cluster(world.ports().cluster),
            "clock": world.clock,
            "traffic_declaration": simple_traffic(str(tmp_path)),
        },
    )
    assert done.success
    [approval] = world.store.approvals()
    assert (approval.action, approval.approved_by) == ("rehearsed:eu", "fail_back_sensor")
    assert "1 routers answer" in approval.reason


class _Cluster:
    """A reader that is asked for nothing else in a rehearsal."""

    def __init__(self, reader: object) -> None:
        self._reader = reader

    def __getattr__(self, name: str) -> object:
        """Its reads; `apply_placements` and `evict` exist, and are never called."""
        if name in {"apply_placements", "evict"}:
            return _never
        return getattr(self._reader, name)


def _never(*_args: object) -> None:
    raise AssertionError("a rehearsal moves nobody")
