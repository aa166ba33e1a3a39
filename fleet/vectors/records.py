"""The records of vector search: model, batch of embeddings, generation of an index, answer.

Invariant: a generation is described by its manifest alone. Who holds the manifest can check every
byte of the index, knows what it was built from, how good it is, and how it is to be searched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from fleet.errors import InvalidInputError
from fleet.names import validate_name

DIMENSIONS_MAX = 8192
"""Most dimensions of a model; more than any published sentence model has (4,096)."""

NO_ROW = -1
"""What an index answers where it has found fewer than k, and the id of a dead row."""


class Metric(StrEnum):
    """How two vectors are compared."""

    COSINE = "cosine"
    """Inner product of vectors brought to length one; a zero vector is like nothing."""
    INNER_PRODUCT = "inner_product"
    L2 = "l2"
    """Squared distance; its score is the negative of it, so that more is always better."""


class IndexKind(StrEnum):
    """Families of indexes, by what they can do."""

    FLAT = "flat"
    """Exact; removes."""
    HNSW = "hnsw"
    """Graph; removes by tombstone only."""
    IVF = "ivf"
    """Lists around centroids; removes; needs training."""


class EmbeddingModel(NamedTuple):
    """Which function turned texts into vectors; vectors of two models must never be compared."""

    name: str
    """A name of the fleet: it is part of keys."""
    revision: str
    """SHA-256 of what computes (weights, vocabulary), or what the giver of vectors calls it."""
    dimensions: int
    metric: Metric = Metric.COSINE

    @property
    def model_id(self) -> str:
        """Name and the first 12 characters of the revision: what keys are made of."""
        return f"{self.name}-{self.revision[:12]}"


EMBEDDING_COLUMNS: Mapping[str, str] = {
    "note_id": "string",
    "external_id": "int64",
    "agent_id": "string",
    "region": "string",
    "created_at": "timestamp[us, tz=UTC]",
    "text": "string",
    "deleted": "bool",
    "vector": "fixed_size_list<float>",
}
"""Columns of a batch of embeddings, in order, with their Arrow types.

One row per note: its newest wins, in the order of batches and then of rows. A row with `deleted`
takes its note back; its vector is not looked at. `region` may be null, nothing else may.
"""

NOTE_COLUMNS = ("note_id", "external_id", "agent_id", "region", "created_at", "text")
"""Columns that a generation keeps of each of its rows; a filter may name any but `external_id`."""


class EmbeddingBatch(NamedTuple):
    """One committed batch of a network's embeddings, or several joined into one."""

    network_id: str
    model_id: str
    sequence: int
    """From 1, without gaps, in the order of commits."""
    rows: int
    size_bytes: int
    sha256: str
    written_at: datetime
    joined_from: int | None = None
    """First sequence inside, of batches that were joined; many rows lie in several objects, which
    have the same first and last sequence. None of a batch as it was appended."""

    @property
    def first_sequence(self) -> int:
        """The first sequence inside; that of an appended batch is its only one."""
        return self.sequence if self.joined_from is None else self.joined_from


class IndexSpec(NamedTuple):
    """An index to be built: its type and what it is built with; search parameters come later."""

    kind: IndexKind
    factory: str
    """As `faiss.index_factory` reads it: `Flat`, `HNSW30,SQ8`, `IVF1792,SQ8`, ..."""
    build: Mapping[str, int]
    """Parameters of building: `efConstruction`, `train_points_per_list`."""
    sweep: tuple[Mapping[str, int], ...]
    """Parameters of search that tuning tries, cheapest first; one empty one for an exact index."""
    can_remove: bool
    """Whether rows can be removed; otherwise they are marked as dead."""
    reason: str


class RecallMeasure(NamedTuple):
    """How many of the true neighbours an index found, on a sample."""

    recall: float
    low: float
    high: float
    """Wilson's interval at 95 %."""
    queries: int
    k: int
    seed: int
    parameters: Mapping[str, int]
    """Parameters of search it was measured with."""

    def __str__(self) -> str:
        told = ", ".join(f"{name} {value}" for name, value in self.parameters.items()) or "exact"
        return f"recall@{self.k} {self.recall:.4f} [{self.low:.4f}, {self.high:.4f}] with {told}"


