"""What the process table says of nodes: definite only when nothing of a node is left."""

from __future__ import annotations

import os
import signal
import subprocess

from fleet.inventory import NodePhase
from resources.clock import SystemClock
from resources.local.linux_processes import child_pids, group_members, identify, is_alive
from resources.local.local_infrastructure import LocalInfrastructure
from resources.local.node_spec import run_path
from tests.resources.local.fleets import Fleet, agents_of, eventually, node, shell

SLEEP = "exec sleep 1000"


def reader(fleet: Fleet) -> LocalInfrastructure:
    """A reader of the fleet's nodes, as another process would have it."""
    return LocalInfrastructure(fleet.state_dir, SystemClock())


def phases(infrastructure: LocalInfrastructure) -> dict[str, NodePhase]:
    """node_id -> phase, of all that it knows."""
    return {one.node_id: one.phase for one in infrastructure.verdicts()}


def test_a_killed_node_is_terminated_with_its_boot_and_moment(fleet: Fleet) -> None:
    """Within the time that a wait needs; a frozen one exists, an ended one says so itself."""
    work = shell("work", SLEEP)
    cluster = fleet.start([node("n1"), node("n2"), node("n3")], [work], agents_of(work, 3))
    infrastructure = reader(fleet)
    assert set(phases(infrastructure).values()) == {NodePhase.RUNNING}
    before, boot_id = SystemClock().now(), fleet.run("n1").boot_id
    cluster.kill_node("n1")
    os.killpg(fleet.run("n2").process.pid, signal.SIGSTOP)
    eventually(lambda: phases(infrastructure)["n1"] == NodePhase.TERMINATED, "n1 is terminated")
    (verdict,) = infrastructure.verdicts(["n1"])
    assert verdict.boot_id == boot_id
    assert verdict.at is not None
    assert before <= verdict.at <= SystemClock().now()
    assert "whole group have vanished" in verdict.detail
    assert infrastructure.verdicts(["n1"]) == [verdict]
    assert phases(infrastructure)["n2"] == NodePhase.RUNNING
    os.killpg(fleet.run("n2").process.pid, signal.SIGCONT)
    cluster.stop_nodes()
    stopped = infrastructure.verdicts(["n2"])[0]
    assert (stopped.phase, stopped.at) == (NodePhase.STOPPED, fleet.run("n2").ended_at)


def test_a_node_of_which_agents_are_left_is_not_terminated(fleet: Fleet) -> None:
    """Its supervisor is dead, its zygote frozen: the agents run on, so nothing is certain."""
    work = shell("work", "trap '' TERM; while :; do sleep 0.05; done")
    fleet.start([node("n1")], [work], agents_of(work))
    pid = eventually(lambda: fleet.agent("work-0").pid, "it runs")
    agent, run, infrastructure = identify(pid), fleet.run("n1"), reader(fleet)
    assert agent is not None
    (zygote,) = child_pids(run.process.pid)
    os.kill(zygote, signal.SIGSTOP)
    os.kill(run.process.pid, signal.SIGKILL)
    eventually(lambda: not is_alive(run.process), "the supervisor is gone")
    fleet.cluster.watch("0", 0.0)  # marks the run file, which knows less than we do
    for _ in range(3):
        (verdict,) = infrastructure.verdicts()
        assert (verdict.phase, verdict.at) == (NodePhase.UNKNOWN, None)
        assert "still there" in verdict.detail
    assert is_alive(agent)
    os.kill(zygote, signal.SIGCONT)
    eventually(lambda: phases(infrastructure)["n1"] == NodePhase.TERMINATED, "now it is certain")
    assert not group_members(run.process.pid)
    assert not is_alive(agent)


def test_what_is_not_known_is_unknown_with_the_reason(fleet: Fleet) -> None:
    """A node that never ran here, and a run file that cannot be read."""
    path = run_path(fleet.state_dir, "n2")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{")
    infrastructure = reader(fleet)
    found = infrastructure.verdicts(["n2", "n1"])
    assert [(one.node_id, one.phase, one.boot_id, one.at) for one in found] == [
        ("n1", NodePhase.UNKNOWN, "", None),
        ("n2", NodePhase.UNKNOWN, "", None),
    ]
    assert "never run" in found[0].detail
    assert "JSON" in found[1].detail
    path.unlink()
    assert infrastructure.verdicts() == []


def test_a_pid_that_was_given_out_again_hides_no_death(fleet: Fleet) -> None:
    """A stranger with the number of a dead supervisor is no part of that node."""
    cluster = fleet.start([node("n1")])
    cluster.kill_node("n1")
    path = run_path(fleet.state_dir, "n1")
    run = fleet.run("n1")
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as stranger:
        try:
            text = path.read_text().replace(f"{run.process.pid},", f"{stranger.pid},")
            path.write_text(text)
            assert fleet.run("n1").process.pid == stranger.pid
            assert group_members(stranger.pid) == [stranger.pid]
            assert phases(reader(fleet)) == {"n1": NodePhase.TERMINATED}
        finally:
            stranger.kill()
