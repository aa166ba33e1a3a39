"""Logs of agents that are gone: found by node and agent, removed unless the agent comes back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fleet.cleanup import Orphan
from fleet.errors import StoreUnavailableError, VersionConflictError
from fleet.inventory import Agent
from resources.orphans.agent_logs import AgentLogs
from tests.fakes.clock import ManualClock
from tests.fakes.control_store import InMemoryControlStore
from tests.fakes.fleet import SeededFleet, declare_fleet


class World:
    """Logs of four agents of eu on both nodes of it; `eu-1-a1` is retired."""

    def __init__(self, folder: Path) -> None:
        """Every agent has a log where it is; two have one where they are not."""
        self.store = InMemoryControlStore(ManualClock())
        SeededFleet(self.store, ManualClock(), declare_fleet(("eu",)))
        self.folder = folder / "agents"
        for node_id, names in {
            "eu-1": ("eu-1-a1.log", "eu-1-a1.log.1", "eu-1-a2.log", "eu-2-a1.log", "notes.txt"),
            "eu-2": ("eu-2-a1.log", "eu-2-a2.log"),
            "old": ("ghost.log",),
        }.items():
            (self.folder / node_id).mkdir(parents=True)
            for number, name in enumerate(names):
                path = self.folder / node_id / name
                path.write_bytes(b"12345")
                os.utime(path, (1000 + number, 1000 + number))
        self.store.retire_agents(["eu-1-a1"])
        self.logs = AgentLogs(folder, self.store)

    def names(self) -> list[str]:
        """Every file, by node."""
        return sorted(str(one.relative_to(self.folder)) for one in self.folder.rglob("*.*"))

    def find(self, subject: str) -> Orphan:
        """One that is left behind."""
        (found,) = [one for one in self.logs.orphans() if one.subject == subject]
        return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Logs in a folder of their own."""
    return World(tmp_path)


def test_files_of_agents_that_are_retired_or_elsewhere_are_found(world: World) -> None:
    """With their size and last write; other files, and agents that wait for a node, are not."""
    found = list(world.logs.orphans())
    assert [one.subject for one in found] == ["eu-1/eu-1-a1", "eu-1/eu-2-a1", "old/ghost"]
    assert (found[0].size_bytes, found[0].newest_at.timestamp()) == (10, 1001)
    assert "is on eu-2 now" in found[1].detail
    parked = [one for one in world.store.placements() if one.agent_id == "eu-2-a1"]
    world.store.place_agents([parked[0]._replace(node_id="", desired="parked")])
    assert "eu-1/eu-2-a1" not in [one.subject for one in world.logs.orphans()]


def test_a_fleet_without_logs_leaves_none_behind(tmp_path: Path) -> None:
    """Its nodes are elsewhere, or it has never started."""
    assert list(AgentLogs(tmp_path, InMemoryControlStore(ManualClock())).orphans()) == []


def test_a_folder_that_cannot_be_read_is_told(world: World) -> None:
    """Not taken for one without files."""
    (world.folder / "old" / "ghost.log").unlink()
    (world.folder / "old").rmdir()
    (world.folder / "old").symlink_to(world.folder / "nowhere")
    assert len(list(world.logs.orphans())) == 2  # links are not followed
    for path in world.folder.iterdir():
        path.unlink() if path.is_symlink() else path.rename(path.with_name(f"x{path.name}"))
    for path in list(world.folder.iterdir()):
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    world.folder.rmdir()
    world.folder.write_bytes(b"a file")
    with pytest.raises(StoreUnavailableError, match="cannot be read"):
        list(world.logs.orphans())


def test_only_the_files_of_that_agent_on_that_node_go(world: World) -> None:
    """A second call finds nothing, and does nothing."""
    orphan = world.find("eu-1/eu-1-a1")
    assert world.logs.remove(orphan) == 10
    assert world.logs.remove(orphan) == 0
    assert world.names() == [
        "eu-1/eu-1-a2.log", "eu-1/eu-2-a1.log", "eu-1/notes.txt",
        "eu-2/eu-2-a1.log", "eu-2/eu-2-a2.log", "old/ghost.log",
    ]  # fmt: skip


def test_files_that_were_written_since_they_were_looked_at_stay(world: World) -> None:
    """Somebody uses them."""
    orphan = world.find("old/ghost")
    (world.folder / "old" / "ghost.log").write_bytes(b"newer")
    with pytest.raises(VersionConflictError, match="written since"):
        world.logs.remove(orphan)
    assert "old/ghost.log" in world.names()


class ComingBack(InMemoryControlStore):
    """A store in which an agent is placed between the first and the second look of a removal."""

    def __init__(self, world: World) -> None:
        """Answer as the world's does at first."""
        super().__init__(ManualClock())
        self._world, self.looks = world, 0

    def agent(self, agent_id: str) -> Agent | None:
        """From the second look on it is back."""
        self.looks += 1
        if self.looks == 2:
            placed = {one.agent_id: one for one in self._world.store.placements()}[agent_id]
            self._world.store.place_agents([placed._replace(node_id="eu-1")])
        return self._world.store.agent(agent_id)


def test_an_agent_that_comes_back_while_its_files_are_set_aside_gets_them_back(
    world: World,
) -> None:
    """Under their names: its open file goes on being its log."""
    orphan, before = world.find("eu-1/eu-2-a1"), world.names()
    with pytest.raises(VersionConflictError, match="has come back"):
        AgentLogs(world.folder.parent, ComingBack(world)).remove(orphan)
    assert world.names() == before


def test_a_removal_that_was_cut_off_at_any_step_is_finished_by_the_next(world: World) -> None:
    """Set aside and not deleted, or deleted in part: what is left is found under the same name."""
    folder = world.folder / "eu-1"
    (folder / "eu-1-a1.log").rename(folder / "eu-1-a1.log.removed")
    orphan = world.find("eu-1/eu-1-a1")
    assert orphan.size_bytes == 10
    (folder / "eu-1-a1.log.1").unlink()
    orphan = world.find("eu-1/eu-1-a1")
    assert world.logs.remove(orphan) == 5
    assert not [name for name in world.names() if "eu-1-a1" in name]
