"""Answers questions from the current generation of a network, and changes to the next in passing.

Invariant: a search works on one generation from beginning to end. A swap only replaces what the
next search will take, after the new generation has been opened and compared with its manifest; the
old one is closed when the last search that holds it ends. So a swap loses no question, and a new
generation that is damaged leaves the old one in service.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from fleet.errors import CorruptObjectError, InvalidInputError, NotFoundError, StateroomError
from fleet.ports.embedder import Embedder, Vectors
from fleet.ports.index_backend import IndexBackend, Mask, Neighbours, Rows, SearchableIndex
from fleet.ports.vector_store import VectorStore
from fleet.vectors.bm25 import Bm25Index, fuse_rankings
from fleet.vectors.filter_text import parse_filter
from fleet.vectors.filters import decide_filter
from fleet.vectors.records import (
    NO_ROW,
    EmbeddingModel,
    IndexKind,
    IndexManifest,
    IndexPointer,
    Metric,
    SearchAnswer,
    VectorPolicy,
)
from resources.vectors.delta_index import with_deltas
from resources.vectors.generation_rows import hits_of, open_generation_rows, rows_passing
from resources.vectors.local_copies import ROWS_FILE, copy_name
from resources.vectors.unit_vectors import check_vectors, normalize

if TYPE_CHECKING:
    import pyarrow as pa

K_MAX = 10_000
"""Most notes that one search returns; more are a table, not an answer."""

FUSED_DEPTH = 100
"""Rows of each ranking that a hybrid search fuses, at least."""

_TRIES = 3
"""A generation may be removed between pointer and opening; that often in a row means more."""


class _Opened(NamedTuple):
    """One generation, ready to be searched."""

    pointer: IndexPointer
    manifest: IndexManifest
    searched: SearchableIndex
    rows: pa.Table
    live: Mask
    mask: Mask | None
    """Of a search without a filter; None when the index holds live rows only."""


class NetworkSearcher:
    """Searches the notes of one network; safe to share between threads.

    Args:
        store: of generations.
        backend: opens indexes.
        embedder: turns a question into a vector.
        network_id: the network.
        policy: when a filter is searched exactly.
    """

    def __init__(
        self,
        store: VectorStore,
        backend: IndexBackend,
        embedder: Embedder,
        network_id: str,
        policy: VectorPolicy,
    ) -> None:
        """Nothing is opened yet."""
        self._store = store
        self._backend = backend
        self._embedder = embedder
        self._network_id = network_id
        self._policy = policy
        self._swapping = threading.Lock()
        self._opened: _Opened | None = None
        self._file_words: tuple[str, Bm25Index] | None = None
        self._words: tuple[str, Bm25Index] | None = None

    @property
    def generation(self) -> str | None:
        """What the next search is answered from; None before the first."""
        opened = self._opened
        return None if opened is None else opened.manifest.generation

    @property
    def has_words(self) -> bool:
        """Whether the next search by words finds those of its generation read."""
        opened, held = self._opened, self._words
        return bool(opened and held and held[0] == opened.manifest.generation)

    def read_words(self) -> None:
        """Read the words of the generation in service: a pass over all notes, kept until the next.

        Raises:
            NotFoundError: the network has no index yet.
        """
        self._full_text(self._ready())

    def refresh(self) -> bool:
        """Change to the current generation when it is another one; whether it was.

        Searches go on meanwhile. One listing when there is nothing new.

        Raises:
            CorruptObjectError: the new generation is damaged; the old one stays in service.
            StoreUnavailableError: it cannot be asked now; the old one stays in service.
        """
        with self._swapping:
            held = self._opened
            for left in reversed(range(_TRIES)):
                pointer = self._next_pointer(held)
                if pointer is None:
                    return False
                try:
                    self._opened = self._open(pointer)
                except NotFoundError:
                    if not left:
                        raise
                else:
                    return True
            return False

    def search(
        self, text: str, k: int = 10, *, where: str | None = None, hybrid: bool = False
    ) -> SearchAnswer:
        """The notes most like a text.

        Args:
            text: the question, in any language.
            k: 1 to `K_MAX`; fewer hits come back when fewer notes pass.
            where: a filter (`fleet.vectors.filter_text`); None for all notes.
            hybrid: whether words count beside the meaning.

        Raises:
            InvalidInputError: k, text or filter that cannot be.
            NotFoundError: the network has no index yet.
        """
        opened = self._ready()
        _demand_model(opened.manifest, self._embedder.model)
        vector = self._embedder.embed([text])
        return self._answer(opened, vector, k, where, text if hybrid else None)

    def search_vector(
        self, vector: npt.ArrayLike, k: int = 10, *, where: str | None = None
    ) -> SearchAnswer:
        """The notes most like a vector; otherwise as `search`.

        Args:
            vector: of the model that made the index; the caller knows that it is.
            k: as of `search`.
            where: as of `search`.
        """
        opened = self._ready()
        made_by = opened.manifest.model
        query = check_vectors("vector", np.array(vector, np.float32)[None], made_by.dimensions)
        if made_by.metric is Metric.COSINE:
            query = normalize(query)
        return self._answer(opened, query, k, where, None)

    def search_words(self, text: str, k: int = 10, *, where: str | None = None) -> SearchAnswer:
        """The notes that share words with a text, by BM25 alone; otherwise as `search`."""
        opened = self._ready()
        self._demand_k(k)
        passing, passed = self._passing(opened, where)
        ranking = self._rank_words(opened, text, k, passing)
        _, scores = fuse_rankings([ranking], k)
        return self._told(opened, ranking, scores, "bm25", passed)

    def _ready(self) -> _Opened:
        if self._opened is None:
            self.refresh()
        opened = self._opened
        if opened is None:
            raise NotFoundError(
                f"network {self._network_id} has no vector index",
                hint="It is built with the first notes; materialize `vector_index` to do so now.",
            )
        return opened

    def _next_pointer(self, held: _Opened | None) -> IndexPointer | None:
        if held is None:
            return self._store.current(self._network_id)
        return self._store.newer(held.pointer)

    def _open(self, pointer: IndexPointer) -> _Opened:
        """Open a generation and compare it with what its manifest says."""
        files = self._store.open(pointer)
        manifest = files.manifest
        index = self._backend.open(files.index_path)
        table, live, vectors = open_generation_rows(files)
        is_l2 = manifest.model.metric is Metric.L2
        compared = {
            "vectors": (index.ntotal, manifest.ntotal),
            "dimensions": (index.dimensions, manifest.model.dimensions),
            "metric": (index.metric, Metric.L2 if is_l2 else Metric.INNER_PRODUCT),
            "rows": (table.num_rows, manifest.rows),
            "live rows": (int(live.sum()), manifest.live),
        }
        wrong = [
            f"{found} {name}, not {wanted}"
            for name, (found, wanted) in compared.items()
            if found != wanted
        ]
        if wrong:
            raise CorruptObjectError(
                f"index {manifest.network_id}/{manifest.generation} is not that of its manifest: "
                + "; ".join(wrong),
                hint="Rebuild the index; its files are those of another generation.",
            )
        searched = with_deltas(self._backend, index, vectors, manifest)
        mask = None if searched.ntotal == manifest.live else live
        return _Opened(pointer, manifest, searched, table, live, mask)

    def _answer(
        self, opened: _Opened, query: Vectors, k: int, where: str | None, words: str | None
    ) -> SearchAnswer:
        self._demand_k(k)
        passing, passed = self._passing(opened, where)
        depth = k if words is None else max(k, FUSED_DEPTH)
        found, method = self._nearest(opened, query, depth, passing, passed)
        rows, scores = _found(found, k)
        if words is not None:
            ranking = self._rank_words(opened, words, depth, passing)
            rows, scores = fuse_rankings([found.rows[0], ranking], k)
            method += " + bm25"
        return self._told(opened, rows, scores, method, passed)

    def _demand_k(self, k: int) -> None:
        if not 1 <= k <= K_MAX:
            raise InvalidInputError("k", k, f"1 to {K_MAX}")

    def _passing(self, opened: _Opened, where: str | None) -> tuple[Mask | None, int]:
        """Rows that may be found, None for all, and how many notes they are."""
        if where is None:
            return opened.mask, opened.manifest.live
        passing = rows_passing(opened.rows, parse_filter(where)) & opened.live
        return passing, int(passing.sum())

    def _told(
        self,
        opened: _Opened,
        rows: Rows,
        scores: npt.NDArray[np.float32],
        method: str,
        passed: int,
    ) -> SearchAnswer:
        recall = opened.manifest.recall
        return SearchAnswer(
            network_id=self._network_id,
            generation=opened.manifest.generation,
            hits=hits_of(opened.rows, rows, scores),
            method=method,
            candidates=passed,
            built_at=opened.manifest.built_at,
            newest_note_at=opened.manifest.newest_note_at,
            recall=recall.recall if recall and method.startswith("index") else None,
        )

    def _nearest(
        self, opened: _Opened, query: Vectors, k: int, passing: Mask | None, passed: int
    ) -> tuple[Neighbours, str]:
        """Ask the index, or compare with every note that passes."""
        manifest = opened.manifest
        is_exact = manifest.kind is IndexKind.FLAT
        verdict = decide_filter(passed, manifest.live, self._policy, is_exact=is_exact)
        width = max(1, min(k, passed))
        if verdict.exact and passing is not None:
            return opened.searched.scan(query, width, passing), "exact on the subset"
        found = opened.searched.search(query, width, manifest.search, passing)
        return found, "exact" if is_exact else "index"

    def _rank_words(self, opened: _Opened, text: str, k: int, passing: Mask | None) -> Rows:
        """Live rows that share words with a text, best first."""
        return self._full_text(opened).rank(text, k, opened.live if passing is None else passing)

    def _full_text(self, opened: _Opened) -> Bm25Index:
        """The words of a generation, read at the first hybrid search of it.

        Of generations that share the index file only what lies beside it is read again. Rows that
        have ended since still count for how rare a word is, and are found no more.
        """
        manifest, held = opened.manifest, self._words
        if held is None or held[0] != manifest.generation:
            texts, inside = opened.rows.column("text"), manifest.index_rows
            name, file = copy_name(manifest, ROWS_FILE), self._file_words
            if file is None or file[0] != name:
                file = (name, Bm25Index(_texts(texts.slice(0, inside))))
                self._file_words = file
            beside = _texts(texts.slice(inside))
            held = (manifest.generation, file[1].followed_by(beside) if beside else file[1])
            self._words = held
        return held[1]


def _demand_model(manifest: IndexManifest, model: EmbeddingModel) -> None:
    """Refuse to compare vectors of two models."""
    if manifest.model != model:
        raise InvalidInputError(
            "model",
            model.model_id,
            f"{manifest.model.model_id}, which made the index of {manifest.network_id}",
            hint="Rebuild that index with the present model, or search it with its own.",
        )


def _texts(column: pa.ChunkedArray[Any]) -> list[str]:
    """A column of texts without nulls."""
    return cast("list[str]", column.to_pylist())


def _found(found: Neighbours, k: int) -> tuple[Rows, npt.NDArray[np.float32]]:
    """Rows and scores of one query, without those that stand for nothing."""
    real = found.rows[0] != NO_ROW
    return found.rows[0][real][:k], found.scores[0][real][:k]


class PointerWatch:
    """Refreshes a searcher every few seconds on a thread of its own.

    Args:
        searcher: what is refreshed.
        interval_s: between two looks, from the end of one to the beginning of the next.
    """

    def __init__(self, searcher: NetworkSearcher, interval_s: float = 2.0) -> None:
        """The thread begins at once; `close` ends it."""
        self.problem: StateroomError | None = None
        """Why the last look failed; None when it did not. The old generation stays in service."""
        self._searcher = searcher
        self._interval_s = interval_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="pointer-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and wait for it; a second time does nothing."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            try:
                self._searcher.refresh()
                self.problem = None
            except StateroomError as error:
                self.problem = error
            if self._ended.wait(self._interval_s):
                return
