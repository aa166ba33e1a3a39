"""What an agent remembers and finds again: the documents of notes with vectors and of searches.

A search is advice. Whatever keeps it from being done (no index yet, a reader that is being started,
a supervisor that is older than search) is told in the answer and never raised, so that no agent
ends because its memory could not be asked. Only a wrong question is raised, and the fence.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from stateroom_agent.errors import RefusedError

SEARCH_PATIENCE_S = 20.0
"""For all attempts of one search; the first after a long pause starts the node's reader."""


class Hit(NamedTuple):
    """A note that was found."""

    note_id: str
    agent_id: str
    region: str | None
    created_at: str
    """ISO 8601, UTC."""
    text: str
    score: float
    """More is better."""


class Answer(NamedTuple):
    """What a search found, and how far it can be believed."""

    hits: tuple[Hit, ...] = ()
    """Best first."""
    reason: str = ""
    """Why nothing was searched; empty when it was, whether or not something was found."""
    generation: str = ""
    """Of the index that answered."""
    method: str = ""
    """How: `exact`, `index`, `exact on the subset`, each perhaps `+ bm25`."""
    candidates: int = 0
    """Notes that passed the filter."""
    newest_note_at: str | None = None
    """Newer notes than this are not in the index yet."""
    recall: float | None = None
    """Share of the true neighbours that the index finds; None where the search was exact."""
    warning: str = ""
    """What is wrong although it was answered, such as a newer index that is damaged."""


def vector_document(vector: Iterable[float] | None, model: str) -> dict[str, Any] | None:
    """A vector as requests carry it; None for none.

    Args:
        vector: numbers, of any type that `float` takes.
        model: name of what computed it; needed with a vector.

    Raises:
        RefusedError: a vector without a model or the other way round, or a number is not finite.
    """
    if vector is None:
        if model:
            raise RefusedError("model: given without a vector", "Give both or neither.")
        return None
    if not model:
        raise RefusedError(
            "model: missing", "Name what computed the vector: those of two models do not compare."
        )
    return {"model": model, "values": [_finite(*one) for one in enumerate(vector)]}


def _finite(place: int, number: float) -> float:
    try:
        value = float(number)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise RefusedError(f"vector[{place}]: {number!r} is no finite number", "Correct it.")
    return value


def read_answer(body: bytes) -> Answer:
    """The answer of a supervisor; members that this version does not know are passed over."""
    found = json.loads(body)
    hits = tuple(Hit(*(hit.get(name) for name in Hit._fields)) for hit in found["hits"])
    known = {name: found[name] for name in Answer._fields[1:] if name in found}
    return Answer(hits, **known)
