"""Memory through the supervisor: vectors go in with notes, searches come back, no agent ends."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    NotFoundError,
    PermanentError,
    StoreUnavailableError,
)
from fleet.vectors.declaration import NetworkVectors, VectorDeclaration
from fleet.vectors.records import EmbeddingModel
from resources.local.agent_api import AgentMemory
from stateroom_agent import agent as agent_module
from stateroom_agent.agent import Agent
from stateroom_agent.errors import FencedError, RefusedError
from tests.fakes.agent_server import AgentServer

DECLARED = VectorDeclaration(
    networks=(
        NetworkVectors(
            network_id="net-1", embedder="given", given=EmbeddingModel("three", "given", 3)
        ),
        NetworkVectors(network_id="net-2"),
    )
)
FOUND = {
    "hits": [
        {
            "note_id": "n1",
            "agent_id": "agent-2",
            "region": None,
            "created_at": "2026-11-21T12:00:00+00:00",
            "text": "Die Platte war voll.",
            "score": 0.75,
            "colour": "a member of a later version",
        }
    ],
    "generation": "g1",
    "method": "exact",
    "candidates": 7,
    "built_at": "2026-11-21T12:00:00+00:00",
    "newest_note_at": None,
    "recall": None,
    "warning": "",
    "later": True,
}


class RecordingSearcher:
    """A `NoteSearcher` that keeps what it was asked, and answers as it is told to."""

    def __init__(self) -> None:
        """Answer with one note."""
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        self.error: Exception | None = None
        self.may_answer = threading.Event()
        self.may_answer.set()

    async def ask(self, network_id: str, question: Mapping[str, Any]) -> dict[str, Any]:
        """See `NoteSearcher.ask`."""
        import asyncio

        self.asked.append((network_id, question))
        await asyncio.to_thread(self.may_answer.wait)
        if self.error is not None:
            raise self.error
        return FOUND


@contextmanager
def _served(memory: AgentMemory, *, offers_search: bool = True) -> Iterator[tuple[Any, Agent]]:
    with TemporaryDirectory(prefix="sr-") as folder:
        server = AgentServer(Path(folder) / "s")
        server.memory, server.offers_search = memory, offers_search
        server.start()
        server.admit()
        agent = Agent("agent-1", "net-1", 1, str(server.socket_path), give_up_s=20.0)
        try:
            yield server, agent
        finally:
            agent.close()
            server.stop()


def test_a_search_asks_the_agents_own_network_and_hands_the_notes_over() -> None:
    """What the agent says of its network counts nothing; unknown members are passed over."""
    searcher = RecordingSearcher()
    with _served(AgentMemory(searcher)) as (_, agent):
        agent.network_id = "net-2"
        answer = agent.search("voll?", 3, "region is null", hybrid=True)
        assert answer.reason == ""
        (hit,) = answer.hits
        assert (hit.text, hit.agent_id, hit.score) == ("Die Platte war voll.", "agent-2", 0.75)
        assert (answer.generation, answer.candidates) == ("g1", 7)
        agent.search("x", vector=[1, 2.5], model="m")
    first, second = searcher.asked
    question = {"text": "voll?", "k": 3, "where": "region is null", "hybrid": True}
    assert first == ("net-1", question)
    assert second[0] == "net-1"
    assert second[1]["vector"] == {"model": "m", "values": (1.0, 2.5)}


def test_a_heartbeat_does_not_wait_for_a_search() -> None:
    """The search has a connection of its own."""
    searcher = RecordingSearcher()
    searcher.may_answer.clear()
    with _served(AgentMemory(searcher)) as (_, agent):
        answers: list[Any] = []
        thread = threading.Thread(target=lambda: answers.append(agent.search("x")))
        thread.start()
        try:
            assert agent.heartbeat() is False
            assert not answers
        finally:
            searcher.may_answer.set()
            thread.join()
        assert len(answers[0].hits) == 1


def test_whatever_keeps_a_search_from_being_done_is_told_and_ends_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No index, damage, no store, a reader that is not there, an old supervisor."""
    monkeypatch.setattr(agent_module, "SEARCH_PATIENCE_S", 0.5)
    searcher = RecordingSearcher()
    with _served(AgentMemory(searcher)) as (_, agent):
        for error, reason in [
            (NotFoundError("network net-1 has no vector index"), "no vector index"),
            (CorruptObjectError("index net-1/g is damaged"), "is damaged"),
            (StoreUnavailableError("the reader of this node ended twice"), "ended twice"),
        ]:
            searcher.error = error
            answer = agent.search("x")
            assert reason in answer.reason
            assert answer.hits == ()
        searcher.error = None
        assert agent.search("x").reason == ""
    with _served(AgentMemory()) as (_, agent):
        assert "without a vector store" in agent.search("x").reason
    with _served(AgentMemory(searcher), offers_search=False) as (_, agent):
        assert "Not Found" in agent.search("x").reason
        agent.note("An old supervisor takes notes as ever.")


