"""The process that searches for the agents of one node: one question after the other, no forks.

`python -m resources.vectors.reader_process SOCKET PARENT`: the number of a connected socket, and
the pid of the supervisor, with whose end this process ends. The first document is the config
(`vectors`: the declaration, `opening_s`), each further one a question with a `number`; each gets
one answer with its number, the config the number 0 when the libraries are loaded. FAISS runs on one
thread. An index that is still being fetched holds up the questions about others for `opening_s` in
all, and those about its own network for half a second once it has another in service.
"""

from __future__ import annotations

import logging
import signal
import socket
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

from fleet.errors import InvalidInputError, PermanentError, StateroomError, StoreUnavailableError
from fleet.vectors.declaration_json import read_declaration
from resources.clock import SystemClock
from resources.local.linux_processes import die_with_parent, set_process_name
from resources.vectors.faiss_backend import load_faiss
from resources.vectors.network_indexes import NetworkIndexes
from resources.vectors.reader_frames import error_document, frame_bytes, read_frame
from resources.vectors.reading import NetworkSearcher

LOOK_S = 2.0
"""Between two looks for a newer generation of a network that is asked about; a look that failed is
what is told until then."""
NETWORKS_MAX = 16
"""Networks whose index is held open; the one that was asked longest ago goes first."""
_NEWER_S = 0.5
"""How long questions wait for a newer generation while an older one is in service."""

_log = logging.getLogger(__name__)


class _Work(NamedTuple):
    """Something that is done beside the questions."""

    future: Future[object]
    began_s: float


