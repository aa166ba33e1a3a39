"""A real node: its agents, its fence, its end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from fleet.agents import RestartMode, RestartPolicy, Workload
from fleet.inventory import AgentPhase, NodePhase
from fleet.leases import node_lease_name
from resources.local.linux_processes import child_pids, group_members, identify, is_alive
from resources.local.node_spec import read_spec, spec_path, write_spec
from tests.resources.local.fleets import Fleet, agents_of, eventually, function, node, shell

SLEEP = "exec sleep 1000"


def get(fleet: Fleet, path: str, node_id: str = "n1") -> tuple[int, bytes]:
    """Ask a node; returns status and body."""
    try:
        with urllib.request.urlopen(f"http://{fleet.run(node_id).address}{path}") as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def is_running(fleet: Fleet, agent_id: str) -> bool:
    """Whether the store has heard that an agent runs."""
    return fleet.agent(agent_id).phase == AgentPhase.RUNNING


def wait_running(fleet: Fleet, agent_id: str) -> int:
    """Wait for an agent; returns its pid."""
    eventually(lambda: is_running(fleet, agent_id), f"{agent_id} runs")
    pid = fleet.agent(agent_id).pid
    assert pid is not None
    return pid


def wait_no_process(group: int) -> None:
    """Wait until a process group has no living member."""
    eventually(lambda: not group_members(group), f"group {group} is empty")


def test_commands_and_functions_run_with_their_environment(fleet: Fleet) -> None:
    """Both kinds get who they are; a function agent is registered and beats."""
    script = 'echo "$AGENT_ID $NETWORK_ID $EPOCH $AGENT_ARGUMENTS"; ' + SLEEP
    command = shell("command", script, arguments={"a": "1"})
    python = function("python", "arguments", arguments={"b": "2"})
    fleet.start([node("n1")], [command, python], agents_of(command) + agents_of(python))
    for agent_id in ("command-0", "python-0"):
        wait_running(fleet, agent_id)
    eventually(lambda: fleet.agent("python-0").heartbeat_at, "python-0 beats")
    expected = 'command-0 net 1 {"a": "1"}\n'
    eventually(lambda: fleet.log("command-0") == expected, "the script has spoken")
    assert '{"b": "2"}' in fleet.log("python-0")


def test_a_crashed_agent_is_restarted_and_given_up_with_its_last_words(fleet: Fleet) -> None:
    """As many restarts as the policy allows, then FAILED; others are not disturbed."""
    bad = function("bad", "fail")
    good = shell("good", SLEEP)
    fleet.start([node("n1")], [bad, good], agents_of(bad) + agents_of(good))
    pid = wait_running(fleet, "good-0")
    eventually(lambda: fleet.agent("bad-0").phase == AgentPhase.FAILED, "bad-0 is given up")
    failed = fleet.agent("bad-0")
    assert failed.restarts == 3
    assert "RuntimeError: this agent cannot work" in failed.reason
    assert fleet.agent("good-0").pid == pid


def test_a_killed_agent_comes_back_under_the_same_epoch(fleet: Fleet) -> None:
    """SIGKILL from outside is a crash like any other."""
    work = shell("work", SLEEP)
    fleet.start([node("n1")], [work], agents_of(work))
    before = wait_running(fleet, "work-0")
    os.kill(before, signal.SIGKILL)
    after = eventually(
        lambda: (a := fleet.agent("work-0")).pid not in {None, before} and a, "work-0 is back"
    )
    assert (after.epoch, after.restarts) == (1, 1)


def test_more_agents_than_start_at_once_all_come_up(fleet: Fleet) -> None:
    """Those that wait for their turn are PENDING; stopping the node meanwhile loses nobody."""
    idle = function("idle", "idle")
    cluster = fleet.start([node("n1")], [idle], agents_of(idle, 80))
    eventually(
        lambda: all(a.phase == AgentPhase.RUNNING for a in fleet.store.agents()), "all run", 60.0
    )
    cluster.kill_node("n1")
    cluster.start_node("n1")
    assert cluster.stop_nodes() == []


def test_an_agent_that_is_done_stays_done(fleet: Fleet) -> None:
    """Exit code 0 under `on-failure` is COMPLETED; under `never` a failure stays FAILED."""
    done = function("done", "end")
    once = shell("once", "exit 7", restart=RestartPolicy(mode=RestartMode.NEVER))
    fleet.start([node("n1")], [done, once], agents_of(done) + agents_of(once))
    eventually(lambda: fleet.agent("done-0").phase == AgentPhase.COMPLETED, "done")
    eventually(lambda: fleet.agent("once-0").phase == AgentPhase.FAILED, "failed")
    assert fleet.agent("once-0").reason == "exit code 7; restart policy is never"


def test_an_unknown_program_is_named(fleet: Fleet) -> None:
    """The reason tells the operator what could not be executed."""
    lost = Workload("lost", "net", command=("no-such-program",))
    lost_once = Workload(
        "lost", "net", command=lost.command, restart=RestartPolicy(mode=RestartMode.NEVER)
    )
    fleet.start([node("n1")], [lost_once], agents_of(lost_once))
    eventually(lambda: fleet.agent("lost-0").phase == AgentPhase.FAILED, "failed")
    assert "cannot execute 'no-such-program'" in fleet.agent("lost-0").reason


def test_a_new_declaration_replaces_the_process(fleet: Fleet) -> None:
    """The same agent and epoch with another program is stopped and started."""
    work = shell("work", SLEEP)
    fleet.start([node("n1")], [work], agents_of(work))
    before = wait_running(fleet, "work-0")
    fleet.store.declare_workloads([shell("work", "echo second; " + SLEEP)])
    eventually(lambda: "second" in fleet.log("work-0"), "the new program runs")
    eventually(lambda: fleet.agent("work-0").pid not in {None, before}, "reported")


def test_an_agent_that_ignores_sigterm_is_killed_after_its_grace(fleet: Fleet) -> None:
    """Nothing can refuse to end."""
    stubborn = shell("stubborn", "trap '' TERM; echo up; while :; do sleep 0.05; done")
    fleet.start([node("n1")], [stubborn], agents_of(stubborn), stop_grace_s=0.3)
    eventually(lambda: "up" in fleet.log("stubborn-0"), "it ignores SIGTERM")
    group = fleet.run("n1").process.pid
    fleet.cluster.stop_nodes()
    assert group_members(group) == []
    assert fleet.run("n1").phase == NodePhase.STOPPED


def test_killing_the_group_leaves_no_process(fleet: Fleet) -> None:
    """Supervisor, zygote, agents and what agents started share the group."""
    family = shell("family", "sleep 1000 & sleep 1000 & wait")
    idle = function("idle", "idle")
    fleet.start([node("n1")], [family, idle], agents_of(family, 3) + agents_of(idle, 3))
    eventually(lambda: all(is_running(fleet, f"{w}-2") for w in ("family", "idle")), "all run")
    run = fleet.run("n1")
    eventually(lambda: len(group_members(run.process.pid)) == 2 + 3 + 6 + 3, "all are there")
    os.killpg(run.process.pid, signal.SIGKILL)
    wait_no_process(run.process.pid)


def test_killing_the_supervisor_alone_leaves_no_process(fleet: Fleet) -> None:
    """The zygote sees the end of its supervisor and ends everything, also what left the group."""
    escaped = fleet.state_dir / "escaped"
    family = shell("family", f"setsid sh -c 'echo $$ > {escaped}; sleep 1000' & wait")
    fleet.start([node("n1")], [family], agents_of(family))
    eventually(lambda: escaped.exists() and escaped.read_text().strip(), "the grandchild is up")
    outsider = identify(int(escaped.read_text()))
    assert outsider is not None
    run = fleet.run("n1")
    os.kill(run.process.pid, signal.SIGKILL)
    wait_no_process(run.process.pid)
    eventually(lambda: not is_alive(outsider), "the one that left the group is gone, too")


def test_killing_the_zygote_alone_restarts_the_agents(fleet: Fleet) -> None:
    """Its agents die with it; the node makes a new one and goes on."""
    family = shell("family", "sleep 1000 & wait")
    fleet.start([node("n1")], [family], agents_of(family))
    before = wait_running(fleet, "family-0")
    run = fleet.run("n1")
    (zygote,) = child_pids(run.process.pid)
    old = set(group_members(run.process.pid)) - {run.process.pid}
    os.kill(zygote, signal.SIGKILL)
    eventually(lambda: fleet.agent("family-0").pid not in {None, before}, "back")
    assert not old & set(group_members(run.process.pid))


def test_the_owners_end_ends_the_node_in_order(fleet: Fleet) -> None:
    """`stateroom up` may be killed with -9: no node outlives it, states are saved."""
    work = shell("work", "trap 'echo asked; exit 0' TERM; while :; do sleep 0.05; done")
    fleet.start([node("n1")], [work], agents_of(work))
    fleet.cluster.stop_nodes()
    with subprocess.Popen(["sleep", "1000"]) as owner:
        path = spec_path(fleet.state_dir, "n1")
        own = identify(owner.pid)
        write_spec(path, fleet.spec(node("n1"), owner=own))
        fleet.cluster.start_node("n1")
        wait_running(fleet, "work-0")
        eventually(lambda: fleet.agent("work-0").pid, "up")
        group = fleet.run("n1").process.pid
        owner.kill()
    wait_no_process(group)
    run = fleet.run("n1")
    assert (run.phase, run.reason) == (
        NodePhase.STOPPED,
        f"the owner, pid {owner.pid}, has ended",
    )
    assert fleet.log("work-0").endswith("asked\n")
    assert fleet.store.nodes()[0].phase == NodePhase.STOPPED


def test_a_second_supervisor_of_a_node_is_refused(fleet: Fleet) -> None:
    """It says who runs, and touches nothing."""
    fleet.start([node("n1")])
    before = fleet.run("n1")
    command = [sys.executable, "-m", "resources.local.supervisor", "--spec"]
    path = spec_path(fleet.state_dir, "n1")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    second = subprocess.run(
        [*command, str(path)], capture_output=True, text=True, env=environment, check=False
    )
    assert second.returncode == 1
    assert f"node n1 runs already: pid {before.process.pid}" in second.stderr
    assert fleet.run("n1") == before
    assert read_spec(path).node.node_id == "n1"


def test_a_node_whose_lease_is_taken_stops_its_agents_and_comes_back(fleet: Fleet) -> None:
    """Another boot holds the lease: agents end; once it is free they run again."""
    work = shell("work", SLEEP)
    fleet.start([node("n1")], [work], agents_of(work))
    before = wait_running(fleet, "work-0")
    process = identify(before)
    assert process is not None
    lease = fleet.store.lease(node_lease_name("n1"))
    assert lease is not None
    fleet.store.release_lease(lease)
    other = fleet.store.acquire_lease(lease.name, "another-boot", 60.0)
    eventually(lambda: not is_alive(process), "its agent is stopped")
    status, body = get(fleet, "/ready")
    assert status == 503
    assert "another-boot" in json.loads(body)["reason"]
    fleet.store.release_lease(other)
    eventually(lambda: fleet.agent("work-0").pid not in {None, before}, "its agent is back")
    kinds = [event.kind for event in fleet.cluster.watch("0", 0.0)]
    assert kinds == ["node_started", "lease_lost", "lease_regained"]


def test_an_unreachable_store_stops_the_agents_before_the_lease_ends(fleet: Fleet) -> None:
    """The node fences itself: the lease in the store is still live when its agents are gone."""
    work = shell("work", "trap '' TERM; while :; do sleep 0.02; done")
    fleet.start([node("n1")], [work], agents_of(work), stop_grace_s=3.0)
    process = identify(wait_running(fleet, "work-0"))
    assert process is not None
    locked = sqlite3.connect(fleet.state_dir / "control.db", isolation_level=None)
    locked.execute("BEGIN EXCLUSIVE")
    try:
        lease = fleet.store.lease(node_lease_name("n1"))
        assert lease is not None
        eventually(lambda: not is_alive(process), "the agent is gone")
        assert datetime.now(UTC) < lease.expires_at
        status, body = get(fleet, "/health/deep")
        assert status == 503
        checks = json.loads(body)["checks"]
        assert [name for name, check in checks.items() if not check["ok"]] == ["store", "lease"]
    finally:
        locked.execute("ROLLBACK")
        locked.close()
    eventually(lambda: fleet.agent("work-0").pid not in {None, process.pid}, "it is back", 40.0)


def test_a_hanging_supervisor_loses_its_agents_before_the_lease_ends(fleet: Fleet) -> None:
    """The zygote's dead man's switch needs neither the supervisor nor the store."""
    work = shell("work", SLEEP)
    fleet.start([node("n1")], [work], agents_of(work))
    process = identify(wait_running(fleet, "work-0"))
    assert process is not None
    run = fleet.run("n1")
    os.kill(run.process.pid, signal.SIGSTOP)  # the supervisor alone, not its group
    try:
        time.sleep(0.5)  # a heartbeat may be under way in the store
        lease = fleet.store.lease(node_lease_name("n1"))
        assert lease is not None
        eventually(lambda: not is_alive(process), "the agent is gone")
        assert datetime.now(UTC) < lease.expires_at
    finally:
        os.kill(run.process.pid, signal.SIGCONT)
    eventually(lambda: fleet.agent("work-0").pid not in {None, process.pid}, "the agent is back")


def checks_of(body: bytes) -> dict[str, Any]:
    """The checks of a deep health answer."""
    checks: dict[str, Any] = json.loads(body)["checks"]
    return checks


def test_health_tells_live_from_ready_from_able_to_work(fleet: Fleet) -> None:
    """A broken lake fails the deep check, by name, and nothing else."""
    fleet.start([node("n1")])
    assert get(fleet, "/health")[0] == 200
    assert json.loads(get(fleet, "/ready")[1])["status"] == "ready"
    status, body = get(fleet, "/health/deep")
    assert status == 200
    assert {name: check["ok"] for name, check in checks_of(body).items()} == {
        "store": True,
        "lake": True,
        "lease": True,
    }
    assert all(check["latency_ms"] >= 0 and check["detail"] for check in checks_of(body).values())
    shutil.rmtree(fleet.state_dir / "lake")
    status, body = get(fleet, "/health/deep")
    assert status == 503
    assert [n for n, check in checks_of(body).items() if not check["ok"]] == ["lake"]
    assert "No such file" in checks_of(body)["lake"]["detail"]
    assert get(fleet, "/ready")[0] == 200


def test_metrics_parse_and_count_agents_without_naming_them(fleet: Fleet) -> None:
    """Prometheus reads them; labels are node, region, workload and phase only."""
    work = shell("work", SLEEP)
    fleet.start([node("n1")], [work], agents_of(work, 2))
    wait_running(fleet, "work-1")
    text = get(fleet, "/metrics")[1].decode()
    samples = [s for f in text_string_to_metric_families(text) for s in f.samples]
    agents = [s for s in samples if s.name == "stateroom_node_agents"]
    assert [(s.labels["workload"], s.labels["phase"], s.value) for s in agents] == [
        ("work", "running", 2.0)
    ]
    assert {label for s in samples for label in s.labels} <= {
        "node",
        "region",
        "workload",
        "phase",
        "outcome",
    }
    assert [s.value for s in samples if s.name == "stateroom_node_ready"] == [1.0]


def test_each_agent_has_a_page_line_of_its_own(fleet: Fleet) -> None:
    """Under its name, beside what its node reads of its process; a program need not count."""
    work = shell("work", SLEEP)
    fleet.start([node("n1")], [work], agents_of(work, 2))
    wait_running(fleet, "work-1")
    text = get(fleet, "/metrics/agents")[1].decode()
    samples = [s for f in text_string_to_metric_families(text) for s in f.samples]
    restarts = [s for s in samples if s.name == "agent_restarts_total"]
    assert {s.labels["agent"]: s.value for s in restarts} == {"work-0": 0.0, "work-1": 0.0}
    assert not [s for s in samples if s.name == "agent_tasks_total"]


def test_a_node_that_is_not_declared_ends_with_a_reason(fleet: Fleet) -> None:
    """A retired node does not run on unseen."""
    fleet.start([node("n1")])
    fleet.store.retire_nodes(["n1"])
    run = eventually(
        lambda: (r := fleet.run("n1")).phase == NodePhase.STOPPED and r, "the node ends"
    )
    assert "not declared" in run.reason


def test_a_state_survives_the_kill_of_its_node(fleet: Fleet) -> None:
    """Started again, the agent loads the last acknowledged state and counts on."""
    counter = function("counter", "count")
    fleet.start([node("n1")], [counter], agents_of(counter))
    eventually(lambda: "acknowledged 5 " in fleet.log("counter-0"), "it counts")
    fleet.cluster.kill_node("n1")
    numbers = [int(line.split()[1]) for line in fleet.log("counter-0").splitlines()]
    fleet.cluster.start_node("n1")
    eventually(lambda: fleet.log("counter-0").count("loaded") == 2, "it has loaded")
    loaded = int(fleet.log("counter-0").split("loaded ")[2].split()[0])
    # The last put may have been stored without the agent having lived to hear of it.
    assert loaded in {numbers[-1], numbers[-1] + 1}
    eventually(lambda: f"acknowledged {loaded + 1} " in fleet.log("counter-0"), "it counts on")
    assert fleet.agent("counter-0").epoch == 1
