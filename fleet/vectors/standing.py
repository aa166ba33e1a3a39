"""How far the index of a network has come, and how its last refresh ended: kept beside the notes.

Invariant: positions are those of the control store's own log of notes, and lie in the same store.
A store that is restored takes them back with the notes: a note is embedded again, never left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from fleet.errors import CorruptObjectError, SchemaMismatchError
from fleet.vectors.records import IndexManifest, VectorPolicy

FORMAT = 1
"""Of the stored text; another one is refused."""

LEASE_PREFIX = "vector_index/"
"""Name of the lease of the one builder of a network's index, before the network's name."""

DAMAGES_MAX = 20
"""Damaged parts that a standing names; their number is exact."""


class RefreshResult(StrEnum):
    """How a refresh ended."""

    PUBLISHED = "published"
    UNCHANGED = "unchanged"
    """The index held everything already."""
    REFUSED = "refused"
    """Measured, and not good enough: the old generation goes on serving."""
    FAILED = "failed"


class IndexFacts(NamedTuple):
    """What is told of a published generation, in numbers."""

    generation: str
    kind: str
    factory: str
    ntotal: int
    rows: int
    live: int
    recall: float | None
    """None: the index held nothing when it was measured."""
    recall_low: float | None
    recall_high: float | None
    recall_target: float
    """Of the policy under which it was published."""
    size_bytes: int
    dimensions: int
    built_at: datetime
    build_s: float
    newest_note_at: datetime | None
    backend: str
    backend_reason: str

    @property
    def dead_share(self) -> float:
        """Share of the rows that are dead, 0 to 1."""
        return 1.0 - self.live / self.rows if self.rows else 0.0


class ScrubFacts(NamedTuple):
    """What reading every stored byte of an index has shown."""

    at: datetime
    generations: int
    size_bytes: int
    damages: tuple[str, ...] = ()
    """What is wrong, in words; at most `DAMAGES_MAX`."""
    damaged: int = 0


class IndexStanding(NamedTuple):
    """One network's index as its builder left it."""

    network_id: str
    model_id: str = ""
    embedded_change: int = 0
    """Change of the log of notes up to which all are embedded."""
    sequence: int = 0
    """Batch of embeddings that holds that change."""
    embedded_at: datetime | None = None
    indexed_change: int = 0
    """Change up to which all are inside the current generation."""
    facts: IndexFacts | None = None
    """Of the current generation; None: nothing was ever published."""
    result: RefreshResult | None = None
    """Of the last refresh; None before the first."""
    reason: str = ""
    """Of that result, in words."""
    ended_at: datetime | None = None
    results: Mapping[str, int] = {}
    """Result -> refreshes that ended so, since the first."""
    scrub: ScrubFacts | None = None
    embedder: str = ""
    """As the settings named it when the index was last refreshed; empty before the first time."""

    @property
    def failed_at(self) -> datetime | None:
        """End of the last refresh, where it published nothing that it should have."""
        bad = (RefreshResult.REFUSED, RefreshResult.FAILED)
        return self.ended_at if self.result in bad else None


def facts_of(manifest: IndexManifest, policy: VectorPolicy) -> IndexFacts:
    """The facts of a generation."""
    recall = manifest.recall
    return IndexFacts(
        generation=manifest.generation,
        kind=manifest.kind.value,
        factory=manifest.factory,
        ntotal=manifest.ntotal,
        rows=manifest.rows,
        live=manifest.live,
        recall=recall and recall.recall,
        recall_low=recall and recall.low,
        recall_high=recall and recall.high,
        recall_target=policy.recall_target,
        size_bytes=manifest.size_bytes,
        dimensions=manifest.model.dimensions,
        built_at=manifest.built_at,
        build_s=manifest.build_s,
        newest_note_at=manifest.newest_note_at,
        backend=manifest.backend,
        backend_reason=manifest.backend_reason,
    )


def with_result(
    standing: IndexStanding, result: RefreshResult, reason: str, ended_at: datetime
) -> IndexStanding:
    """The standing after one more refresh."""
    counted = {**standing.results, result.value: standing.results.get(result.value, 0) + 1}
    return standing._replace(result=result, reason=reason, ended_at=ended_at, results=counted)


def lease_name(network_id: str) -> str:
    """Name of the lease under which a network's index is built."""
    return f"{LEASE_PREFIX}{network_id}"


def standing_text(standing: IndexStanding) -> str:
    """A standing as JSON: times in ISO 8601, keys sorted."""
    document = {**standing._asdict(), "format": FORMAT}
    for name in ("facts", "scrub"):
        part = getattr(standing, name)
        document[name] = None if part is None else part._asdict()
    return json.dumps(document, sort_keys=True, default=_plain)


def read_standing(text: str) -> IndexStanding:
    """The inverse of `standing_text`.

    Raises:
        SchemaMismatchError: a newer Stateroom wrote it.
        CorruptObjectError: it is no standing.
    """
    try:
        document = json.loads(text)
        found = document.pop("format")
        if found != FORMAT:
            raise SchemaMismatchError(
                f"standing of an index has format {found}, this Stateroom knows {FORMAT}",
                hint="Run the newer Stateroom.",
            )
        return _standing(document)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptObjectError(
            f"standing of an index cannot be read: {error}",
            hint="Delete its row from `index_standings`: the next refresh embeds what is missing.",
        ) from error


def _standing(document: dict[str, Any]) -> IndexStanding:
    facts, scrub = document["facts"], document["scrub"]
    result = document["result"]
    return IndexStanding(
        **{
            **document,
            "embedded_at": _time(document["embedded_at"]),
            "ended_at": _time(document["ended_at"]),
            "result": None if result is None else RefreshResult(result),
            "facts": facts
            and IndexFacts(
                **{
                    **facts,
                    "built_at": _time(facts["built_at"]),
                    "newest_note_at": _time(facts["newest_note_at"]),
                }
            ),
            "scrub": scrub
            and ScrubFacts(
                **{**scrub, "at": _time(scrub["at"]), "damages": tuple(scrub["damages"])}
            ),
        }
    )


def _time(value: str | None) -> Any:
    return None if value is None else datetime.fromisoformat(value)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no form in a standing")
