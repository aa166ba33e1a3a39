"""The local cluster: what it shows of its processes, and the damage it does to them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import replace

import pytest

from fleet.errors import InvalidInputError, NodeUnavailableError, NotFoundError
from fleet.inventory import AgentPhase, NodePhase
from resources.clock import SystemClock
from resources.local.linux_processes import group_members, identify, read_stat
from resources.local.local_cluster import LocalCluster
from resources.local.node_spec import run_path, spec_path, write_run, write_spec
from tests.resources.local.fleets import REGION, Fleet, agents_of, eventually, node, shell

SLEEP = "exec sleep 1000"


def phases(fleet: Fleet) -> dict[str, NodePhase]:
    """What a snapshot says of each node."""
    return {seen.node_id: seen.phase for seen in fleet.cluster.snapshot(REGION).nodes}


def start_two(fleet: Fleet, **options: object) -> LocalCluster:
    """Two nodes with two agents each."""
    work = shell("work", SLEEP)
    cluster = fleet.start([node("n1"), node("n2")], [work], agents_of(work, 4), **options)
    eventually(
        lambda: all(a.phase == AgentPhase.RUNNING for a in fleet.store.agents()), "all agents run"
    )
    return cluster


def test_starting_again_changes_nothing_and_stopping_is_orderly(fleet: Fleet) -> None:
    """`start_nodes` is idempotent; after `stop_nodes` everything is STOPPED and gone."""
    cluster = start_two(fleet)
    before = cluster.runs()
    pids = {agent.agent_id: agent.pid for agent in fleet.store.agents()}
    cluster.start_nodes()
    assert cluster.runs() == before
    assert {agent.agent_id: agent.pid for agent in fleet.store.agents()} == pids
    assert cluster.stop_nodes() == []
    assert all(group_members(run.process.pid) == [] for run in before)
    snapshot = cluster.snapshot(REGION)
    assert {seen.phase for seen in snapshot.nodes} == {NodePhase.STOPPED}
    assert {seen.phase for seen in snapshot.agents} == {AgentPhase.STOPPED}


def test_a_killed_node_is_terminated_at_once_and_watchers_hear_of_it_once(fleet: Fleet) -> None:
    """Although its lease is still live; the other node is not touched."""
    cluster = start_two(fleet)
    cursor = cluster.watch("0", 0.0)[-1].cursor
    group = fleet.run("n1").process.pid
    members = len(group_members(group))
    assert cluster.kill_node("n1") == f"killed node n1: {members} processes of group {group}"
    assert phases(fleet) == {"n1": NodePhase.TERMINATED, "n2": NodePhase.RUNNING}
    lost = [a for a in cluster.snapshot(REGION).agents if a.node_id == "n1"]
    assert [(a.phase, a.reason) for a in lost] == [(AgentPhase.UNKNOWN, "node n1 is gone")] * 2
    events = cluster.watch(cursor, 5.0)
    assert [(event.kind, event.subject) for event in events] == [("node_terminated", "n1")]
    assert cluster.watch(events[-1].cursor, 0.2) == []
    assert phases(fleet)["n1"] == NodePhase.TERMINATED


def test_a_killed_node_starts_again_without_waiting_for_its_ghost(fleet: Fleet) -> None:
    """Its old boot is proven gone, so its lease is free; agents keep their epochs."""
    work = shell("work", SLEEP)
    cluster = fleet.start([node("n1")], [work], agents_of(work), lease_ttl_s=600.0)
    eventually(lambda: fleet.agent("work-0").phase == AgentPhase.RUNNING, "runs")
    before = fleet.run("n1")
    cluster.kill_node("n1")
    assert cluster.start_node("n1") == f"started node n1, pid {fleet.run('n1').process.pid}"
    assert fleet.run("n1").boot_id != before.boot_id
    eventually(lambda: fleet.agent("work-0").phase == AgentPhase.RUNNING, "runs again")
    assert fleet.agent("work-0").epoch == 1
    assert cluster.start_node("n1") == "node n1 runs already"


def test_killing_a_region_kills_its_nodes_only(fleet: Fleet) -> None:
    """All nodes of the region, none of another."""
    cluster = fleet.start([node("n1"), node("n2"), node("far", "there")])
    cluster.kill_region(REGION)
    assert set(phases(fleet).values()) == {NodePhase.TERMINATED}
    assert [n.phase for n in cluster.snapshot("there").nodes] == [NodePhase.RUNNING]
    with pytest.raises(NotFoundError, match="no node of region here runs"):
        cluster.kill_region(REGION)


def test_a_paused_node_stays_running_and_goes_on_by_itself(fleet: Fleet) -> None:
    """All its processes stand still; inside its lease none is killed; it wakes after the time."""
    cluster = start_two(fleet, lease_ttl_s=60.0)
    run = fleet.run("n1")
    members = set(group_members(run.process.pid))
    said = cluster.pause_node("n1", 3.0)
    assert said == f"paused node n1, group {run.process.pid}, for 3 s"

    def states() -> set[str]:
        return {stat.state for pid in members if (stat := read_stat(pid))}

    eventually(lambda: states() == {"T"}, "all stand still")
    assert phases(fleet)["n1"] == NodePhase.RUNNING
    eventually(lambda: (s := read_stat(run.process.pid)) and s.state != "T", "it is awake")
    assert members <= set(group_members(run.process.pid))


def test_a_node_that_slept_past_its_lease_ends_its_agents_when_it_wakes(fleet: Fleet) -> None:
    """Nothing can act while frozen; what wakes too late starts anew, under a lease won back."""
    cluster = start_two(fleet, lease_ttl_s=1.0)
    before = {a.agent_id: a.pid for a in fleet.store.agents() if a.node_id == "n1"}
    cluster.pause_node("n1", 1.5)
    eventually(
        lambda: all(
            agent.pid not in {None, before[agent.agent_id]}
            for agent in fleet.store.agents()
            if agent.node_id == "n1"
        ),
        "the agents have started anew",
    )


def test_a_frozen_node_can_be_woken_and_stopped(fleet: Fleet) -> None:
    """`start_node` wakes it before its time; `stop_nodes` ends it in order although it sleeps."""
    cluster = fleet.start([node("n1")])
    cluster.pause_node("n1", 5.0)
    assert cluster.start_node("n1") == "node n1 was frozen; woken"
    cluster.pause_node("n1", 5.0)
    assert cluster.stop_nodes() == []
    assert fleet.run("n1").phase == NodePhase.STOPPED


def test_a_slow_node_beats_late_for_a_time(fleet: Fleet) -> None:
    """Heartbeats are delayed, not lost; afterwards they are on time again."""
    cluster = fleet.start([node("n1")])

    def beat() -> object:
        return fleet.store.nodes()[0].heartbeat_at

    cluster.slow_node("n1", 0.8, 2.0)
    time.sleep(0.4)  # the beat under way is not delayed any more
    before, beats = beat(), set()
    end_s = time.monotonic() + 1.4
    while time.monotonic() < end_s:
        beats.add(beat())
        time.sleep(0.02)
    assert 1 <= len(beats - {before}) <= 3  # seven without the fault
    assert phases(fleet)["n1"] == NodePhase.RUNNING


def test_a_pid_that_is_used_again_is_never_signalled(fleet: Fleet) -> None:
    """A run file whose start time differs from the process's names a process that is gone."""
    cluster = fleet.start([node("n1")])
    run = fleet.run("n1")
    ghost = run.process._replace(start_ticks=run.process.start_ticks - 1)
    path = run_path(fleet.state_dir, "n1")
    write_run(path, replace(run, process=ghost))
    for order in (
        lambda: cluster.kill_node("n1"),
        lambda: cluster.pause_node("n1", 1.0),
        lambda: cluster.slow_node("n1", 1.0, 1.0),
    ):
        with pytest.raises(NotFoundError, match="node n1 does not run"):
            order()
    assert cluster.stop_nodes() == []
    assert read_stat(run.process.pid) is not None
    write_run(path, run)


