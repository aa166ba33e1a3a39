"""Looks at FAISS files of services: a fact sheet for the catalogue, and what is wrong.

Nothing is written but evidence. A file that does not open, or that rots, makes no materialization:
what the next look is held against is the last sound one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fleet.vectors.adoption import AdoptedIndex, judge_adopted, look_document
from fleet.vectors.declaration import AdoptedDeclaration

LOOK_JOB = "look_at_indexes_job"
LOOK_CLASS = {"stateroom/class": "upkeep"}
LOOK = "look"
"""Metadata that holds a look as JSON."""


class AdoptedFinding(NamedTuple):
    """What a look at one adopted index has shown."""

    look: AdoptedIndex
    problems: tuple[str, ...]
    """In words; empty when it is sound."""
    news: str

    def metadata(self) -> dict[str, Any]:
        """Numbers that plot, and the words beside them."""
        look = self.look
        numbers = {
            "ntotal": look.ntotal,
            "dimensions": look.dimensions,
            "size_bytes": look.size_bytes,
            "search_ms": look.search_ms,
            "recall": look.recall,
        }
        words = {
            "index_type": look.kind,
            "metric": look.metric,
            "recall_note": look.recall_note,
            "sha256": look.sha256,
            "news": self.news,
            "path": look.path,
        }
        told = {**numbers, **words, "problems": "; ".join(self.problems)}
        return {name: value for name, value in told.items() if value not in {None, ""}}


def look_at_index(declared: AdoptedDeclaration, before: Mapping[str, Any] | None) -> AdoptedFinding:
    """Open, search and measure one adopted index, and hold it against its last sound look.

    Args:
        declared: where it lies, what its owner says of it.
        before: the last sound look as JSON; None for the first.
    """
    from resources.vectors.adopted import look_at_adopted

    look = look_at_adopted(declared.name, Path(declared.path))
    verdict = judge_adopted(look, declared, before)
    return AdoptedFinding(look, verdict.problems, verdict.news)


def finding_document(finding: AdoptedFinding) -> dict[str, Any]:
    """What the next look is held against."""
    return look_document(finding.look)
