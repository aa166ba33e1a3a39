"""How a node's reader keeps its indexes current: beside the questions, not in their way."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import StoreUnavailableError
from resources.vectors import reader_process
from resources.vectors.reader_process import ServedNetwork
from tests.fakes.object_store import InMemoryObjectStore
from tests.resources.vectors.world import VectorWorld

OPENING_S = 7.0


class SlowStore(InMemoryObjectStore):
    """Index files come when they may; the thread that waits for them is noted."""

    def __init__(self) -> None:
        """Everything comes at once."""
        super().__init__()
        self.may_come = threading.Event()
        self.may_come.set()
        self.failures: list[Exception] = []
        self.fetched_by: set[str] = set()

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """See the port."""
        if "/index.faiss." in key:
            self.fetched_by.add(threading.current_thread().name.rpartition("_")[0])
            assert self.may_come.wait(20)
            if self.failures:
                raise self.failures.pop()
        return super().get(key, offset, length)


@pytest.fixture
def looks() -> Iterator[ThreadPoolExecutor]:
    """Threads of looks."""
    with ThreadPoolExecutor(1, thread_name_prefix="look") as pool:
        yield pool


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long each question would have waited; none of them really does."""
    asked: list[float] = []

    def at_once(looks: Any, timeout: float) -> Any:
        asked.append(timeout)
        return futures.wait(looks, 0.0)

    monkeypatch.setattr(reader_process, "wait", at_once)
    return asked


def until_it_serves(served: ServedNetwork, other_than: str | None, patience: list[float]) -> None:
    """Ask again and again, as agents do, until another generation is there and no look is open."""
    give_up_s = time.monotonic() + 60.0
    is_open = True
    while served.searcher.generation == other_than or is_open:
        assert time.monotonic() < give_up_s
        patience.clear()
        with suppress(StoreUnavailableError):
            served.keep_current(OPENING_S)
        is_open = bool(patience)
        time.sleep(0.005)  # the look goes on in its own thread


def test_one_question_waits_for_an_index_that_is_being_fetched_and_no_other(
    tmp_path: Path,
    looks: ThreadPoolExecutor,
    patience: list[float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reader answers one after the other: each that waits holds up all other networks.

    Without an index in service the others are told at once, with one they are answered from it.
    """
    objects = SlowStore()
    world = VectorWorld(tmp_path, objects)
    world.write(range(20))
    world.refresh()
    served = ServedNetwork(world.searcher(), looks)
    objects.may_come.clear()
    for _ in range(3):
        with pytest.raises(StoreUnavailableError, match="still being fetched"):
            served.keep_current(OPENING_S)
    assert patience == [OPENING_S, 0.0, 0.0]
    objects.may_come.set()
    until_it_serves(served, None, patience)
    world.write(range(20, 40))
    world.builder().refresh("host-watch", world.searcher()._embedder.model, anew="whole files")
    first = served.searcher.generation
    objects.may_come.clear()
    with monkeypatch.context() as hurried:
        hurried.setattr(reader_process, "LOOK_S", 0.0)
        served.keep_current(OPENING_S)
    for _ in range(3):
        served.keep_current(OPENING_S)
    assert patience == [0.5, 0.0, 0.0, 0.0]
    assert served.searcher.search("note-7", 3).candidates == 20
    objects.may_come.set()
    until_it_serves(served, first, patience)
    assert served.searcher.search("note-7", 3).candidates == 40


def test_a_fetch_that_failed_is_tried_again_beside_the_questions(
    tmp_path: Path, looks: ThreadPoolExecutor, patience: list[float]
) -> None:
    """Not in the next question, which would hold up all others until its end."""
    objects = SlowStore()
    world = VectorWorld(tmp_path, objects)
    world.write(range(20))
    world.refresh()
    served = ServedNetwork(world.searcher(), looks)
    objects.failures = [StoreUnavailableError("the bucket is away")]
    until_it_serves(served, None, patience)
    assert served.searcher.search("note-7", 3).candidates == 20
    assert not objects.failures
    assert objects.fetched_by == {"look"}
