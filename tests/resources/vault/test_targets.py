"""Old states beside the live ones: in a folder, or under other ids in another network."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from threading import Barrier, current_thread, get_ident, main_thread
from threading import enumerate as enumerate_threads

import pytest

from fleet.agents import Placement
from fleet.errors import CorruptObjectError, InvalidInputError, NotFoundError, PermanentError
from fleet.reports import AgentDeclaration
from resources.synced_files import FileSystemFlush, write_new
from resources.vault.restores.restore import restore
from resources.vault.restores.targets import (
    DirectoryTarget,
    RenamedTarget,
    prefixed,
    restore_into_directory,
)
from tests.fakes.journaled_fleet import JournaledFleet
from tests.fakes.vault_fleet import AT
from tests.resources.vault.test_journal import segments, step


@pytest.fixture
def fleet() -> JournaledFleet:
    """Three agents, a snapshot, a journal."""
    fleet = JournaledFleet(3)
    fleet.snapshot()
    step(fleet)
    step(fleet, "agent-0001")
    return fleet


def test_a_folder_holds_one_file_an_agent_and_what_they_are(
    tmp_path: Path, fleet: JournaledFleet
) -> None:
    """As they were at the moment; nothing else is left beside it, and no hold either."""
    at = fleet.covered[0]
    folder = tmp_path / "old"
    result = restore_into_directory(fleet.opened(), folder, at=at)
    assert result.restored == 3
    expected = fleet.expected_at(at)
    assert {one.name: one.read_bytes() for one in folder.glob("*.state")} == {
        f"{agent_id}.state": one.body for agent_id, one in expected.items()
    }
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["moment"] == at.isoformat()
    assert [(one["agent_id"], one["version"]) for one in manifest["agents"]] == [
        (agent_id, one.version) for agent_id, one in sorted(expected.items())
    ]
    assert list(tmp_path.iterdir()) == [folder]
    assert fleet.bodies() == {k: v.body for k, v in fleet.expected_at(None).items()}


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path, fleet: JournaledFleet) -> None:
    """On a fault nothing is left; an existing folder is never touched."""
    folder = tmp_path / "old"
    for one in fleet.objects.list_objects("packs/"):
        fleet.objects.delete([one.key])
    with pytest.raises(CorruptObjectError, match="cannot be restored"):
        restore_into_directory(fleet.opened(), folder)
    assert list(tmp_path.iterdir()) == []
    folder.mkdir()
    (folder / "mine").write_text("x")
    with pytest.raises(InvalidInputError, match="does not exist yet"):
        restore_into_directory(fleet.opened(), folder)
    assert (folder / "mine").read_text() == "x"
    with pytest.raises(PermanentError, match="Not a directory"):
        DirectoryTarget(folder / "mine" / "below")


def test_a_folder_that_met_damage_begins_anew_and_holds_one_version_of_each(
    tmp_path: Path, fleet: JournaledFleet
) -> None:
    """What the first pass wrote beside the damaged state is gone; the older version is told."""
    step(fleet, "agent-0001", "agent-0002")
    key = segments(fleet.objects)[-1]
    (listed,) = [one for one in fleet.opened().journal.refresh() if one.key == key]
    data = bytearray(fleet.objects.get(key))
    data[fleet.opened().journal.read(listed).frames[0].offset + 3] ^= 1
    fleet.objects.replace(key, bytes(data))
    fleet.reader = None
    with pytest.raises(CorruptObjectError, match="1 agents cannot be restored: agent-0001"):
        restore_into_directory(fleet.opened(), tmp_path / "old")
    assert list(tmp_path.iterdir()) == []
    done = restore_into_directory(fleet.opened(), tmp_path / "old", best_effort=True)
    assert (done.restored, [one.agent_id for one in done.substitutions]) == (3, ["agent-0001"])
    listed_agents = json.loads((tmp_path / "old" / "manifest.json").read_text())["agents"]
    versions = {one["agent_id"]: one["version"] for one in listed_agents}
    live = {one.agent_id: one.version for one in fleet.expected_at(None).values()}
    assert versions == live | {"agent-0001": live["agent-0001"] - 1}
    assert len(list((tmp_path / "old").glob("*.state"))) == 3


def test_until_its_commit_a_folder_is_not_there(tmp_path: Path, fleet: JournaledFleet) -> None:
    """Killed in between, only the hidden partial folder is left."""
    target = DirectoryTarget(tmp_path / "old")
    restore(fleet.opened(), target)
    assert not (tmp_path / "old").exists()
    assert all(one.name.startswith(".old.partial-") for one in tmp_path.iterdir())
    again = restore_into_directory(fleet.opened(), tmp_path / "old")
    assert again.restored == 3


@pytest.mark.parametrize("has_flush", [True, False])
def test_a_large_folder_is_made_durable_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_flush: bool
) -> None:
    """By one flush, or where the system has none file by file; a failed flush leaves nothing."""
    fleet = JournaledFleet(120)
    fleet.snapshot()
    synced: list[str] = []
    folder = tmp_path / "old"

    def note(path: Path) -> None:
        assert not folder.exists()
        assert len(list(path.parent.glob("*.state"))) == 120
        synced.append(path.name)

    monkeypatch.setattr("resources.vault.restores.targets.sync_file", note)
    if not has_flush:
        monkeypatch.setattr(FileSystemFlush, "flush", lambda _: False)
    assert restore_into_directory(fleet.opened(), folder).restored == 120
    assert len(synced) == (0 if has_flush else 121)
    assert {one.stem: one.read_bytes() for one in folder.glob("*.state")} == fleet.bodies()
    listed = json.loads((folder / "manifest.json").read_text())["agents"]
    assert [one["agent_id"] for one in listed] == fleet.agent_ids

    def fail(_: FileSystemFlush) -> bool:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(FileSystemFlush, "flush", fail)
    with pytest.raises(PermanentError, match="Input/output error"):
        restore_into_directory(fleet.opened(), tmp_path / "bad")
    assert list(tmp_path.iterdir()) == [folder]


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many packs and ranges of few states, states in pieces, four threads on any machine."""
    monkeypatch.setattr("resources.vault.packs.packing.PACK_TARGET_BYTES", 2_000)
    monkeypatch.setattr("resources.vault.packs.packing.CHUNK_BYTES", 300)
    monkeypatch.setattr("resources.vault.packs.ranges._RANGE_BYTES", 400)
    monkeypatch.setattr("os.cpu_count", lambda: 4)


