"""Plays a text of commands on the four-node fleet and writes down what is visible and what is so.

A timeline file alternates commands (`> ...`) and what they print; a test plays the commands again
and compares the whole text.
"""

from __future__ import annotations

from collections.abc import Callable

from fleet.errors import StateroomError
from fleet.fault_script import parse_fault_script
from resources.simulated.cluster import SimulatedCluster
from tests.resources.simulated.fleets import four_nodes, placed


class Timeline:
    """The commands of the timeline language."""

    def __init__(self) -> None:
        """Start with the fleet up."""
        self.cluster: SimulatedCluster = four_nodes()
        self._commands: dict[str, Callable[[list[str]], list[str]]] = {
            "fault": self._fault,
            "tick": self._tick,
            "see": self._see,
            "truth": self._truth,
            "place": self._place,
            "kill": lambda words: [self.cluster.kill_node(words[0])],
            "start": lambda words: [self.cluster.start_node(words[0])],
            "evict": self._evict,
            "watch": self._watch,
        }

    def play(self, text: str) -> str:
        """Run the commands of a text; returns the text with what they print now."""
        lines = []
        for line in text.splitlines():
            if line.startswith("#") or (not line and (not lines or lines[-1] != "")):
                lines.append(line)
            if line.startswith("> "):
                lines.append(line)
                command, *words = line[2:].split()
                try:
                    lines += self._commands[command](words)
                except StateroomError as error:
                    lines.append(f"{type(error).__name__}: {error}")
        return "\n".join(lines) + "\n"

    def _fault(self, words: list[str]) -> list[str]:
        self.cluster.play(parse_fault_script("at 0 " + " ".join(words)))
        return []

    def _tick(self, words: list[str]) -> list[str]:
        self.cluster.advance(float(words[0]))
        return []

    def _see(self, words: list[str]) -> list[str]:
        """What is visible of the named nodes and agents; times are ages in whole seconds."""
        now = self.cluster.clock.now()
        lines = []
        for region in self.cluster.regions():
            snapshot = self.cluster.snapshot(region)
            reports = {report.node_id: report for report in self.cluster.reports(region)}
            for node in snapshot.nodes:
                if node.node_id in words:
                    assert node.heartbeat_at is not None
                    received = int((now - node.heartbeat_at).total_seconds())
                    reported = round((now - reports[node.node_id].reported_at).total_seconds())
                    gpus = [g for g in snapshot.gpus if g.node_id == node.node_id]
                    devices = "".join("x" if gpu.lost else "+" for gpu in gpus)
                    lines.append(
                        f"{node.node_id} {node.phase} boot={node.boot_id} heard={received}s "
                        f"said={reported}s cpu={node.cpu_milli} gpus={node.gpu_count}{devices} "
                        f"running={node.agents_running} failed={node.agents_failed}"
                    )
            lines += [
                f"{a.agent_id} {a.phase} on={a.node_id} epoch={a.epoch} restarts={a.restarts}: "
                f"{a.reason}"
                for a in snapshot.agents
                if a.agent_id in words
            ]
        return sorted(lines)

    def _truth(self, words: list[str]) -> list[str]:
        """What is so."""
        truth = self.cluster.truth
        lines = []
        for name in words:
            if name.startswith("n"):
                node = truth.node(name)
                lines.append(
                    f"{name} up={node.up} works={node.works} store={node.reaches_store} "
                    f"controller={node.reaches_controller} skew={node.skew_s:g} "
                    f"worked={node.worked_s:g}"
                )
            else:
                lines += [
                    f"{copy.agent_id} {copy.phase} on={copy.node_id} epoch={copy.epoch} "
                    f"works={copy.works} worked={copy.worked_s:g}"
                    for copy in truth.copies(name)
                ] or [f"{name} nowhere"]
        return lines

    def _place(self, words: list[str]) -> list[str]:
        agent_id, node_id, epoch, *desired = words
        wish = desired[0] if desired else "running"
        self.cluster.apply_placements([placed(agent_id, node_id, int(epoch), desired=wish)])
        return []

    def _evict(self, words: list[str]) -> list[str]:
        self.cluster.evict(words[0], int(words[1]), 1.0)
        return []

    def _watch(self, words: list[str]) -> list[str]:
        events = self.cluster.watch("" if words[0] == "now" else words[0], float(words[1]))
        start = self.cluster.clock.start
        return [
            f"{e.cursor} {(e.at - start).total_seconds():g}s {e.kind} {e.subject}: {e.detail}"
            for e in events
        ]
