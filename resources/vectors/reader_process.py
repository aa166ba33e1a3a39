"""The process that searches for the agents of one node: one question after the other, no forks.

`python -m resources.vectors.reader_process SOCKET PARENT`: the number of a connected socket, and
the pid of the supervisor, with whose end this process ends. The first document is the config
(`vectors`: the declaration, `opening_s`), each further one a question with a `number`; each gets
one answer with its number, the config the number 0 when the libraries are loaded. FAISS runs on one
thread. An index that is being fetched holds up one question, for `opening_s` at most, and half a
second where an older one is in service: the questions after it are answered at once.
"""

from __future__ import annotations

import logging
import signal
import socket
import sys
import time
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any

from fleet.errors import InvalidInputError, PermanentError, StateroomError, StoreUnavailableError
from fleet.vectors.declaration_json import read_declaration
from resources.clock import SystemClock
from resources.local.linux_processes import die_with_parent, set_process_name
from resources.vectors.faiss_backend import load_faiss
from resources.vectors.network_indexes import NetworkIndexes
from resources.vectors.reader_frames import error_document, frame_bytes, read_frame
from resources.vectors.reading import NetworkSearcher

LOOK_S = 2.0
"""Between two looks for a newer generation of a network that is asked about."""
NETWORKS_MAX = 16
"""Networks whose index is held open; the one that was asked longest ago goes first."""
_NEWER_S = 0.5
"""How long the first question waits for a newer generation while an older one is in service."""

_log = logging.getLogger(__name__)


class ServedNetwork:
    """One network's searcher, kept current by looks that no question waits for too long."""

    def __init__(self, searcher: NetworkSearcher, looks: ThreadPoolExecutor) -> None:
        """Nothing is opened yet."""
        self.searcher = searcher
        self.warning = ""
        """Why the newest generation could not be taken; empty when it was."""
        self._looks = looks
        self._look: Future[bool] | None = None
        self._is_slow = False
        """Whether a question has waited for this look in vain; one is enough."""
        self._looked_at_s = -LOOK_S

    def keep_current(self, opening_s: float) -> None:
        """Look for a newer generation, when the last look is some time ago or found none.

        Args:
            opening_s: how long the first question waits while there is none in service.

        Raises:
            StoreUnavailableError: the first generation is still being fetched.
            StateroomError: there is none in service, and none can be opened.
        """
        is_serving = self.searcher.generation is not None
        is_due = not is_serving or time.monotonic() - self._looked_at_s >= LOOK_S
        if self._look is None and is_due:
            self._look = self._looks.submit(self.searcher.refresh)
        if self._look is None:
            return
        patience_s = 0.0 if self._is_slow else _NEWER_S if is_serving else opening_s
        if not wait([self._look], patience_s).done:
            self._is_slow = True
            if is_serving:
                return
            raise StoreUnavailableError(
                "the network's index is still being fetched", hint="Search again in a moment."
            )
        look, self._look, self._is_slow = self._look, None, False
        self._looked_at_s = time.monotonic()
        try:
            look.result()
            self.warning = ""
        except StateroomError as error:
            self.warning = str(error)
            if not is_serving:
                raise


class Reader:
    """Answers questions about the networks of one node."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Load what every search needs; indexes are opened when they are asked about."""
        declaration = read_declaration(config["vectors"])
        self._indexes = NetworkIndexes(declaration, SystemClock(), threads=1)
        self._load()
        self._opening_s = float(config["opening_s"])
        self._looks = ThreadPoolExecutor(4, thread_name_prefix="look")
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
            served = ServedNetwork(self._indexes.searcher(network_id), self._looks)
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
