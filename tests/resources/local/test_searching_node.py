"""A real node whose agent searches: the reader beside it, nothing of it inside it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from resources.local.linux_processes import child_pids, group_members
from tests.resources.local.fleets import Fleet, agents_of, eventually, function, node
from tests.resources.vectors.text_world import TextWorld, declaration_at


def _loads_faiss(pid: int) -> bool:
    return "faiss" in Path(f"/proc/{pid}/maps").read_text()


def _is_reader(pid: int) -> bool:
    return "reader_process" in Path(f"/proc/{pid}/cmdline").read_text()


def test_an_agent_finds_its_networks_notes_and_only_the_reader_loads_the_library(
    fleet: Fleet,
) -> None:
    """Told that there is no index, then of each generation; with the node, the reader ends."""
    world = TextWorld(declaration_at(fleet.state_dir, ("net", "other")))
    world.remember("other", ["The disk was busy, but in another network."])
    world.build("other")
    searching = function("searching", "search")
    fleet.start([node("n1")], [searching], agents_of(searching), vectors=world.declaration)
    name = "searching-0"
    eventually(lambda: "net has no vector index" in fleet.log(name), "it is told", 60.0)
    world.remember("net")
    first = world.build("net")
    said = f"{first.generation} Disk sda was busy"
    eventually(lambda: said in fleet.log(name), "the note is found", 60.0)
    assert "another network" not in fleet.log(name)
    supervisor = fleet.run("n1").process.pid
    (reader,) = [pid for pid in child_pids(supervisor) if _is_reader(pid)]
    members = group_members(supervisor)
    assert {pid for pid in members if _loads_faiss(pid)} == {reader}
    os.kill(reader, signal.SIGKILL)
    world.remember("net", ["The disk was busy, said later."])
    second = world.build("net")
    eventually(lambda: second.generation in fleet.log(name), "the next reader answers", 60.0)
    os.kill(supervisor, signal.SIGKILL)
    eventually(lambda: not group_members(supervisor), "nothing outlives the supervisor")
