"""Nodes are ended from below: the boot that is named, wholly, and no other."""

from __future__ import annotations

import os
import signal
import subprocess

from fleet.inventory import NodePhase
from fleet.ports.infrastructure import NodeFencer
from resources.clock import SystemClock
from resources.local.linux_processes import child_pids, group_members, identify, is_alive
from resources.local.local_fencer import LocalFencer
from resources.local.node_spec import run_path
from tests.resources.local.fleets import Fleet, agents_of, eventually, node, shell


def fencer(fleet: Fleet) -> LocalFencer:
    """As another process would have it."""
    return LocalFencer(fleet.state_dir, SystemClock())


def test_a_frozen_boot_is_ended_with_all_its_agents_and_again_does_nothing(fleet: Fleet) -> None:
    """The verdict is definite and names the boot; a second call only says so again."""
    work = shell("work", "trap '' TERM; while :; do sleep 0.05; done")
    fleet.start([node("n1"), node("n2")], [work], agents_of(work, 2))
    agents = []
    for name in ("work-0", "work-1"):
        pid = eventually(lambda n=name: fleet.agent(n).pid, f"{name} runs")  # type: ignore[misc]
        agents.append((fleet.agent(name).node_id, identify(pid)))
    run = fleet.run("n1")
    os.killpg(run.process.pid, signal.SIGSTOP)
    assert isinstance(fleet.cluster, NodeFencer)
    (verdict,) = fencer(fleet).fence({"n1": run.boot_id})
    assert (verdict.node_id, verdict.phase, verdict.boot_id) == (
        "n1", NodePhase.TERMINATED, run.boot_id,
    )  # fmt: skip
    assert verdict.at is not None
    assert "processes killed" in verdict.detail
    assert not group_members(run.process.pid)
    assert {at: is_alive(process) for at, process in agents if process} == {
        "n1": False, "n2": True,
    }  # fmt: skip
    (again,) = fleet.cluster.fence({"n1": run.boot_id})
    assert (again.phase, again.boot_id) == (NodePhase.TERMINATED, run.boot_id)
    assert "killed" not in again.detail


def test_another_boot_is_not_touched(fleet: Fleet) -> None:
    """What was to be ended has been replaced, or never was."""
    fleet.start([node("n1")])
    process = fleet.run("n1").process
    for name, boot_id in (("n1", "an-earlier-boot"), ("n9", "any"), ("n1", "")):
        (verdict,) = fencer(fleet).fence({name: boot_id})
        assert (verdict.phase, verdict.at) == (NodePhase.UNKNOWN, None)
        assert "nothing was ended" in verdict.detail
    assert is_alive(process)


def test_a_stranger_that_got_the_pid_is_not_touched(fleet: Fleet) -> None:
    """Its start differs, so it is no part of that boot."""
    cluster = fleet.start([node("n1")])
    cluster.kill_node("n1")
    path, run = run_path(fleet.state_dir, "n1"), fleet.run("n1")
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as stranger:
        try:
            path.write_text(path.read_text().replace(f"{run.process.pid},", f"{stranger.pid},"))
            assert fleet.run("n1").process.pid == stranger.pid
            (verdict,) = fencer(fleet).fence({"n1": run.boot_id})
            assert verdict.phase == NodePhase.TERMINATED
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_what_a_dead_supervisor_left_behind_is_ended_too(fleet: Fleet) -> None:
    """Its zygote is frozen, so the agents would have run on."""
    work = shell("work", "trap '' TERM; while :; do sleep 0.05; done")
    fleet.start([node("n1")], [work], agents_of(work))
    pid = eventually(lambda: fleet.agent("work-0").pid, "it runs")
    agent, run = identify(pid), fleet.run("n1")
    assert agent is not None
    (zygote,) = child_pids(run.process.pid)
    os.kill(zygote, signal.SIGSTOP)
    os.kill(run.process.pid, signal.SIGKILL)
    eventually(lambda: not is_alive(run.process), "the supervisor is gone")
    assert is_alive(agent)
    (verdict,) = fencer(fleet).fence({"n1": run.boot_id})
    assert verdict.phase == NodePhase.TERMINATED
    assert not is_alive(agent)
    assert not group_members(run.process.pid)
