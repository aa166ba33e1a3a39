"""A network in the reader process: what takes long is waited for by its age, and once."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fleet.errors import CorruptObjectError, StoreUnavailableError
from fleet.vectors.bm25 import Bm25Index
from resources.vectors import reader_process, reading
from resources.vectors.reader_process import LOOK_S, ServedNetwork
from tests.fakes.object_store import InMemoryObjectStore
from tests.resources.vectors.world import VectorWorld, note_ids

GIVE_UP_S = 10.0
"""A question that waits where it should not is answered after so long, which the tests see."""
PATIENT_S = 1000.0


class GatedStore(InMemoryObjectStore):
    """Parts of indexes are read only while the gate is open; every reading is counted."""

    def __init__(self) -> None:
        """The gate is open."""
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.parts_read = 0

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """As ever, behind the gate."""
        if key.rpartition(".")[2].isdecimal():
            self.parts_read += 1
            self.gate.wait(GIVE_UP_S)
        return super().get(key, offset, length)


class Served:
    """One network that is served, its clock, and who builds for it elsewhere."""

    def __init__(self, folder: Path, beside: ThreadPoolExecutor) -> None:
        """A first generation is published; nothing is opened."""
        self.objects = GatedStore()
        for name in ("builder", "reader"):
            (folder / name).mkdir()
        self.builder = VectorWorld(folder / "builder", self.objects)
        self.first = self.publish(range(300))
        self.now_s = 100.0
        searcher = VectorWorld(folder / "reader", self.objects).searcher()
        self.network = ServedNetwork(searcher, beside, lambda: self.now_s)

    def publish(self, numbers: range) -> str:
        """Another generation, with these notes besides; its name."""
        self.builder.write(numbers)
        manifest = self.builder.refresh().manifest
        assert manifest is not None
        return manifest.generation

    def ask(self, opening_s: float = PATIENT_S) -> str:
        """One question; the generation that has answered it."""
        self.network.keep_current(opening_s)
        answer = self.network.searcher.search("note-7", 1)
        assert note_ids(answer) == ["note-7"]
        return answer.generation


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """With threads that are ended."""
    with ThreadPoolExecutor(2) as beside:
        made = Served(tmp_path, beside)
        yield made
        made.objects.gate.set()


def test_questions_wait_for_a_first_generation_by_its_age_and_not_each_anew(
    served: Served,
) -> None:
    """Each would hold up the questions about all other networks as long as the first did."""
    served.objects.gate.clear()
    with pytest.raises(StoreUnavailableError, match="still being fetched"):
        served.ask(opening_s=0.01)
    served.now_s += 50
    with pytest.raises(StoreUnavailableError, match="still being fetched"):
        served.ask(opening_s=40)
    served.objects.gate.set()
    assert served.ask() == served.first


def test_a_newer_generation_that_takes_long_to_fetch_slows_one_question_and_not_all(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one in service answers meanwhile."""
    assert served.ask() == served.first
    second = served.publish(range(300, 310))
    served.objects.gate.clear()
    served.now_s += LOOK_S
    monkeypatch.setattr(reader_process, "_NEWER_S", 0.01)
    assert served.ask() == served.first
    served.now_s += 50
    monkeypatch.setattr(reader_process, "_NEWER_S", 40.0)
    assert served.ask() == served.first
    served.objects.gate.set()
    monkeypatch.setattr(reader_process, "_NEWER_S", PATIENT_S)
    assert served.ask() == second


def test_a_damaged_first_generation_is_not_fetched_for_every_question(served: Served) -> None:
    """It is told until the next look; a repaired one is then taken."""
    key = next(key for key in served.objects.objects if "index.faiss" in key)
    whole = served.objects.objects[key]
    served.objects.objects[key] = whole[:-1]
    for _ in range(3):
        with pytest.raises(CorruptObjectError, match=r"index\.faiss"):
            served.ask()
    read = served.objects.parts_read
    served.now_s += LOOK_S
    with pytest.raises(CorruptObjectError, match=r"index\.faiss"):
        served.ask()
    assert served.objects.parts_read == 2 * read
    served.objects.objects[key] = whole
    served.now_s += LOOK_S
    assert served.ask() == served.first


def test_words_are_read_beside_the_questions_once_for_a_generation(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100,000 notes take longer than a question may, which would end a reader each time."""
    gate, built = threading.Event(), []

    class Gated(Bm25Index):
        def __init__(self, texts: Iterable[str]) -> None:
            gate.wait(GIVE_UP_S)
            super().__init__(texts)
            built.append(self)

    monkeypatch.setattr(reading, "Bm25Index", Gated)
    served.ask()
    with pytest.raises(StoreUnavailableError, match="still being read"):
        served.network.keep_words(0.01)
    served.now_s += 50
    with pytest.raises(StoreUnavailableError, match="still being read"):
        served.network.keep_words(40)
    gate.set()
    served.network.keep_words(PATIENT_S)
    served.network.keep_words(PATIENT_S)
    assert served.network.searcher.search("note-7", 1, hybrid=True).method == "exact + bm25"
    assert len(built) == 1
    served.publish(range(300, 310))
    served.now_s += LOOK_S
    served.ask()
    assert not served.network.searcher.has_words
    served.network.keep_words(PATIENT_S)
    assert served.network.searcher.has_words