class PartFile(NamedTuple):
    """One stored object of a generation; the parts of one file, joined in order, are the file."""

    name: str
    """Below the folder of the generation that stored it."""
    file: str
    """`index.faiss`, `rows.arrow` or that of a delta."""
    size_bytes: int
    sha256: str
    generation: str
    """Which generation stored it: an update shares the parts of the one before."""


class IndexDelta(NamedTuple):
    """Notes that came after the index file: one file beside it, compared one by one."""

    file: str
    """`delta-<sequence>.arrow`: rows with their vectors, and which earlier rows they end."""
    after: int
    """Last batch of embeddings before it."""
    sequence: int
    """Last batch inside."""
    rows: int
    """Rows that it adds, numbered on from those before."""
    dead_rows: int
    """Earlier rows that it ends."""

    @property
    def changes(self) -> int:
        """What it costs: to keep, to read, to search."""
        return self.rows + self.dead_rows


class IndexManifest(NamedTuple):
    """All that is known of one generation of a network's index."""

    network_id: str
    generation: str
    """UTC moment and eight random hex digits: sorts by time, never used twice."""
    model: EmbeddingModel
    kind: IndexKind
    factory: str
    ntotal: int
    """Vectors inside the index file: what FAISS must say after loading."""
    rows: int
    """Row numbers given out, those of deltas included."""
    live: int
    """Rows that may be found: those of notes that exist."""
    search: Mapping[str, int]
    """Tuned parameters of search."""
    build: Mapping[str, int]
    seed: int
    recall: RecallMeasure | None
    """As last measured: an update of few notes carries it on. None only for an empty index."""
    list_imbalance: float
    """IVF: imbalance factor of the lists (1 is even); 0 for other kinds."""
    trained_imbalance: float
    """The same when the index was last built from nothing."""
    trained_live: int
    """Live rows when the index was last built from nothing."""
    sequence: int
    """Last batch of embeddings inside; everything up to it is inside."""
    batches: tuple[str, ...]
    """SHA-256 of the batches that this generation read: all of them, or those an update added."""
    base_generation: str
    """The generation it was made from; empty for a build from nothing."""
    newest_note_at: datetime | None
    """Of the newest live note; None when there is none."""
    parts: tuple[PartFile, ...]
    builder: str
    """Who built it, for people: host and process."""
    backend: str
    backend_reason: str
    built_at: datetime
    build_s: float
    deltas: tuple[IndexDelta, ...] = ()
    """What came after the index file, in order; empty when that holds everything."""

    @property
    def index_rows(self) -> int:
        """Row numbers that the index file knows: those of `rows.arrow`."""
        return self.rows - sum(delta.rows for delta in self.deltas)

    @property
    def index_sequence(self) -> int:
        """Last batch of embeddings inside the index file."""
        return self.deltas[0].after if self.deltas else self.sequence

    @property
    def dead_share(self) -> float:
        """Share of the row numbers given out that are dead, 0 to 1."""
        return 1.0 - self.live / self.rows if self.rows else 0.0

    @property
    def size_bytes(self) -> int:
        """Of all stored parts."""
        return sum(part.size_bytes for part in self.parts)


class IndexPointer(NamedTuple):
    """Which generation a network's readers use: one entry of a log that only grows."""

    network_id: str
    number: int
    """From 1; each entry is created once, so two publishers cannot both be next."""
    generation: str
    manifest_sha256: str
    fence: int
    """Term of the publisher's lease; never lower than that of the entry before."""
    at: datetime
    reason: str


class SearchHit(NamedTuple):
    """A note that was found."""

    note_id: str
    agent_id: str
    region: str | None
    created_at: datetime
    text: str
    score: float
    """More is better: cosine, inner product or negative squared distance; of a hybrid search the
    fused rank."""