def test_a_node_that_cannot_start_is_reported_with_its_last_words(fleet: Fleet) -> None:
    """And the nodes that did start are stopped again."""
    fleet.store.declare_nodes([node("n1"), node("n2")])
    bad = replace(fleet.spec(node("n2")), socket_path="/proc/no/such/folder/n2.sock")
    specs = [fleet.spec(node("n1")), bad]
    fleet.cluster = LocalCluster(fleet.store, fleet.state_dir, SystemClock(), specs)
    with pytest.raises(NodeUnavailableError, match=r"node n2 ended while starting: .*no"):
        fleet.cluster.start_nodes()
    assert {run.phase for run in fleet.cluster.runs()} <= {NodePhase.STOPPED}
    assert all(group_members(run.process.pid) == [] for run in fleet.cluster.runs())


def test_scaling_up_starts_agents_and_down_stops_them(fleet: Fleet) -> None:
    """The stopped ones are the first to come back."""
    work = shell("work", SLEEP)
    cluster = fleet.start([node("n1"), node("n2")], [work], agents_of(work, 2))

    def running() -> list[str]:
        agents = cluster.snapshot(REGION).agents
        return [agent.agent_id for agent in agents if agent.phase == AgentPhase.RUNNING]

    eventually(lambda: len(running()) == 2, "two run")
    cluster.scale("work", REGION, 4)
    eventually(lambda: len(running()) == 4, "four run")
    everyone = running()
    by_node = [agent.node_id for agent in cluster.snapshot(REGION).agents]
    assert sorted(by_node) == ["n1", "n1", "n2", "n2"]
    cluster.scale("work", REGION, 1)
    eventually(lambda: running() == everyone[:1], "one runs")
    cluster.scale("work", REGION, 4)
    eventually(lambda: running() == everyone, "the same four run")


