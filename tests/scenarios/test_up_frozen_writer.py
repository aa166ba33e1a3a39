"""Under `stateroom up`, a supervisor frozen inside a commit is ended and its agents run elsewhere.

The fault is the real one: SIGSTOP hits the node's process group again and again until the kernel
names its supervisor as the holder of SQLite's write lock, while agents of every node store states
as fast as they are acknowledged.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from fleet.incidents import IncidentState
from fleet.inventory import Agent, AgentPhase
from fleet.ports.control_store import ControlStore
from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from resources.local.event_log import EventLog
from resources.local.frozen_writer_watch import FENCED
from resources.local.linux_processes import is_alive
from resources.local.node_spec import NodeRun, read_run, run_path
from tests.resources.local.test_frozen_writer_watch import freeze_group_inside_a_commit
from tests.scenarios.running_fleet import SETTINGS, RunningFleet
from tests.scenarios.test_up_failover import REGIONS, until

FROZEN, NEIGHBOUR = "ap-southeast-2-1", "ap-southeast-2-2"
OTHERS = (NEIGHBOUR, "eu-central-1-1", "us-west-2-1")
PATIENT_S = 600.0
"""On a machine so busy that leaders lose their terms, a failover takes several of them."""
COUNTING = "tests.resources.local.agents_for_tests:count"


class WritingFleet(RunningFleet):
    """Every agent stores states without a pause."""

    def __init__(self, folder: Path) -> None:
        """Write the settings."""
        super().__init__(folder)
        settings = SETTINGS.replace("stateroom_agent.observers:observe_cpu", COUNTING) + REGIONS
        settings = settings.replace("replicas_per_node = 2", "replicas_per_node = 1")
        # So long that no lease of another node runs out while a busy machine is at it.
        settings = settings.replace("lease_ttl_s = 3.0", "lease_ttl_s = 12.0")
        settings += "[backup]\nenabled = false\n"  # runs of others would only be in the way
        (folder / "stateroom.toml").write_text(settings, encoding="utf-8")
        self.state_dir = folder / "state"

    def run_of(self, node_id: str) -> NodeRun:
        """A node's run file."""
        found = read_run(run_path(self.state_dir, node_id))
        assert found is not None, node_id
        return found

    def agents(self) -> dict[str, Agent]:
        """By id; from the store itself, because a command a second is load, too."""
        with self.store() as store:
            return {one.agent_id: one for one in store.agents()}

    @contextmanager
    def store(self) -> Iterator[ControlStore]:
        """The control store, for a look."""
        path = self.state_dir / "control.db"
        with closing(open_control_store(f"sqlite:///{path}", clock=SystemClock())) as opened:
            yield opened

    def has_ended(self, node_id: str) -> bool:
        """Whether a node's incident has come to its end."""
        with self.store() as store:
            found = [one for one in store.incidents() if one.key == f"node/{node_id}"]
        return bool(found) and all(one.state == IncidentState.ENDED for one in found)

    def fenced(self) -> list[tuple[str, str]]:
        """Nodes that the watcher has ended, with its words."""
        events = EventLog(self.state_dir / "run" / "events.jsonl").after("0")
        return [(one.subject, one.detail) for one in events if one.kind == FENCED]

    def log_of(self, agent_id: str, node_id: str) -> str:
        """What an agent has said on a node."""
        folder = self.state_dir / "logs" / "agents" / node_id
        return (folder / f"{agent_id}.log").read_text(encoding="utf-8")


@pytest.mark.long
def test_a_supervisor_frozen_inside_a_commit_is_ended_and_its_agents_run_on_its_neighbour() -> None:
    """No other node is ended, no acknowledged state is lost, the incident tells what was seen."""
    with TemporaryDirectory(prefix="sr-") as name:
        fleet = WritingFleet(Path(name))
        frozen = None
        try:
            fleet.up()
            everybody = fleet.agents()
            lost = {n for n, one in everybody.items() if one.node_id == FROZEN}
            boots = {one: fleet.run_of(one).boot_id for one in OTHERS}
            until(
                "its agents store states",
                lambda: all("acknowledged 3 " in fleet.log_of(one, FROZEN) for one in lost),
            )
            frozen = fleet.run_of(FROZEN).process
            freeze_group_inside_a_commit(frozen.pid, fleet.state_dir / "control.db")
            [(subject, said)] = until("the watcher ends it", fleet.fenced, 60.0)
            assert subject == FROZEN
            assert "is stopped inside a transaction" in said
            assert "every write is refused" in said
            assert not is_alive(frozen)

            def moved() -> bool:
                seen = fleet.agents()
                return all(
                    (seen[one].phase, seen[one].node_id) == (AgentPhase.RUNNING, NEIGHBOUR)
                    for one in lost
                )

            until("its agents run on its neighbour", moved, PATIENT_S)
            until("the incident has ended", lambda: fleet.has_ended(FROZEN), PATIENT_S)
            told = fleet.run("incident", FROZEN).stdout
            assert "is stopped inside a transaction" in told
            assert "ended after" in told
            assert {one: fleet.run_of(one).boot_id for one in OTHERS} == boots
            assert [one for one, _ in fleet.fenced()] == [FROZEN]
            for one in lost:
                acknowledged = fleet.log_of(one, FROZEN).count("acknowledged")
                loaded = fleet.log_of(one, NEIGHBOUR).partition("loaded ")[2].split()[0]
                assert int(loaded) >= acknowledged
            assert fleet.agents().keys() == everybody.keys()
        finally:
            if frozen is not None and is_alive(frozen):  # whatever the watcher did not do
                os.killpg(frozen.pid, signal.SIGKILL)
            fleet.end()