class SearchAnswer(NamedTuple):
    """What a search found, and how far it can be believed."""

    network_id: str
    generation: str
    hits: tuple[SearchHit, ...]
    """Best first; fewer than k where fewer notes pass."""
    method: str
    """`index`, `exact on the subset`, or either with `+ bm25`."""
    candidates: int
    """Notes that passed the filter; all live ones without one."""
    built_at: datetime
    newest_note_at: datetime | None
    recall: float | None
    """Measured at publication; None where the search was exact or the index is empty."""

    def freshness_s(self, now: datetime) -> float:
        """Age of the generation in seconds."""
        return (now - self.built_at).total_seconds()


class NetworkHit(NamedTuple):
    """A note that was found, and where."""

    network_id: str
    hit: SearchHit


class MergedAnswer(NamedTuple):
    """What a search of several networks found."""

    hits: tuple[NetworkHit, ...]
    """Best first; of equal scores by the name of the network."""
    answers: tuple[SearchAnswer, ...]
    """Of each network, by name: its generation, freshness, method and own hits."""
    without_index: tuple[str, ...]
    """Networks that have no index yet, so that nothing of them was searched."""


@dataclass(frozen=True, slots=True)
class VectorPolicy:
    """How good an index must be, and when it is renewed.

    Raises:
        InvalidInputError: a value that cannot be.
    """

    recall_target: float = 0.95
    """Least recall@k of a published index, as a point estimate."""
    recall_k: int = 10
    sample_queries: int = 1000
    """Queries of a measurement: the interval is then about half a point wide to each side."""
    seed: int = 20261121
    dead_share_max: float = 0.3
    """More dead rows than this: rebuild. Source: a search of a graph with 30 % dead rows needs
    twice the effort for the same recall."""
    imbalance_growth_max: float = 1.5
    """IVF lists this much less even than after training: the data have drifted, rebuild."""
    delta_share_max: float = 0.1
    """More rows beside an index file, or dead in it, than this share of its rows: fold them in."""
    growth_max: float = 2.0
    """More rows than this many times those of the last build: the type may have changed."""
    churn_max: float = 0.1
    """Share of notes changed or deleted since the last generation that counts as many."""
    memory_max_bytes: int = 8 * 1024**3
    """What an index may take in a reader's memory."""
    compact_batches_min: int = 64
    """Fewer batches of embeddings of a network are left as they are: each is read in a
    millisecond."""
    keep_generations: int = 3
    """Published generations kept, the current one included."""
    leftover_age_s: float = 6 * 3600.0
    """Unpublished generations older than this are left over from a crash."""
    exact_share_max: float = 0.2
    """A filter that passes less than this is searched exactly. Source: 200,000 vectors, exact
    search of 10 % is faster than the index and has recall 1 against 0.95."""

    def __post_init__(self) -> None:
        """Refuse what no index could be judged by."""
        shares = (
            "recall_target",
            "dead_share_max",
            "exact_share_max",
            "churn_max",
            "delta_share_max",
        )
        for name in shares:
            if not 0.0 < getattr(self, name) <= 1.0:
                raise InvalidInputError(f"vectors.{name}", getattr(self, name), "0 < share <= 1")
        counts = (
            "recall_k",
            "sample_queries",
            "keep_generations",
            "memory_max_bytes",
            "compact_batches_min",
        )
        for name in counts:
            if getattr(self, name) < 1:
                raise InvalidInputError(f"vectors.{name}", getattr(self, name), "1 or more")
        for name in ("imbalance_growth_max", "growth_max"):
            if not getattr(self, name) > 1.0:
                raise InvalidInputError(f"vectors.{name}", getattr(self, name), "more than 1")
        if not self.leftover_age_s >= 60.0:
            raise InvalidInputError("vectors.leftover_age_s", self.leftover_age_s, "60 or more")


def validate_model(model: EmbeddingModel) -> EmbeddingModel:
    """Return the model unchanged when it can name stored vectors.

    Raises:
        InvalidInputError: name, revision or dimensions that cannot be.
    """
    validate_name("model.name", model.name)
    validate_name("model.revision", model.revision)
    if not 1 <= model.dimensions <= DIMENSIONS_MAX:
        raise InvalidInputError("model.dimensions", model.dimensions, f"1 to {DIMENSIONS_MAX}")
    return model