class ServedNetwork:
    """One network's searcher, kept current by looks that no question waits for too long.

    What takes long is done beside the questions, and they wait for it by its age: the hundredth
    that comes does not wait as long as the first one did.

    Args:
        searcher: of the network.
        beside: threads for what takes long.
        steady_now: seconds that only rise.
    """

    def __init__(
        self,
        searcher: NetworkSearcher,
        beside: ThreadPoolExecutor,
        steady_now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is opened yet."""
        self.searcher = searcher
        self.warning = ""
        """Why the newest generation could not be taken; empty when it was."""
        self._beside = beside
        self._now = steady_now
        self._look: _Work | None = None
        self._reading: _Work | None = None

    def keep_current(self, opening_s: float) -> None:
        """Look for a newer generation, when the last look is some time ago.

        Args:
            opening_s: how long questions wait for the first generation, from when it was asked for.

        Raises:
            StoreUnavailableError: the first generation is still being fetched.
            StateroomError: there is none in service, and at the last look none could be opened.
        """
        look = self._look
        if look is None or (look.future.done() and self._now() - look.began_s >= LOOK_S):
            look = self._look = self._begin(self.searcher.refresh)
        is_serving = self.searcher.generation is not None
        try:
            self._wait(look, _NEWER_S if is_serving else opening_s)
        except TimeoutError as error:
            if is_serving:
                return
            raise StoreUnavailableError(
                "the network's index is still being fetched", hint="Search again in a moment."
            ) from error
        except StateroomError as error:
            self.warning = str(error)
            if not is_serving:
                raise
        else:
            self.warning = ""

    def keep_words(self, opening_s: float) -> None:
        """Have the words of the generation in service read, which takes seconds for 100,000 notes.

        Args:
            opening_s: how long questions wait for them, from when they were asked for.

        Raises:
            StoreUnavailableError: they are still being read.
        """
        if self.searcher.has_words:
            return
        reading = self._reading
        if reading is None or reading.future.done():
            reading = self._reading = self._begin(self.searcher.read_words)
        with suppress(TimeoutError):
            self._wait(reading, opening_s)
        if not self.searcher.has_words:
            raise StoreUnavailableError(
                "the words of the network's notes are still being read",
                hint="Search again in a moment, or by meaning alone.",
            )

    def _begin(self, work: Callable[[], object]) -> _Work:
        return _Work(self._beside.submit(work), self._now())

    def _wait(self, work: _Work, wait_s: float) -> None:
        """Wait for its end until it is so old.

        Raises:
            TimeoutError: it goes on.
            StateroomError: it has failed.
        """
        work.future.result(max(0.0, work.began_s + wait_s - self._now()))


class Reader:
    """Answers questions about the networks of one node."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Load what every search needs; indexes are opened when they are asked about."""
        declaration = read_declaration(config["vectors"])
        self._indexes = NetworkIndexes(declaration, SystemClock(), threads=1)
        self._load()
        self._opening_s = float(config["opening_s"])
        self._beside = ThreadPoolExecutor(4, thread_name_prefix="beside")
        self._served: OrderedDict[str, ServedNetwork] = OrderedDict()

    def _load(self) -> None:
        """Libraries and models, so that no question has to wait for them."""
        import pyarrow.compute  # noqa: F401 - loaded for its effect

        load_faiss()
        for network_id in self._indexes.declaration.network_ids:
            with suppress(StateroomError):  # a question about this network is told
                _ = self._indexes.embedder(network_id).model

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a question, or the error that it ends with, as a document."""
        try:
            return {"answer": self._answer(question)}
        except StateroomError as error:
            return {"error": error_document(error)}
        except Exception as error:  # noqa: BLE001 - a defect met by one question ends that one only
            _log.exception("a search failed")
            told = PermanentError(
                f"the search failed: {type(error).__name__}", hint="The supervisor's log says why."
            )
            return {"error": error_document(told)}

    def _answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        served = self._network(question["network_id"])
        served.keep_current(self._opening_s)
        k, where, vector = question["k"], question["where"], question.get("vector")
        if vector is None:
            if question["hybrid"]:
                served.keep_words(self._opening_s)
            found = served.searcher.search(
                question["text"], k, where=where, hybrid=question["hybrid"]
            )
        else:
            self._demand_model(question["network_id"], vector["model"], len(vector["values"]))
            found = served.searcher.search_vector(vector["values"], k, where=where)
        newest = found.newest_note_at
        return {
            "hits": [
                {**hit._asdict(), "created_at": hit.created_at.isoformat()} for hit in found.hits
            ],
            "generation": found.generation,
            "method": found.method,
            "candidates": found.candidates,
            "built_at": found.built_at.isoformat(),
            "newest_note_at": None if newest is None else newest.isoformat(),
            "recall": found.recall,
            "warning": served.warning,
        }

    def _demand_model(self, network_id: str, name: str, dimensions: int) -> None:
        model = self._indexes.embedder(network_id).model
        if (name, dimensions) != (model.name, model.dimensions):
            raise InvalidInputError(
                "vector", f"{dimensions} x {name}", f"{model.dimensions} x {model.name}"
            )

    def _network(self, network_id: str) -> ServedNetwork:
        served = self._served.pop(network_id, None)
        if served is None:
            served = ServedNetwork(self._indexes.searcher(network_id), self._beside)
            while len(self._served) >= NETWORKS_MAX:
                self._served.popitem(last=False)
        self._served[network_id] = served
        return served


def main(arguments: list[str]) -> int:
    """Answer until the other side closes the socket; returns the exit code."""
    number, parent_pid = int(arguments[0]), int(arguments[1])
    if not die_with_parent(parent_pid, signal.SIGKILL):
        return 1
    set_process_name("search-reader")
    # Ctrl-C goes to the whole group; the supervisor decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    with socket.socket(fileno=number) as connection, connection.makefile("rwb") as stream:
        config = read_frame(stream)
        if config is None:
            return 0
        reader = Reader(config)
        stream.write(frame_bytes({"number": 0}))
        stream.flush()
        while (question := read_frame(stream)) is not None:
            answer = reader.answer(question)
            stream.write(frame_bytes({**answer, "number": question["number"]}))
            stream.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
