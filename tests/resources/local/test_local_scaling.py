"""Rescaling with real processes: they start, work, save, stop, and come back with their states."""

from __future__ import annotations

import json

from fleet.agents import Workload
from fleet.inventory import AgentPhase
from fleet.leases import RESCALING_LEASE
from fleet.ports.cluster import ScaleWish
from fleet.reports import AgentDeclaration
from fleet.rescaling.observation import AutoscalerState
from resources.local.linux_processes import read_stat
from stateroom_agent.queue_worker import FileQueue
from tests.resources.local.fleets import REGION, Fleet, eventually, node, open_fleet

TASKS = 40


def running(fleet: Fleet) -> dict[str, int]:
    """Agent -> process of those that run."""
    found = fleet.store.scaled_agents(["worker"])
    return {
        one.agent.agent_id: one.agent.pid
        for one in found
        if one.agent.phase is AgentPhase.RUNNING and one.agent.pid is not None
    }


def held(fleet: Fleet) -> int:
    """Agents that count for a node, once those that have ended were taken off theirs."""
    fleet.store.release_ended()
    return sum(bool(one.node_id) for one in fleet.store.placements())


def done(fleet: Fleet) -> int:
    """Tasks that the workers' durable states tell of."""
    infos = fleet.store.state_infos()
    states = fleet.store.states([one.agent_id for one in infos])
    return sum(int(json.loads(one.body)["done"]) for one in states)


def rescale(fleet: Fleet, replicas: int, scales: int, term: int) -> None:
    """One change, as a run makes it."""
    wish = ScaleWish("worker", REGION, replicas, scales, AutoscalerState(), "a test")
    (result,) = fleet.cluster.rescale([wish], {}, term=term)
    assert result.made
    eventually(lambda: len(running(fleet)) == replicas, f"{replicas} workers run", timeout_s=60.0)


def test_agents_multiply_work_and_go_again_with_all_they_knew() -> None:
    """No task is lost with a worker that stops: each has saved its last count before its end."""
    with open_fleet() as fleet:
        path = fleet.state_dir / "queue"
        queue = FileQueue(path)
        work = Workload(
            "worker",
            "net",
            function="stateroom_agent.queue_worker:work_off_queue",
            arguments={"queue_path": str(path), "task_s": "0.01", "interval_s": "0.1",
                       "checkpoint_interval_s": "3600"},
        )  # fmt: skip
        first = AgentDeclaration("worker-1", "net", "worker", REGION, 10, 2**20)
        fleet.start([node("n1"), node("n2")], [work], [first], stop_grace_s=10.0)
        term = fleet.store.acquire_lease(RESCALING_LEASE, "test", 600.0).term
        eventually(lambda: len(running(fleet)) == 1, "the first worker runs", timeout_s=60.0)
        rescale(fleet, 4, 0, term)
        pids = running(fleet)
        places = {one.agent_id: one.node_id for one in fleet.store.placements()}
        queue.put(TASKS)
        eventually(
            lambda: queue.waiting() == 0 and not any((path / "taken").iterdir()),
            "the queue is empty",
            timeout_s=60.0,
        )
        rescale(fleet, 1, 1, term)
        (left,) = running(fleet)
        for name, pid in pids.items():
            if name != left:
                eventually(lambda pid=pid: read_stat(pid) is None, f"{name} is gone")  # type: ignore[misc]
        eventually(lambda: held(fleet) == 1, "those that have ended give their room back")
        were = {name: node_id for name, node_id in places.items() if name != left}
        rescale(fleet, 3, 2, term)
        assert len({*running(fleet)} & {*pids}) == 3, "those that were stopped came back first"
        for one in fleet.store.placements():
            if one.desired == "running" and one.agent_id != left:
                assert one.node_id == were[one.agent_id], "where they had been"
        rescale(fleet, 0, 3, term)
        assert done(fleet) == TASKS
