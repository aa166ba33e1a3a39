"""Batches of embeddings that are joined and removed, beside those who read and write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.errors import (
    VersionConflictError,
)
from resources.vectors.index_store import ObjectVectorStore
from resources.vectors.network_embeddings import read_embeddings
from tests.contracts.vector_scene import (
    Scene,
    seen,
)
from tests.fakes.object_store import InMemoryObjectStore
from tests.resources.vectors.world import AT, MODEL, NETWORK, rows_of


def test_a_writer_that_slept_through_a_compaction_and_its_retention_is_told(
    tmp_path: Path,
) -> None:
    """Its entry takes a number that was joined and removed: it does not count, and it hears so."""
    objects = InMemoryObjectStore()
    Scene(objects, tmp_path).fill()

    class Slow(InMemoryObjectStore):
        """Sleeps before the entry of the log is created."""

        def create(self, key: str, data: bytes) -> bool:
            """Create, long after somebody else has joined and removed."""
            if "/log/" in key:
                other = Scene(objects, tmp_path)
                for number in range(2, 8):
                    other.store.append(NETWORK, MODEL, rows_of([number]), AT, expected=number)
                other.publish("g1", 8)
                other.store.compact(NETWORK, MODEL, AT, batches_min=2)
                other.clean()
            return super().create(key, data)

    few = InMemoryObjectStore()
    objects.objects, objects.modified = few.objects, few.modified
    early = Scene(objects, tmp_path)
    for number in range(2):
        early.store.append(NETWORK, MODEL, rows_of([number]), AT, expected=number)
    slow = Slow()
    slow.objects, slow.modified = objects.objects, objects.modified
    late = ObjectVectorStore(slow, tmp_path / "copies")
    with pytest.raises(VersionConflictError, match="up to 8 were joined"):
        late.append(NETWORK, MODEL, rows_of([99]), AT, expected=2)
    scene = Scene(objects, tmp_path)
    assert "note-99" not in seen(scene).notes
    assert seen(scene).last == 8
    scene.clean()
    assert not [one for one in scene.stored() if "/log/" in one]


def test_deletions_are_dropped_only_where_no_earlier_batch_could_have_the_note(
    tmp_path: Path,
) -> None:
    """From the first batch on they go; later ones stay, since an older row would come back."""
    scene = Scene(InMemoryObjectStore(), tmp_path)
    store = scene.store
    store.append(NETWORK, MODEL, rows_of(range(40)), AT, expected=0)
    for number in range(1, 6):
        store.append(NETWORK, MODEL, rows_of([number], deleted=True), AT, expected=number)
    scene.publish("g1", 6)
    store.compact(NETWORK, MODEL, AT, batches_min=2)
    tail = store.batches(NETWORK, MODEL)
    assert [(one.first_sequence, one.sequence, one.rows) for one in tail] == [(1, 1, 40), (2, 6, 5)]
    store.append(NETWORK, MODEL, rows_of(range(40, 80)), AT, expected=6)
    scene.publish("g2", 7)
    store.keep(NETWORK, 1)
    store.compact(NETWORK, MODEL, AT, batches_min=2)
    (whole,) = store.batches(NETWORK, MODEL)
    assert (whole.first_sequence, whole.sequence, whole.rows) == (1, 7, 75)
    assert read_embeddings(store, [whole], MODEL).table.num_rows == 75
    scene.clean()
    assert len([one for one in scene.stored() if one.startswith("embeddings/")]) == 2


def test_what_was_joined_behind_a_new_run_stays_in_the_log_of_compactions(tmp_path: Path) -> None:
    """Its entries are gone, so only the last compaction names it."""
    scene = Scene(InMemoryObjectStore(), tmp_path)
    store, first = scene.store, 0
    for number, count in enumerate((2, 3, 12, 12, 12, 12, 3, 3, 3)):
        store.append(NETWORK, MODEL, rows_of(range(first, first + count)), AT, expected=number)
        first += count
    for generation, sequence in (("g1", 2), ("g2", 6), ("g3", 9)):
        scene.publish(generation, sequence)
    assert len(store.compact(NETWORK, MODEL, AT, batches_min=2).runs) == 3
    scene.clean()
    store.keep(NETWORK, 1)
    assert store.compact(NETWORK, MODEL, AT, batches_min=2).runs == ((1, 6),)
    scene.clean()
    spans = [(one.first_sequence, one.sequence) for one in store.batches(NETWORK, MODEL)]
    assert spans == [(1, 6), (7, 9)]
    assert len(seen(scene).notes) == first


def test_a_remover_never_takes_what_is_being_appended(tmp_path: Path) -> None:
    """An old unnamed object with the same rows: removed at the worst moment, it comes back."""
    objects = InMemoryObjectStore()
    scene = Scene(objects, tmp_path)

    class Raced(InMemoryObjectStore):
        """Somebody removes unnamed data between the data and the entry of an append."""

        def create(self, key: str, data: bytes) -> bool:
            """Create, and let the remover come before the entry."""
            if "/log/" in key:
                scene.store.remove_compacted(NETWORK, MODEL, lambda _: True)
            return super().create(key, data)

    raced = Raced()
    raced.objects, raced.modified = objects.objects, objects.modified
    scene.store.append(NETWORK, MODEL, rows_of([1]), AT, expected=0)
    (entry,) = [key for key in objects.objects if "/log/" in key]
    del objects.objects[entry]
    again = ObjectVectorStore(raced, tmp_path / "copies")
    later = datetime.now(UTC) + timedelta(days=1)
    batch = again.append(NETWORK, MODEL, rows_of([1]), later, expected=0)
    assert again.read(batch, MODEL).num_rows == 1
