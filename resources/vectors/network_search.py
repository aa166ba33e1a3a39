"""Searches the notes of several networks at once and joins what they find by score.

Invariant: every score of one answer was made with one model. A network whose index was made with
another is an error, not a silent gap.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from fleet.errors import InvalidInputError, NotFoundError, StateroomError
from fleet.ports.embedder import Embedder
from fleet.ports.index_backend import IndexBackend
from fleet.ports.vector_store import VectorStore
from fleet.vectors.merging import merge_answers
from fleet.vectors.records import MergedAnswer, SearchAnswer, VectorPolicy
from resources.vectors.reading import NetworkSearcher


class NetworksSearcher:
    """Searches one, several or all networks; safe to share between threads.

    An opened network stays open: its files are mapped, its deltas (at most 20,000 vectors) are in
    memory. Full-text ranks cannot be joined over networks, since how rare a word is depends on the
    network: a hybrid search asks one (`NetworkSearcher`).

    Args:
        store: of generations.
        backend: opens indexes.
        embedder: turns a question into a vector, once for all networks.
        policy: when a filter is searched exactly.
    """

    def __init__(
        self, store: VectorStore, backend: IndexBackend, embedder: Embedder, policy: VectorPolicy
    ) -> None:
        """Nothing is opened yet."""
        self._store = store
        self._backend = backend
        self._embedder = embedder
        self._policy = policy
        self._lock = threading.Lock()
        self._searchers: dict[str, NetworkSearcher] = {}
        self._names: list[str] | None = None

    def searcher(self, network_id: str) -> NetworkSearcher:
        """The searcher of one network, opened when it is first asked."""
        with self._lock:
            found = self._searchers.get(network_id)
            if found is None:
                found = NetworkSearcher(
                    self._store, self._backend, self._embedder, network_id, self._policy
                )
                self._searchers[network_id] = found
            return found

    def search(
        self,
        text: str,
        k: int = 10,
        *,
        networks: Sequence[str] | None = None,
        where: str | None = None,
    ) -> MergedAnswer:
        """The notes most like a text, of all networks together.

        Args:
            text: the question, in any language.
            k: 1 to `K_MAX`.
            networks: which; a name twice counts once. None: all that had embeddings or an index
                when they were last listed (at the first such search, and by `refresh`); those
                without an index are told in the answer.
            where: a filter (`fleet.vectors.filter_text`); None for all notes.

        Raises:
            InvalidInputError: k, text or filter that cannot be, no network, or one whose index was
                made with another model.
            NotFoundError: a network that was named has no index yet.
        """
        names = sorted(set(self._all() if networks is None else networks))
        if not names and networks is not None:
            raise InvalidInputError("networks", (), "at least one network, or None for all")
        vector = self._embedder.embed([text])[0]
        answers: list[SearchAnswer] = []
        without: list[str] = []
        for name in names:
            searcher = self.searcher(name)
            try:
                answers.append(
                    searcher.search_vector(vector, k, where=where, model=self._embedder.model)
                )
            except NotFoundError:
                if networks is not None or searcher.generation is not None:
                    raise
                without.append(name)
        return merge_answers(answers, k, without)

    def refresh(self) -> bool:
        """List the networks again, and change to current generations; whether anything is new.

        Raises:
            StateroomError: of the first network that could not be refreshed, after all were tried;
                its old generation stays in service.
        """
        with self._lock:
            searchers = list(self._searchers.values())
        names = self._store.networks()
        changed, first = names != self._names, None
        self._names = names
        for searcher in searchers:
            try:
                changed |= searcher.refresh()
            except StateroomError as error:
                first = first or error
        if first is not None:
            raise first
        return changed

    def _all(self) -> list[str]:
        """All networks: a listing of every object, so not for every question."""
        if self._names is None:
            self._names = self._store.networks()
        return self._names