def test_a_wrong_question_is_refused_with_the_field_and_a_fenced_copy_must_stop() -> None:
    """These alone are raised."""
    searcher = RecordingSearcher()
    with _served(AgentMemory(searcher)) as (server, agent):
        for words, options, field in [
            ("", {}, "text: '0 characters'"),
            ("x", {"k": 101}, "k: 101"),
            ("x", {"where": "region ~ 'a'"}, "not understood at character 8"),
            ("x", {"vector": [float("nan")], "model": "m"}, r"vector\[0\]: nan"),
            ("x", {"vector": [1, "two"], "model": "m"}, r"vector\[1\]: 'two' is no"),
            ("x", {"vector": [None], "model": "m"}, r"vector\[0\]: None is no"),
            ("x", {"vector": [0, 0], "model": "m"}, "not zero"),
            ("x", {"where": "a" * 9000}, "where: '9000 characters' is not valid"),
            ("x", {"vector": [1]}, "model: missing"),
            ("x", {"model": "m"}, "given without a vector"),
        ]:
            with pytest.raises(RefusedError, match=field):
                agent.search(words, **options)
        assert searcher.asked == []
        searcher.error = InvalidInputError("vector", "2 x m", "3 x three")
        with pytest.raises(RefusedError, match="3 x three"):
            agent.search("x", vector=[1, 2], model="m")
        searcher.error = PermanentError("the search failed: KeyError")
        with pytest.raises(RefusedError, match="KeyError"):
            agent.search("x")
        server.admit(epoch=2)
        with pytest.raises(FencedError):
            agent.search("x")


def test_vectors_of_notes_are_stored_or_refused_never_dropped() -> None:
    """A network takes those of its declared model and width; another network takes none."""
    with _served(AgentMemory(None, DECLARED)) as (server, agent):
        agent.note("one", vector=[0.5, -1, 2], model="three")
        agent.note("none")
        stored = {note.text: note.vector for note in server.store.notes("net-1", "", 9)}
        assert stored["none"] is None
        assert stored["one"].model == "three"
        assert struct.unpack("<3f", stored["one"].values) == (0.5, -1.0, 2.0)
        for vector, model, field in [
            ([1, 2, 3], "other", "notes.0..vector.model: 'other' is not valid; allowed: three"),
            ([1, 2], "three", "notes.0..vector.values: '2 numbers'"),
            ([1e39, 0, 0], "three", "notes.0..vector.values.0.: 1e.39"),
            ([0, 0, 0], "three", "not zero"),
            ([1, 2, float("inf")], "three", r"vector\[2\]: inf"),
        ]:
            with pytest.raises(RefusedError, match=field):
                agent.note("wrong", vector=vector, model=model)
        server.directory.forget("agent-1")
        server.directory.admit("agent-1", "net-2", server_workload(), 1)
        with pytest.raises(RefusedError, match="computed by the platform") as caught:
            agent.note("wrong", vector=[1, 2, 3], model="three")
        assert "networks.net-2.vectors.embedder" in caught.value.hint
        assert {note.text for note in server.store.notes("net-1", "", 9)} == {"one", "none"}
        assert not server.store.notes("net-2", "", 9)


def server_workload() -> Any:
    """A workload of another network."""
    from fleet.agents import Workload

    return Workload("watch", "net-2", function="a.b:c")
