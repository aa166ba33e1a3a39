"""Damage of what names the files of an index: told of its network, and in nobody else's way."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from fleet.agents import Note
from fleet.errors import CorruptObjectError
from fleet.vectors.declaration import NetworkVectors, VectorDeclaration
from fleet.vectors.standing import RefreshResult
from ops.embeddings import EmbeddingPorts, embed_notes
from ops.vector_health import ask_anew, judge_ids, judge_sizes, remove_old, scrub_networks
from ops.vector_index import IndexPorts, Refreshed, refresh_index
from resources.vectors.network_indexes import NetworkIndexes
from tests.fakes.clock import ManualClock
from tests.fakes.control_store import InMemoryControlStore

NETWORKS = ("damaged", "sound")


class Indexed:
    """Two networks with three published generations each."""

    def __init__(self, folder: Path) -> None:
        """Note, embed, build and publish three times."""
        self.clock = ManualClock()
        self.store = InMemoryControlStore(self.clock)
        self.folder = folder / "vectors"
        declaration = VectorDeclaration(
            path=str(self.folder),
            copies_path=str(folder / "copies"),
            networks=tuple(NetworkVectors(network_id=one, gpu="off") for one in NETWORKS),
        )
        self.indexes = NetworkIndexes(declaration, self.clock, threads=1)
        for number in range(3):
            self.clock.advance(1)
            for network_id in NETWORKS:
                self.note(network_id, number)
                self.build(network_id)

    def note(self, network_id: str, number: int) -> None:
        """An agent remembers something."""
        at = self.clock.now() + timedelta(seconds=number)
        note = Note(f"{network_id}-{number}", "agent", network_id, at, f"disk {number} was busy")
        self.store.append_notes([note])

    def build(self, network_id: str) -> Refreshed:
        """As a run does, without the lease."""
        declared = self.indexes.declaration.network(network_id)
        embedder, store = self.indexes.embedder(network_id), self.indexes.store
        embed_notes(EmbeddingPorts(self.store, store, embedder, self.clock), network_id, lambda: 0)
        ports = IndexPorts(
            self.store,
            store,
            self.indexes.builder(network_id),
            embedder.model,
            declared.embedder_id,
            declared.policy,
            self.clock,
        )
        return refresh_index(ports, network_id, lambda: 0)

    def path(self, kind: str, place: int) -> Path:
        """One of the pointers or manifests of the network that is damaged, oldest first."""
        pattern = {"pointer": "pointers/*.json", "manifest": "generations/*/manifest.json"}[kind]
        return sorted((self.folder / "indexes" / NETWORKS[0]).glob(pattern))[place]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Indexed:
    """Whole; who damages it restores it."""
    return Indexed(tmp_path_factory.mktemp("indexed"))


@pytest.mark.parametrize("kind", ["pointer", "manifest"])
@pytest.mark.parametrize("place", [0, -1], ids=["oldest", "newest"])
def test_damage_of_what_names_the_files_is_told_and_keeps_nobody_else_waiting(
    world: Indexed, kind: str, place: int
) -> None:
    """Scrub, checks and upkeep go on with what can be read; nothing is removed in the dark."""
    path = world.path(kind, place)
    whole = path.read_bytes()
    path.chmod(0o600)
    path.write_bytes(b"{")
    try:
        found = scrub_networks(world.store, world.indexes, world.clock, NETWORKS)
        assert found["sound"].damaged == 0
        assert (found["sound"].generations, found["damaged"].generations) == (3, 3)
        assert found["damaged"].damaged == 1
        assert path.name in found["damaged"].damages[0]
        assert world.store.index_standing("damaged").scrub == found["damaged"]
        ids = judge_ids(world.store, world.indexes)
        assert [one.subject for one in ids.offenders] == (["damaged"] if place else [])
        assert judge_sizes(world.indexes).passed
        assert ask_anew(world.store, world.indexes) == []
        before = sorted(world.folder.rglob("*"))
        removed = remove_old(world.store, world.indexes, world.clock)
        unknown = ["damaged"] if kind == "pointer" else []
        assert [one.partition(":")[0] for one in removed.damaged] == unknown
        assert removed.busy == ()
        assert sorted(world.folder.rglob("*")) == before
    finally:
        path.write_bytes(whole)


def test_a_refresh_goes_on_behind_a_damaged_pointer_and_behind_a_removed_one(
    tmp_path: Path,
) -> None:
    """An old one keeps generations from being removed; the newest is removed by a person."""
    world = Indexed(tmp_path)
    path = world.path("pointer", 0)
    path.chmod(0o600)
    path.write_bytes(b"{")
    world.note("damaged", 3)
    refreshed = world.build("damaged")
    assert (refreshed.removed, refreshed.standing.result) == ((), RefreshResult.PUBLISHED)
    assert path.name in refreshed.unknown
    path.unlink()
    newest = world.path("pointer", -1)
    newest.chmod(0o600)
    newest.write_bytes(b"{")
    world.note("damaged", 4)
    with pytest.raises(CorruptObjectError, match=newest.name) as caught:
        world.build("damaged")
    assert "remove this object" in caught.value.hint
    newest.unlink()
    repaired = world.build("damaged")
    assert repaired.manifest is not None
    assert (repaired.manifest.live, repaired.unknown) == (5, "")
    assert judge_ids(world.store, world.indexes).passed
