"""The built-in agents: each watches one thing of this machine and remembers what it saw.

Each is a function of an `Agent` and runs until it is told to stop. Arguments of the workload
(`AGENT_ARGUMENTS`): `interval_s` (5), `activity_interval_s` (15), `note_interval_s` (60),
`heartbeat_interval_s`, `checkpoint_interval_s`, `proc_path` (/proc), and for disks `path` (/).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from stateroom_agent.agent import Agent
from stateroom_agent.observation import Observation
from stateroom_agent.observer_notes import (
    CPU,
    DISK,
    MEMORY,
    NETWORK,
    Wording,
    compose_note,
    is_noteworthy,
)
from stateroom_agent.proc_readings import (
    busy_percent,
    own_memory_bytes,
    parse_cpu_times,
    parse_memory,
    parse_network,
    read_disk,
    read_text,
)

INTERVAL_S = 5.0
ACTIVITY_INTERVAL_S = 15.0
NOTE_INTERVAL_S = 60.0
FIRST_NOTE_AFTER_S = 8.0
"""From the start; with the first step within 5 s and steps every 5 s, noted within 15 s."""
NOTEWORTHY_PAUSE_S = 30.0
"""Between notes about what is out of the ordinary, so that a long spike is not a flood."""


def observe_cpu(agent: Agent) -> None:
    """Watch how busy the processors are."""
    cpu_observer(agent).run()


def observe_memory(agent: Agent) -> None:
    """Watch how much of the main memory is in use."""
    memory_observer(agent).run()


def observe_disk(agent: Agent) -> None:
    """Watch how full the file system at the argument `path` is."""
    disk_observer(agent).run()


def observe_network(agent: Agent) -> None:
    """Watch how much the network interfaces carry, the loopback left out."""
    network_observer(agent).run()


def cpu_observer(agent: Agent) -> Observer:
    """Of how busy the processors are."""
    stat_path = _proc_path(agent) + "/stat"
    before = parse_cpu_times(read_text(stat_path))

    def read() -> dict[str, float]:
        nonlocal before
        now = parse_cpu_times(read_text(stat_path))
        busy, before = busy_percent(before, now), now
        return {"busy_percent": busy}

    return Observer(agent, "cpu", CPU, read)


def memory_observer(agent: Agent) -> Observer:
    """Of how much of the main memory is in use."""
    meminfo_path = _proc_path(agent) + "/meminfo"

    def read() -> dict[str, float]:
        memory = parse_memory(read_text(meminfo_path))
        used = 100.0 * (memory.total_bytes - memory.available_bytes) / memory.total_bytes
        return {"used_percent": used, "available_bytes": memory.available_bytes}

    return Observer(agent, "memory", MEMORY, read)


def disk_observer(agent: Agent) -> Observer:
    """Of how full the file system at the argument `path` is."""
    path = agent.arguments.get("path", "/")

    def read() -> dict[str, float]:
        disk = read_disk(path)
        return {"used_percent": disk.used_percent, "free_bytes": disk.free_bytes}

    return Observer(agent, "disk", DISK, read, place=path)


def network_observer(agent: Agent) -> Observer:
    """Of how much the network interfaces carry, the loopback left out."""
    net_dev_path = _proc_path(agent) + "/net/dev"
    before, before_s = parse_network(read_text(net_dev_path)), time.monotonic()

    def read() -> dict[str, float]:
        nonlocal before, before_s
        now, now_s = parse_network(read_text(net_dev_path)), time.monotonic()
        elapsed_s = max(now_s - before_s, 0.001)
        # A counter that went back belongs to an interface that was removed: it carried nothing.
        received = max(0, now.received_bytes - before.received_bytes) / elapsed_s
        sent = max(0, now.sent_bytes - before.sent_bytes) / elapsed_s
        before, before_s = now, now_s
        return {
            "bytes_per_s": received + sent,
            "received_bytes_per_s": received,
            "sent_bytes_per_s": sent,
        }

    return Observer(agent, "network", NETWORK, read)


class Observer:
    """The common life of the observers: read, count, remember, report."""

    def __init__(
        self,
        agent: Agent,
        kind: str,
        wording: Wording,
        read: Callable[[], dict[str, float]],
        place: str = "",
    ) -> None:
        """Load what earlier lives knew.

        Args:
            agent: whose state this becomes.
            kind: name in activities.
            wording: of the notes.
            read: gives one reading; its first value is the leading quantity. May raise OSError or
                ValueError, which is counted and logged as a failed activity.
            place: what is observed, for the notes.
        """
        self._agent = agent
        self._kind = kind
        self._wording = wording
        self._read = read
        self._place = place
        self._interval_s = agent.argument_s("interval_s", INTERVAL_S)
        self._activity_interval_s = agent.argument_s("activity_interval_s", ACTIVITY_INTERVAL_S)
        self._note_interval_s = agent.argument_s("note_interval_s", NOTE_INTERVAL_S)
        self.observation = Observation.load(agent.load_state())
        self.observation.lives += 1
        self._started_s = self._noted_s = self._logged_s = time.monotonic()
        self._cpu_s, self._cpu_at_s = time.process_time(), self._started_s
        self._notes = 0
        self._unlogged = 0
        self._unlogged_s = 0.0

    def run(self) -> None:
        """Observe until told to stop."""
        self._agent.run(self.step, self._interval_s, self.observation.dump)

    def step(self) -> bool:
        """One reading, and whatever is due after it; False when it failed."""
        begin_s = time.monotonic()
        self.observation.tasks += 1
        ok = False
        try:
            values = self._read()
        except (OSError, ValueError) as error:
            self.observation.errors += 1
            self._agent.activity(
                f"observe-{self._kind}",
                ok=False,
                duration_s=time.monotonic() - begin_s,
                detail=f"{type(error).__name__}: {error}",
            )
        else:
            ok = True
            self.observation.add(values, time.time())
            self._unlogged += 1
            self._unlogged_s += time.monotonic() - begin_s
            self._log_activity(begin_s)
            self._note(begin_s)
        self._report(begin_s)
        return ok

    def _log_activity(self, now_s: float) -> None:
        if now_s - self._logged_s < self._activity_interval_s and self.observation.tasks > 1:
            return
        statistics = self.observation.statistics[self._wording.leading]
        level = self._wording.format_level
        self._agent.activity(
            f"observe-{self._kind}",
            duration_s=self._unlogged_s,
            detail=f"{self._unlogged} readings; last {level(statistics.last)}, "
            f"mean {level(statistics.mean)} of {statistics.count}",
        )
        self._logged_s, self._unlogged, self._unlogged_s = now_s, 0, 0.0

    def _note(self, now_s: float) -> None:
        statistics = self.observation.statistics[self._wording.leading]
        quiet_s = now_s - self._noted_s
        if self._notes == 0:
            due = now_s - self._started_s >= min(FIRST_NOTE_AFTER_S, self._note_interval_s)
        elif is_noteworthy(self._wording, statistics):
            due = quiet_s >= min(NOTEWORTHY_PAUSE_S, self._note_interval_s)
        else:
            due = quiet_s >= self._note_interval_s
        if due:
            text = compose_note(
                self._wording,
                self.observation,
                time.time(),
                first=self._notes == 0,
                place=self._place,
            )
            self._agent.note(text)
            self._notes += 1
            self._noted_s = now_s

    def _report(self, now_s: float) -> None:
        cpu_s = time.process_time()
        elapsed_s = now_s - self._cpu_at_s
        cpu_usage = 100.0 * (cpu_s - self._cpu_s) / elapsed_s if elapsed_s > 0 else 0.0
        self._cpu_s, self._cpu_at_s = cpu_s, now_s
        self._agent.metrics(
            {
                "cpu_usage": round(cpu_usage, 3),
                "memory_usage": own_memory_bytes(),
                "tasks": self.observation.tasks,
                "errors": self.observation.errors,
                "response_time_s": round(self._agent.response_time_s, 6),
            }
        )


def _proc_path(agent: Agent) -> str:
    return agent.arguments.get("proc_path", "/proc")
