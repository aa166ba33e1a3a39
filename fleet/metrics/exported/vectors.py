"""How the vector indexes stand, as a scraper reads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from fleet.metrics.exported.readings import NETWORKS_MAX, ExportedFamily, Reading
from fleet.vectors.health import IndexHealth
from fleet.vectors.standing import RefreshResult

_INDEXES = f"networks ({NETWORKS_MAX}; those with problems first)"


def _gauge(name: str, text: str) -> ExportedFamily:
    return ExportedFamily(f"stateroom_index_{name}", "gauge", text, ("index",), _INDEXES)


FAMILIES = (
    _gauge("age_seconds", "Since the newest generation of an index was published."),
    _gauge(
        "behind_seconds",
        "Since the first note that an index does not hold was stored; 0 when it holds all.",
    ),
    _gauge("max_age_seconds", "Age of a waiting note from which its index counts as stale."),
    _gauge("waiting_notes", "Notes that an index does not hold, counted up to 100,000."),
    _gauge("recall_ratio", "Recall at 10, measured against exact search when it was published."),
    _gauge("recall_floor_ratio", "Recall below which an index is not published."),
    _gauge("notes", "Notes that an index holds."),
    _gauge("vectors", "Vectors in the index file, dead ones included (ntotal)."),
    _gauge("dead_ratio", "Share of the rows of an index that are dead."),
    _gauge("bytes", "Stored bytes of the newest generation."),
    _gauge("build_seconds", "What building or updating the newest generation took."),
    _gauge("damaged_parts", "Damaged parts that the last scrub found; absent before the first."),
    _gauge("scrub_age_seconds", "Since every stored byte was last read."),
    ExportedFamily(
        "stateroom_index_refreshes_total",
        "counter",
        "Refreshes by how they ended: published, unchanged, refused (finds too little), failed.",
        ("index", "result"),
        f"{_INDEXES} x 4",
    ),
)


def index_readings(found: Iterable[IndexHealth], now: datetime) -> Iterator[Reading]:
    """Readings of each index; what was never measured has none.

    Where there are too many, those with problems come first: an alert needs their series.

    Args:
        found: one for each network.
        now: the moment of the look.
    """
    chosen = sorted(found, key=lambda one: (not one.problems(), one.network_id))[:NETWORKS_MAX]
    for one in sorted(chosen, key=lambda one: one.network_id):
        figures = {
            "behind_seconds": one.behind_s,
            "max_age_seconds": one.behind_max_s,
            "waiting_notes": one.waiting,
            "recall_floor_ratio": one.recall_target,
            **_facts(one, now),
        }
        for name, value in figures.items():
            if value is not None:
                yield Reading(f"stateroom_index_{name}", (one.network_id,), value)
        for result in RefreshResult:
            count = one.results.get(result.value, 0)
            yield Reading("stateroom_index_refreshes_total", (one.network_id, result.value), count)


def _facts(one: IndexHealth, now: datetime) -> dict[str, float | None]:
    """Of the generation that serves, and of the last scrub."""
    facts, scrub = one.facts, one.scrub
    figures: dict[str, float | None] = {}
    if facts is not None:
        figures |= {
            "age_seconds": max(0.0, (now - facts.built_at).total_seconds()),
            "recall_ratio": facts.recall,
            "notes": facts.live,
            "vectors": facts.ntotal,
            "dead_ratio": facts.dead_share,
            "bytes": facts.size_bytes,
            "build_seconds": facts.build_s,
        }
    if scrub is not None:
        figures |= {
            "damaged_parts": scrub.damaged,
            "scrub_age_seconds": max(0.0, (now - scrub.at).total_seconds()),
        }
    return figures