@pytest.mark.usefixtures("small_ranges")
def test_each_thread_writes_what_it_has_proven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several threads take part; every state is there once and whole, those in pieces too."""
    fleet = JournaledFleet(80)
    fleet.snapshot()
    assert any(len(body) > 300 for body in fleet.bodies().values())
    writers: set[int] = set()
    together = Barrier(2, timeout=30)

    def note(path: str, data: bytes, *, folder: int | None = None) -> None:
        if current_thread() is not main_thread() and get_ident() not in writers:
            writers.add(get_ident())
            if len(writers) <= 2:
                together.wait()
        write_new(path, data, folder=folder)

    monkeypatch.setattr("resources.vault.restores.targets.write_new", note)
    result = restore_into_directory(fleet.opened(), tmp_path / "old")
    assert len(writers) >= 2
    bodies = fleet.bodies()
    assert {one.stem: one.read_bytes() for one in (tmp_path / "old").glob("*.state")} == bodies
    assert (result.restored, result.bytes_logical) == (80, sum(map(len, bodies.values())))
    listed = json.loads((tmp_path / "old" / "manifest.json").read_text())["agents"]
    assert [(one["agent_id"], one["file"], one["size_bytes"], one["sha256"]) for one in listed] == [
        (agent_id, f"{agent_id}.state", len(body), hashlib.sha256(body).hexdigest())
        for agent_id, body in sorted(bodies.items())
    ]


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("fault", ["full", "damaged"])
def test_a_fault_in_any_thread_ends_them_all_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """A disk that is full at some file; a bit turned over in some pack."""
    fleet = JournaledFleet(80)
    fleet.snapshot()
    written: list[str] = []

    def fill_up(path: str, data: bytes, *, folder: int | None = None) -> None:
        if len(written) == 50:
            raise OSError(28, "No space left on device")
        written.append(path)
        write_new(path, data, folder=folder)

    if fault == "full":
        monkeypatch.setattr("resources.vault.restores.targets.write_new", fill_up)
        expected, match = PermanentError, "No space left on device"
    else:
        pack = fleet.objects.list_objects("packs/")[2].key
        data = bytearray(fleet.objects.get(pack))
        data[len(data) // 2] ^= 1
        fleet.objects.replace(pack, bytes(data))
        expected, match = CorruptObjectError, "cannot be restored"
    with pytest.raises(expected, match=match):
        restore_into_directory(fleet.opened(), tmp_path / "old")
    assert list(tmp_path.iterdir()) == []
    assert not [one for one in enumerate_threads() if one.name.startswith("vault-read")]


def test_agents_come_back_under_other_ids_in_another_network(fleet: JournaledFleet) -> None:
    """Declared and placed there before; the live ones stay as they are."""
    live = fleet.bodies()
    at = fleet.covered[0]
    target = RenamedTarget(fleet.store, "staging", prefixed("staging-"))
    with pytest.raises(NotFoundError, match="staging has no placed agent staging-agent-0000"):
        restore(fleet.opened(), target, at=at)
    ids = [f"staging-{one}" for one in fleet.agent_ids]
    fleet.store.declare_agents([AgentDeclaration(one, "staging", "w", "eu", 1, 1) for one in ids])
    fleet.store.place_agents(
        [Placement(one, "staging", "w", "n", "eu", 0, 1, "running", "", AT) for one in ids]
    )
    result = restore(fleet.opened(), target, at=at)
    assert (result.restored, result.refused) == (3, ())
    expected = fleet.expected_at(at)
    assert {one.agent_id: one.body for one in fleet.store.states(ids)} == {
        f"staging-{agent_id}": one.body for agent_id, one in expected.items()
    }
    assert fleet.bodies() == live
    assert restore(fleet.opened(), target, at=at).unchanged == 3


@pytest.mark.parametrize("new_id", ["same", "../evil", ""])
def test_ids_that_meet_or_are_no_names_are_refused(fleet: JournaledFleet, new_id: str) -> None:
    """Before anything is written."""
    target = RenamedTarget(fleet.store, "staging", lambda _: new_id)
    with pytest.raises(InvalidInputError, match="rename"):
        restore(fleet.opened(), target)
