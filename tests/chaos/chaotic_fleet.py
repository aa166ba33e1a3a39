"""A real fleet with real controllers under a plan of blows, and how it must stand afterwards."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from fleet.agents import RestartPolicy, StateChange, Workload
from fleet.errors import StateroomError
from fleet.failover.records import ControllerState
from fleet.inventory import AgentPhase
from fleet.journal import JournalEntry
from fleet.leases import LEADER_LEASE
from fleet.placement_history import PlacementRecord
from resources.clock import SystemClock
from resources.local.fleet_declaration import place_unplaced
from resources.local.linux_processes import (
    ProcessIdentity,
    child_pids,
    descendants,
    identify,
    is_alive,
    send_signal,
    signal_group,
)
from resources.local.node_spec import read_run, run_path
from tests.chaos.blows import Blow, BlowKind, Victims
from tests.chaos.lookout import Lookout
from tests.chaos.parkings import Look
from tests.chaos.write_ledger import Acknowledged
from tests.resources.local.fleets import Fleet, agents_of, node, open_fleet

REGIONS = ("ap", "eu", "us")
PAGE = 10_000
PATIENT = RestartPolicy(delay_s=0.05, delay_max_s=0.5, attempts_max=10_000)
SETTLE_S = 300.0
"""Longest time from the last healing until everything runs: limits, probations, slow machines."""


class ChaoticFleet:
    """Three regions of two nodes, their agents, their controllers."""

    def __init__(self, fleet: Fleet, agents_per_node: int, controllers: int) -> None:
        """Nothing is started yet."""
        self.fleet = fleet
        self.nodes = {f"{region}-{n}": region for region in REGIONS for n in (1, 2)}
        self.ledger_dir = fleet.state_dir / "ledger"
        self.ledger_dir.mkdir()
        self._per_region = 2 * agents_per_node
        self.agents: list[str] = []
        self.controllers = [f"controller-{n}" for n in range(controllers)]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._lookout: Lookout | None = None

    def start(self) -> None:
        """Nodes, agents, controllers; returns when every agent has been promised something."""
        workloads, agents = [], []
        for region in REGIONS:
            counter = Workload(
                f"{region}-counter",
                "net",
                function="tests.chaos.agents:keep_ledger",
                arguments={"ledger": str(self.ledger_dir), "pause_s": "0.15"},
                restart=PATIENT,
            )
            workloads.append(counter)
            agents += agents_of(counter, self._per_region, region)
        self.agents = [one.agent_id for one in agents]
        nodes = [node(node_id, region) for node_id, region in self.nodes.items()]
        self.fleet.start(nodes, workloads, agents, heartbeat_interval_s=0.5, lease_ttl_s=4.0)
        for name in self.controllers:
            self.start_controller(name)
        self._lookout = Lookout(self.fleet.store_url, self._supervisors)
        self._until(lambda: {one.agent_id for one in self.acknowledged()} == set(self.agents))

    def start_controller(self, name: str) -> None:
        """Start a controller that does not run."""
        log = self.fleet.state_dir / f"{name}.log"
        words = ["-m", "tests.chaos.controller", str(self.fleet.state_dir), name]
        with log.open("ab") as output:
            self._processes[name] = subprocess.Popen(
                [sys.executable, *words, ",".join(REGIONS)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.fleet.cluster._launcher.environment(),
                start_new_session=True,
            )

    def victims(self) -> Victims:
        """Whom a plan may hurt."""
        return Victims(self.nodes, self.agents, self.controllers)

    # -- blows -----------------------------------------------------------------------------------

    def suffer(self, blows: list[Blow]) -> list[str]:
        """Live through a plan; everything is healed at the end. Returns what was done."""
        began_s, told = time.monotonic(), []
        todo = [(one.at_s, "strike", one) for one in blows]
        todo += [(one.at_s + one.lasts_s, "heal", one) for one in blows if one.lasts_s]
        for at_s, verb, blow in sorted(todo):
            time.sleep(max(0.0, began_s + at_s - time.monotonic()))
            done = self.strike(blow) if verb == "strike" else self.heal(blow)
            told.append(f"{time.monotonic() - began_s:6.1f} s: {verb} {blow.kind}: {done}")
        return told

    def strike(self, blow: Blow) -> str:
        """Do the damage; returns to whom, in words."""
        alone = blow.kind in {BlowKind.KILL_SUPERVISOR, BlowKind.FREEZE_SUPERVISOR}
        if "freeze" in blow.kind:
            return self._freeze(blow.subject, group=not alone)
        if blow.kind is BlowKind.KILL_AGENT:
            return self._kill_agent(blow.subject)
        if blow.kind is BlowKind.KILL_ZYGOTE:
            leader = self._leader(blow.subject)
            zygotes = [one for pid in child_pids(leader.pid) if (one := identify(pid))]
            return f"{blow.subject}: {[send_signal(one, signal.SIGKILL) for one in zygotes]}"
        struck = self._nodes_of(blow)
        return ", ".join(self._signal(one, signal.SIGKILL, group=not alone) for one in struck)

    def _nodes_of(self, blow: Blow) -> list[str]:
        """Whom a blow hits: the subject, or the nodes of a region."""
        if blow.kind is BlowKind.KILL_REGION:
            return [one for one, region in self.nodes.items() if region == blow.subject]
        return [blow.subject]

    def heal(self, blow: Blow) -> str:
        """Start or wake what was hurt; returns whom, in words."""
        match blow.kind:
            case BlowKind.FREEZE_NODE | BlowKind.FREEZE_SUPERVISOR | BlowKind.FREEZE_CONTROLLER:
                return self._signal(blow.subject, signal.SIGCONT)
            case BlowKind.KILL_CONTROLLER:
                self.start_controller(blow.subject)
                return blow.subject
            case BlowKind.FREEZE_AND_KILL:
                self.fleet.cluster._launcher.kill(self._leader(blow.subject))
        return ", ".join(self._launch(one) for one in self._nodes_of(blow))

    def _leader(self, name: str) -> ProcessIdentity:
        """The leader of the process group of a node or controller."""
        if name in self._processes:
            child = self._processes[name]
            found = identify(child.pid)
            return found or ProcessIdentity(child.pid, -1)
        return self.fleet.run(name).process

    def _signal(self, name: str, number: int, *, group: bool = True) -> str:
        leader = self._leader(name)
        done = signal_group(leader, number) if group else send_signal(leader, number)
        if name in self._processes and number == signal.SIGKILL:
            self._processes[name].wait()
        return f"{name}{'' if done else ' (was gone)'}"

    def _kill_agent(self, agent_id: str) -> str:
        pid = self.fleet.agent(agent_id).pid
        process = None if pid is None else identify(pid)
        done = process is not None and send_signal(process, signal.SIGKILL)
        return f"{agent_id}{'' if done else ' (was not running)'}"

    def _freeze(self, name: str, *, group: bool) -> str:
        """Stop between two transactions: inside of one, a process keeps SQLite's write lock."""
        for _ in range(50):
            self._signal(name, signal.SIGSTOP, group=group)
            if not self._is_locked():
                return name
            self._signal(name, signal.SIGCONT, group=group)
            time.sleep(0.2)
        return f"{name} (was in a transaction each time)"

    def _is_locked(self) -> bool:
        with closing(sqlite3.connect(self.fleet.state_dir / "control.db", timeout=1.0)) as look:
            look.isolation_level = None
            try:
                look.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return True
            look.execute("ROLLBACK")
            return False

    def _launch(self, node_id: str) -> str:
        """Start a node that is down; it becomes ready while chaos goes on."""
        cluster = self.fleet.cluster
        run = cluster._launcher.run(node_id)
        if run is not None and is_alive(run.process):
            return f"{node_id} (runs)"
        try:
            cluster._launcher.launch(cluster._spec(node_id))
        except StateroomError as error:
            return f"{node_id} is not started: {error}"
        return node_id

    # -- afterwards ------------------------------------------------------------------------------

    def settle(self) -> None:
        """Start whatever does not run, and wait until nothing is left to be done."""
        for node_id in self.nodes:
            self._launch(node_id)
        for _ in range(3):  # rest lasts: who has just started has not looked around yet
            self._until(lambda: not self.unrest(), lambda: "\n".join(self.unrest()))
            time.sleep(1.0)

    def unrest(self) -> list[str]:
        """What keeps the fleet from being at rest: nodes, agents, incidents, in sentences."""
        store = self.fleet.store
        found = [
            f"incident {one.incident_id} is {one.state}: {one.reason}; waits for {one.waits_for!r}"
            for one in store.incidents(open_only=True, limit=100)
        ]
        found += [
            f"{node_id} does not run"
            for node_id in self.nodes
            if not is_alive(self.fleet.run(node_id).process)
        ]
        kept = store.controller_view()
        leads = kept is not None and kept.view.controller is ControllerState.ACTIVE
        lease = store.lease(LEADER_LEASE)
        if not leads or lease is None or lease.expires_at < SystemClock().now():
            found.append(f"no controller leads and acts: {lease}, {kept and kept.view.frozen_by}")
        placed = {one.agent_id: one for one in store.placements()}
        lives = self.lives()
        for agent in store.agents():
            placement, alive = placed[agent.agent_id], lives.get(agent.agent_id, [])
            if placement.desired == "parked":
                if alive or not placement.reason:
                    found.append(f"{agent.agent_id} is parked, {alive} run: {placement.reason!r}")
                continue
            runs = (agent.phase, agent.epoch) == (AgentPhase.RUNNING, placement.epoch)
            if not runs or alive != [placement.epoch]:
                found.append(
                    f"{agent.agent_id} is {agent.phase} under epoch {agent.epoch} on "
                    f"{agent.node_id}, processes of epochs {alive}; placed: {placement}"
                )
        return found

    def wait_left(self, node_id: str) -> None:
        """Wait until the controllers have moved every agent of a node elsewhere."""
        self._until(
            lambda: not self.fleet.store.placements(node_id), lambda: f"{node_id} has agents"
        )

    def lives(self) -> dict[str, list[int]]:
        """Agent -> epochs of its living processes, as they have said of themselves."""
        found: dict[str, list[int]] = {}
        for path in self.ledger_dir.glob("*.life"):
            agent_id, life, _ = path.name.rsplit(".", 2)
            words = path.read_text().split()
            if len(words) == 2 and is_alive(
                ProcessIdentity(int(life.partition("-")[0]), int(words[1]))
            ):
                found.setdefault(agent_id, []).append(int(words[0]))
        return found

    def orphans(self) -> list[int]:
        """Processes that name the state folder and stand below no node and no controller."""
        known = {os.getpid()}
        for name in [*self.nodes, *self.controllers]:
            leader = self._leader(name)
            if is_alive(leader):
                known |= {leader.pid} | {one.pid for one in descendants(leader.pid)}
        mark, found = os.fsencode(self.fleet.state_dir), []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) in known:
                continue
            try:
                said = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if mark in said and identify(int(entry.name)) is not None:
                found.append(int(entry.name))
        return found

    def faults(self) -> str:
        """Tracebacks of controllers and runs; empty when there was no defect."""
        path = self.fleet.state_dir / "faults"
        return path.read_text() if path.exists() else ""

    def acknowledged(self) -> list[Acknowledged]:
        """All ledgers."""
        found = []
        for path in sorted(self.ledger_dir.glob("*.ledger")):
            for line in path.read_text().splitlines():
                epoch, version, digest = line.split()
                found.append(Acknowledged(path.stem, int(epoch), int(version), digest))
        return found

    def changes(self) -> list[StateChange]:
        """The whole change log."""
        found: list[StateChange] = []
        while page := self.fleet.store.state_changes(found[-1].change_id if found else 0, PAGE):
            found += page
        return found

    def history(self) -> list[PlacementRecord]:
        """Every epoch that was ever stored."""
        found: list[PlacementRecord] = []
        while page := self.fleet.store.placement_history(
            found[-1].history_id if found else 0, PAGE
        ):
            found += page
        return found

    def states(self) -> dict[str, tuple[int, int, str]]:
        """Agent -> version, epoch, digest as stored; the bodies are read and verified."""
        found = {}
        for one in self.fleet.store.states(self.agents):
            assert json.loads(one.body)["number"] == one.version
            found[one.agent_id] = (one.version, one.epoch, one.digest)
        return found

    def looks(self) -> list[Look]:
        """What could have taken agents in, from the start to the stop."""
        assert self._lookout is not None
        return self._lookout.looks

    def journals(self) -> dict[str, list[JournalEntry]]:
        """Incident -> its journal, of all incidents."""
        incidents = self.fleet.store.incidents(limit=PAGE)
        return {one.incident_id: self.fleet.store.journal(one.incident_id) for one in incidents}

    def place_parked(self) -> int:
        """Do what the runbook tells an operator (`stateroom up`); returns how many were placed."""
        return len(place_unplaced(self.fleet.store, SystemClock()))

    def _supervisors(self) -> dict[str, ProcessIdentity]:
        runs = {one: read_run(run_path(self.fleet.state_dir, one)) for one in self.nodes}
        return {one: run.process for one, run in runs.items() if run is not None}

    def stop(self) -> None:
        """End nodes and controllers; agents checkpoint."""
        if self._lookout is not None:
            self._lookout.stop()
        for name, process in self._processes.items():
            if process.poll() is None:
                self._signal(name, signal.SIGKILL)
        self.fleet.cluster.stop_nodes()

    def _until(self, look: object, what: object = lambda: "") -> None:
        assert callable(look)
        assert callable(what)
        end_s = time.monotonic() + SETTLE_S
        while not look():
            assert time.monotonic() < end_s, what()
            time.sleep(0.5)


@contextmanager
def chaotic_fleet(agents_per_node: int = 4, controllers: int = 2) -> Iterator[ChaoticFleet]:
    """A fleet that runs; every process of it is ended at the end, whatever happened."""
    with open_fleet() as fleet:
        chaotic = ChaoticFleet(fleet, agents_per_node, controllers)
        try:
            chaotic.start()
            yield chaotic
        finally:
            chaotic.stop()
