"""Vector stores in backups: one consistent cut by the pointer, restored to the same answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import CorruptObjectError, NotFoundError, StoreUnavailableError
from fleet.vectors.declaration import VectorDeclaration
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.artefacts.vectors import VectorsSource
from resources.vectors.restored_store import check_store
from tests.fakes.artefact_vault import ArtefactVault, outcome
from tests.resources.vectors.text_world import AT, NOTES, TextWorld, declaration_at


@pytest.fixture
def world(vault: ArtefactVault) -> TextWorld:
    """Two networks: one with an index of two generations, one with embeddings alone."""
    made = TextWorld(declaration_at(vault.root))
    made.remember("watch", NOTES[:2])
    made.build("watch")
    made.remember("watch", NOTES[2:])
    made.build("watch")
    made.remember("trade", ["Bought 30 shares at noon."])
    vault.declare("vectors", made.declaration.path, "vectors")
    return made


def _restored(vault: ArtefactVault, declaration: VectorDeclaration) -> TextWorld:
    """The newest copy as a store of its own."""
    folder = vault.restore("vectors")
    copies = str(folder.with_suffix(".copies"))
    return TextWorld(replace(declaration, path=str(folder), copies_path=copies))


def _search(world: TextWorld, network_id: str = "watch") -> Any:
    return world.indexes.searcher(network_id).search("the disk is slow", 3)


def test_a_restored_store_answers_the_same_and_goes_on_from_there(
    vault: ArtefactVault, world: TextWorld
) -> None:
    """Same notes, scores and generation; the next batch and the next index follow the restored."""
    expected = _search(world)
    result = vault.back_up()
    assert result.incomplete == ()
    found = outcome(result, "vectors")
    assert found.about == {"generations": {"watch": expected.generation}}
    restored = _restored(vault, world.declaration)
    assert _search(restored) == expected
    root = Path(restored.declaration.path)
    assert check_store(root, vault.root / "check") == {
        "networks": 2,
        "indexes": 1,
        "notes": 4,
        "batches": 2,
    }
    assert len(list(root.glob("indexes/watch/pointers/*"))) == 1
    restored.remember("watch", ["The disk is slow today."])
    assert restored.build("watch").number == 3
    assert _search(restored).hits[0].text == "The disk is slow today."
    restored.build("trade")
    assert _search(restored, "trade").hits[0].text == "Bought 30 shares at noon."


def test_what_has_not_changed_is_not_read_again_and_what_is_superseded_leaves(
    vault: ArtefactVault, world: TextWorld
) -> None:
    """An update costs its delta, its pointer and its batch."""
    vault.back_up()
    again = outcome(vault.back_up(), "vectors")
    assert (again.changed, again.removed, again.files_read) == (0, 0, 0)
    world.remember("watch", ["One more."])
    pointer = world.build("watch")
    update = outcome(vault.back_up(), "vectors")
    assert update.about["generations"] == {"watch": pointer.generation}
    assert update.error == ""
    assert 0 < update.files_read <= 6
    assert _search(_restored(vault, world.declaration)) == _search(world)


def test_joined_batches_come_back_and_what_they_replace_may_go_meanwhile(
    vault: ArtefactVault, world: TextWorld
) -> None:
    """The entry that joins them is part of the copy; so are later batches."""
    store, model = world.indexes.store, world.indexes.embedder("watch").model
    for number in range(4):
        world.remember("watch", [f"Little batch {number}."])
    world.build("watch")
    store.keep("watch", 1)
    assert store.compact("watch", model, AT, batches_min=2).runs
    world.remember("watch", ["After the joining."])
    world.build("watch")
    vault.back_up()
    assert store.remove_compacted("watch", model, lambda _: True) > 0
    assert outcome(vault.back_up(), "vectors").removed > 0
    restored = _restored(vault, world.declaration)
    assert _search(restored) == _search(world)
    copy = restored.indexes.store
    batches = copy.batches("watch", model)
    assert batches == store.batches("watch", model)
    assert sum(copy.read(one, model).num_rows for one in batches) == 9


def test_a_damaged_part_is_told_by_the_backup_and_its_last_good_copy_stays(
    vault: ArtefactVault, world: TextWorld
) -> None:
    """Who backs damage up in silence finds it in the hour of the restore."""
    good = _search(world)
    vault.back_up()
    world.remember("watch", ["The disk rots."])
    pointer = world.build("watch")
    world.damage(pointer)
    result = vault.back_up()
    assert [name for name, _ in result.incomplete] == ["vectors"]
    assert "differ from their SHA-256" in outcome(result, "vectors").error
    assert good.hits


class Publishing(DirectoryObjectStore):
    """A store in which something happens just before a part is read for the first time."""

    def __init__(self, root: Path) -> None:
        """Nothing happens yet."""
        super().__init__(root)
        self.happens: Any = None

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """As ever."""
        if ".faiss." in key and self.happens is not None:
            happens, self.happens = self.happens, None
            happens()
        return super().get(key, offset, length)


def _read_all(source: VectorsSource) -> dict[str, bytes]:
    """What a backup would store; files that vanish are left out, as it leaves them out."""
    found = {}
    for one in source.files():
        assert hasattr(one, "open")
        opened = one.open()
        try:
            body = b"".join(iter(lambda file=opened: file.read(1000), b""))
        except FileNotFoundError:
            continue
        assert opened.changed() == "" or one.content is not None
        found[one.path.decode()] = body
    return found


def test_publications_and_removals_during_a_backup_leave_a_whole_cut(
    vault: ArtefactVault, world: TextWorld
) -> None:
    """The generation that is being read is removed: the newer one is taken, with its batches."""
    root = Path(world.declaration.path)
    store = Publishing(root)

    def overtaken() -> None:
        for number in range(2):
            world.remember("watch", [f"Meanwhile {number}."])
            builder = world.indexes.builder("watch")
            model = world.indexes.embedder("watch").model
            builder.refresh("watch", model, 0, anew="meanwhile")
        world.indexes.store.keep("watch", 1)

    store.happens = overtaken
    source = VectorsSource(store, 0)
    found = _read_all(source)
    copy = vault.root / "cut"
    for name, body in found.items():
        path = copy / name
        if body:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
    moved = replace(world.declaration, path=str(copy), copies_path=str(vault.root / "c2"))
    assert _search(TextWorld(moved)) == _search(world)
    assert source.about()["generations"]["watch"] == _search(world).generation
    assert check_store(copy, vault.root / "check")["batches"] == 4


def test_a_batch_that_is_committed_during_a_backup_is_there_whole_or_not_at_all(
    vault: ArtefactVault, world: TextWorld
) -> None:
    """The log is listed before the data: no entry names data that are not there."""

    class Appending(DirectoryObjectStore):
        def list_objects(self, prefix: str, after: str = "") -> list[Any]:
            listed = super().list_objects(prefix, after)
            if prefix == "embeddings/":
                world.remember("watch", ["Just now."])
            return listed

    found = _read_all(VectorsSource(Appending(Path(world.declaration.path)), 0))
    logged = [name for name in found if "/log/" in name]
    data = {name.rpartition("/")[2] for name in found if "/data/" in name}
    for name in logged:
        sha256 = found[name].decode().partition('"sha256": "')[2][:64]
        assert f"{sha256}.parquet" in data
    assert len(logged) == 3


def test_a_store_that_is_not_there_is_told_and_a_damaged_copy_does_not_pass(
    vault: ArtefactVault, world: TextWorld
) -> None:
    """A missing folder is no empty store; each kind of damage fails the check of a restore."""
    vault.declare("vectors", vault.root / "nowhere", "vectors")
    with pytest.raises(StoreUnavailableError, match="nowhere does not exist"):
        vault.back_up()
    root = Path(world.declaration.path)
    batch = next(root.glob("embeddings/watch/*/data/*"))
    body = batch.read_bytes()
    batch.write_bytes(body[:-1])
    with pytest.raises(CorruptObjectError, match="differ from their SHA-256"):
        check_store(root, vault.root / "check")
    batch.write_bytes(body)
    next(root.glob("embeddings/watch/*/log/000000000001.json")).unlink()
    with pytest.raises(CorruptObjectError, match="batch 1 is missing"):
        check_store(root, vault.root / "check")
    for part in root.glob("indexes/watch/generations/*/index.faiss.*"):
        part.unlink()
    with pytest.raises((CorruptObjectError, NotFoundError)):
        check_store(root, vault.root / "check-again")
