"""`POST /v1/agents/{agent_id}/search`: an agent asks what its network remembers.

The network is the one that the agent was placed in: no request can name another. What keeps a
search from being done is told in the answer (`reason`), because an agent is to go on without it;
only a wrong question is an error, and "not now" a 503 that may be repeated.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Protocol

from fleet.agents import NoteVector
from fleet.errors import CorruptObjectError, InvalidInputError, NotFoundError
from fleet.vectors.declaration import VectorDeclaration
from fleet.vectors.filter_text import TEXT_MAX_CHARS as WHERE_MAX_CHARS
from fleet.vectors.filter_text import parse_filter
from resources.local.note_vectors import parse_vector

K_MAX = 100
"""Notes in one answer; who wants all asks the lake."""
QUESTION_MAX_CHARS = 4096
"""As a note; more is no question."""

_MEMBERS = {"text", "k", "where", "hybrid", "vector"}


class NoteSearcher(Protocol):
    """What answers: the node's reader process."""

    async def ask(self, network_id: str, question: Mapping[str, Any]) -> dict[str, Any]:
        """Have a question answered; see `resources.local.search_reader.SearchReader.ask`."""
        ...


def parse_question(body: Mapping[str, Any]) -> dict[str, Any]:
    """A question as the reader takes it.

    Raises:
        InvalidInputError: names the wrong member.
    """
    others = sorted(body.keys() - _MEMBERS)
    if others:
        raise InvalidInputError(others[0], "given", f"only {sorted(_MEMBERS)}")
    question = {
        "text": _text(body.get("text")),
        "k": _k(body.get("k", 10)),
        "where": _where(body.get("where")),
        "hybrid": body.get("hybrid", False),
    }
    if not isinstance(question["hybrid"], bool):
        raise InvalidInputError("hybrid", question["hybrid"], "true or false")
    vector = parse_vector(body.get("vector"), "vector")
    if vector is not None:
        values = struct.unpack(f"<{vector.dimensions}f", vector.values)
        question["vector"] = {"model": vector.model, "values": values}
    return question


async def answer_question(
    searcher: NoteSearcher | None, network_id: str, question: Mapping[str, Any]
) -> dict[str, Any]:
    """What the agent is told: notes, or the reason why nothing was searched.

    Args:
        searcher: None where the node was started without a vector store.
        network_id: the agent's own.
        question: from `parse_question`.

    Raises:
        InvalidInputError: the question does not fit the network.
        StoreUnavailableError: not now.
    """
    if searcher is None:
        return _not_searched("this node was started without a vector store")
    try:
        return {**await searcher.ask(network_id, question), "reason": ""}
    except (NotFoundError, CorruptObjectError) as error:
        return _not_searched(str(error))


def demand_fitting(
    vector: NoteVector | None, network_id: str, declaration: VectorDeclaration | None, path: str
) -> None:
    """Refuse a note's vector that the network's index cannot hold: it would be dropped silently.

    Args:
        vector: of the note; None is always accepted.
        network_id: of its agent.
        declaration: None where the node knows of no indexes; then anything is accepted.
        path: of the member, for the error.

    Raises:
        InvalidInputError: the network takes no vectors, or those of another model.
    """
    if vector is None or declaration is None or network_id not in declaration.network_ids:
        return
    model = declaration.network(network_id).given
    if model is None:
        raise InvalidInputError(
            path,
            vector.model,
            f"no vector: those of network {network_id} are computed by the platform",
            hint=f"Leave it out, or set networks.{network_id}.vectors.embedder to 'given'.",
        )
    if vector.model != model.name:
        raise InvalidInputError(f"{path}.model", vector.model, model.name)
    if vector.dimensions != model.dimensions:
        allowed = f"{model.dimensions} numbers"
        raise InvalidInputError(f"{path}.values", f"{vector.dimensions} numbers", allowed)


def _not_searched(reason: str) -> dict[str, Any]:
    return {
        "hits": [],
        "generation": "",
        "method": "",
        "candidates": 0,
        "built_at": None,
        "newest_note_at": None,
        "recall": None,
        "warning": "",
        "reason": reason,
    }


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > QUESTION_MAX_CHARS:
        found = f"{len(value)} characters" if isinstance(value, str) else value
        raise InvalidInputError("text", found, f"1 to {QUESTION_MAX_CHARS} characters, not blank")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise InvalidInputError("text", ascii(value[:40]), "text without lone surrogates")
    return value


def _k(value: object) -> int:
    if type(value) is not int or not 1 <= value <= K_MAX:
        raise InvalidInputError("k", value, f"a whole number from 1 to {K_MAX}")
    return value


def _where(value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > WHERE_MAX_CHARS:
        found = f"{len(value)} characters" if isinstance(value, str) else value
        raise InvalidInputError("where", found, f"a filter of {WHERE_MAX_CHARS} characters at most")
    parse_filter(value)
    return value
