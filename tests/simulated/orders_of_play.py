"""The commands of a scenario: what happens to the fleet, and what people do, as lines of text.

`fault ...` takes a line of a fault script (`fleet.fault_script`); everything else is about what a
cluster's faults do not reach: single links, observers, the store, controllers, runs, people.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from fleet.agents import StatePut
from fleet.fault_script import parse_fault_script
from fleet.incidents import IncidentKind, IncidentOpening
from fleet.ports.control_store import ControlStore
from resources.simulated.probing import CONTROLLER, EVERYBODY
from tests.simulated.failover_drive import FailoverDrive

_BY = "ada"


class Play:
    """Carries commands out on a drive."""

    def __init__(self, drive: FailoverDrive) -> None:
        """Nothing has been ordered."""
        self.drive = drive
        self._verbs: dict[str, Callable[[list[str]], None]] = {
            "fault": self._fault,
            "boot": self._boot,
            "link": self._link,
            "isolate": self._isolate,
            "blind": self._blind,
            "deaf": drive.deaf.update,
            "hear": drive.deaf.difference_update,
            "hang": drive.mute.update,
            "unhang": drive.mute.difference_update,
            "work": drive.working.update,
            "stick": self._stick,
            "unstick": lambda words: drive.stuck.pop(words[0]),
            "away": drive.away.update,
            "back": drive.away.difference_update,
            "infrastructure": self._infrastructure,
            "controller": self._controller,
            "crash-run": self._crash_run,
            "pause": lambda words: self._switch(paused=True),
            "resume": lambda words: self._switch(paused=False),
            "maintain": self._maintain,
            "maintained": lambda words: self._end_maintenance(words[0]),
            "acknowledge": self._acknowledge,
            "approve": self._approve,
            "force": self._force,
            "go-home": self._go_home,
            "lone-runs": lambda words: setattr(drive, "run_restarts", False),
            "lose-state": self._lose_states,
            "damage-state": self._damage_states,
            "backup": drive.backups.take,
            "vault": self._vault,
            "crash-agent": self._crash_agent,
            "store-state": self._store_state,
        }  # fmt: skip

    @property
    def _store(self) -> ControlStore:
        return self.drive.store

    def do(self, line: str) -> None:
        """One command, now."""
        verb, *words = line.split()
        self.drive.story.say(self.drive.now_s, ">", line)
        self._verbs[verb](words)

    def _fault(self, words: list[str]) -> None:
        self.drive.cluster.play(parse_fault_script("at 0 " + " ".join(words)))

    def _crash_run(self, words: list[str]) -> None:
        """`crash-run N before|after`: the next run dies at its n-th writing call."""
        self.drive.crash_next.append((int(words[0]), words[1] == "after"))

    def _boot(self, words: list[str]) -> None:
        for name in words:
            self.drive.cluster.start_node(name)

    def _link(self, words: list[str]) -> None:
        """`link cut A B`, `link heal A B`."""
        change = self.drive.probes.cut.add if words[0] == "cut" else self.drive.probes.cut.discard
        change((words[1], words[2]))

    def _isolate(self, words: list[str]) -> None:
        """From all probes, of nodes and controllers; what else a node reaches stays."""
        for name in words:
            self.drive.probes.cut.add((EVERYBODY, name))

    def _blind(self, words: list[str]) -> None:
        everybody = {*self.drive.machinery.nodes, CONTROLLER}
        self.drive.probes.blind = everybody if words == ["all"] else set(words) - {"none"}

    def _infrastructure(self, words: list[str]) -> None:
        """`infrastructure answers|is away`, `infrastructure buries|unburies NODE...`."""
        infrastructure, names = self.drive.infrastructure, set(words[1:])
        if words[0] == "buries":
            infrastructure.buried |= names
        elif words[0] == "unburies":
            infrastructure.buried -= names
        else:
            infrastructure.answers = words[0] == "answers"

    def _stick(self, words: list[str]) -> None:
        """Copies on these nodes cannot be ended there any more: they wait for a disk."""
        for name in words:
            self.drive.stick(name)

    def _lose_states(self, words: list[str]) -> None:
        for name in words:
            self.drive.store.remove_state(name)

    def _damage_states(self, words: list[str]) -> None:
        for name in words:
            self.drive.store.damage_state(name, b"rubbish")

    def _vault(self, words: list[str]) -> None:
        """`vault away|back REGION...`."""
        away = self.drive.backups.away
        (away.update if words[0] == "away" else away.difference_update)(words[1:])

    def _controller(self, words: list[str]) -> None:
        """`controller NAME join|crash|start|sleep S|skew S`."""
        name, verb, *rest = words
        if verb == "join":
            self.drive.add_controller(name)
            return
        controller = self.drive.controllers[name]
        if verb == "crash":
            controller.crash()
        elif verb == "start":
            controller.start()
        elif verb == "sleep":
            controller.paused_until_s = self.drive.clock.monotonic_s() + float(rest[0])
        else:
            controller.set_skew(float(rest[0]))

    def _switch(self, *, paused: bool) -> None:
        self._store.set_automation(paused=paused, by=_BY, reason="she said so")

    def _maintain(self, words: list[str]) -> None:
        until = self.drive.store.clock.now() + timedelta(seconds=float(words[1]))
        self._store.start_maintenance(words[0], until, _BY, "new disks")

    def _end_maintenance(self, subject: str) -> None:
        self._store.end_maintenance(subject, _BY, "done")

    def _acknowledge(self, words: list[str]) -> None:
        self._store.acknowledge(self._incident(words[0]), _BY, "I am looking")

    def _approve(self, words: list[str]) -> None:
        """`approve SUBJECT [ACTION]`; without an action, what its incident waits for."""
        incident_id = self._incident(words[0])
        header = self._store.incident(incident_id)
        assert header is not None
        action = words[1] if len(words) > 1 else header.waits_for
        assert action, f"{incident_id} waits for nothing"
        self._store.approve_action(incident_id, action, _BY, "go")

    def _force(self, words: list[str]) -> None:
        kind, _, name = words[0].partition("/")
        region = name if kind == "region" else name.partition("-")[0]
        now = self.drive.store.clock.now()
        opening = IncidentOpening(IncidentKind(kind), name, region, "ordered by ada", now, 0)
        incident = self._store.open_incident(opening)
        self._store.approve_action(incident.incident_id, f"forced:{words[0]}", _BY, "drain it")

    def _go_home(self, words: list[str]) -> None:
        """`go-home REGION [rehearsed]`: records the rehearsal, and else approves the way, too."""
        region = words[0]
        incident_id = self._incident(f"fail_back/{region}")
        self._store.approve_action(incident_id, f"rehearsed:{region}", _BY, "all have room")
        evacuations = [
            one.incident_id
            for one in self._store.incidents()
            if (one.kind, one.subject) == ("region", region)
        ]
        if len(words) == 1:
            action = f"fail_back:region/{region}:{evacuations[0]}"
            self._store.approve_action(incident_id, action, _BY, "go")

    def _incident(self, subject: str) -> str:
        kind, _, name = subject.partition("/")
        found = [
            one.incident_id
            for one in self._store.incidents(open_only=True)
            if (one.kind, one.subject) == (kind, name)
        ]
        if not found:  # a person opens one, as `stateroom` does
            now = self.drive.store.clock.now()
            where = name.partition("-")[0] if kind == "node" else name
            opening = IncidentOpening(IncidentKind(kind), name, where, "asked for", now, 0)
            found = [self._store.open_incident(opening).incident_id]
        return found[0]

    def _store_state(self, words: list[str]) -> None:
        """Its first: from now on it has something that must not be in two hands."""
        placed = {one.agent_id: one for one in self._store.placements()}
        put = StatePut(words[0], placed[words[0]].epoch, 0, b"its first state")
        (result,) = self._store.put_states([put])
        assert result.error is None, result

    def _crash_agent(self, words: list[str]) -> None:
        self._fault(["crash", f"agent/{words[0]}"])