def test_scaling_what_does_not_exist_is_refused(fleet: Fleet) -> None:
    """Unknown region or workload, negative number."""
    work = shell("work", SLEEP)
    cluster = fleet.start([node("n1")], [work], agents_of(work))
    with pytest.raises(NotFoundError):
        cluster.scale("work", "nowhere", 1)
    with pytest.raises(NotFoundError):
        cluster.scale("unknown", REGION, 1)
    with pytest.raises(InvalidInputError):
        cluster.scale("work", REGION, -1)


def test_evicting_from_a_node_that_is_down_or_deaf_is_an_error(fleet: Fleet) -> None:
    """Nobody can promise that the agent is gone."""
    work = shell("work", SLEEP)
    cluster = fleet.start([node("n1")], [work], agents_of(work))
    eventually(lambda: fleet.agent("work-0").phase == AgentPhase.RUNNING, "runs")
    with pytest.raises(NotFoundError):
        cluster.evict("stranger", 1, 0.0)
    cluster.kill_node("n1")
    with pytest.raises(NodeUnavailableError, match="node n1 is down"):
        cluster.evict("work-0", 1, 0.0)


@pytest.mark.parametrize("duration_s", [0.0, -1.0, float("nan"), 1e9])
def test_faults_without_a_sensible_duration_are_refused(fleet: Fleet, duration_s: float) -> None:
    """Before anything is touched."""
    with pytest.raises(InvalidInputError, match="duration_s"):
        fleet.cluster.pause_node("n1", duration_s)
    with pytest.raises(InvalidInputError, match="duration_s"):
        fleet.cluster.slow_node("n1", 1.0, duration_s)


def test_a_node_whose_owner_has_ended_is_not_started(fleet: Fleet) -> None:
    """It would end at once; the error says what to do instead."""
    cluster = fleet.start([node("n1")])
    cluster.kill_node("n1")
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    stat = read_stat(pid)
    assert stat is not None
    os.waitpid(pid, 0)
    path = fleet.state_dir / "run" / "specs" / "n1.json"
    own = read_stat(os.getpid())
    assert own is not None
    text = path.read_text().replace(f"{own.start_ticks}", f"{stat.start_ticks}")
    path.write_text(text.replace(f"{os.getpid()},", f"{pid},"))
    with pytest.raises(
        NodeUnavailableError, match=f"belongs to pid {pid}, which has ended"
    ) as info:
        cluster.start_node("n1")
    assert "stateroom up" in info.value.hint


def test_nodes_of_an_owner_that_was_killed_are_replaced(fleet: Fleet) -> None:
    """`up` right after a `kill -9` of `up`: the old nodes are still ending, and do not count."""
    slow = shell("slow", "trap 'sleep 0.7; exit 0' TERM; echo up; while :; do sleep 0.02; done")
    fleet.start([node("n1")], [slow], agents_of(slow))
    eventually(lambda: "up" in fleet.log("slow-0"), "its agent is up for the first time")
    fleet.cluster.stop_nodes()
    with subprocess.Popen(["sleep", "60"]) as owner:
        own = identify(owner.pid)
        write_spec(spec_path(fleet.state_dir, "n1"), fleet.spec(node("n1"), owner=own))
        fleet.cluster.start_node("n1")
        eventually(lambda: fleet.log("slow-0").count("up") == 2, "its agent is up")
        before = fleet.run("n1")
        owner.kill()
    fleet.cluster.start_nodes()
    after = fleet.run("n1")
    assert after.phase == NodePhase.RUNNING
    assert after.boot_id != before.boot_id
    assert group_members(before.process.pid) == []


def test_sigterm_for_the_whole_group_is_an_orderly_end(fleet: Fleet) -> None:
    """Agents get it twice at most; the zygote leaves the order to its supervisor."""
    work = shell("work", "trap 'echo asked; exit 0' TERM; echo up; while :; do sleep 0.02; done")
    fleet.start([node("n1")], [work], agents_of(work))
    eventually(lambda: "up" in fleet.log("work-0"), "it waits for SIGTERM")
    run = fleet.run("n1")
    os.killpg(run.process.pid, signal.SIGTERM)
    eventually(lambda: fleet.run("n1").phase == NodePhase.STOPPED, "the node ends")
    eventually(lambda: group_members(run.process.pid) == [], "nothing is left")
    assert "asked" in fleet.log("work-0")
