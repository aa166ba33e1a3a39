"""Cuts of the agent states: all of them, or only those touched since an earlier cut.

A backup compares with its base. What has not been touched since the base's cut cannot differ from
it, so only the change log behind that cut has to be looked at, provided that this is still the
store of that cut, that it has not been put back to a moment before it, and that nothing happened
which the change log does not tell. `explain_broken` decides that; when in doubt, all is listed.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from fleet.errors import CorruptObjectError
from fleet.inventory import AgentStateInfo
from fleet.moments import microseconds
from fleet.packed_texts import PackedTexts, TextPacker

DIGEST_BYTES = 32
"""Of SHA-256."""


class ChangeCursor(NamedTuple):
    """Where one cut of a network's states stands in the change log of its control store."""

    change_id: int
    """Newest entry before the listing; what came later is looked at by the next cut."""
    token: str
    """Made of chance for this cut and stored in the control store together with reading
    `change_id`: a store that was put back to a moment before the cut, made anew, or exchanged for
    another one does not hold it."""
    moves: str
    """Changes, to something of chance, with everything that alters which states a network has and
    is not in the change log: a state is deleted, an agent comes to belong to another network."""


class CutFacts(NamedTuple):
    """What a control store says of a cursor."""

    token: str
    """Of the network's newest cut; empty for none."""
    moves: str
    has_entry: bool
    """Whether the entry at the cursor is still there: trimming takes the oldest first."""


class StateColumns(NamedTuple):
    """Metadata of many states as columns, each in the same order: 90 bytes an agent, no object."""

    agent_ids: PackedTexts
    """Ordered, each once."""
    versions: array[int]
    sizes: array[int]
    """Bytes of each state."""
    updated_us: array[int]
    """When each was stored, in microseconds since 1970."""
    digests: bytes
    """SHA-256 of each state, 32 bytes a state."""


class StateListing(NamedTuple):
    """A cut: what it lists, and from where the next one may go on."""

    states: StateColumns
    cursor: ChangeCursor
    is_whole: bool
    """Whether it lists every state of the network, or only those that were touched."""
    broken: str
    """Why the earlier cut cannot be gone on from; empty when it can."""


def explain_broken(since: ChangeCursor | None, facts: CutFacts) -> str:
    """Say why an earlier cut cannot be gone on from; an empty text means that it can.

    Args:
        since: of the cut to go on from; None when there is none.
        facts: what the control store says now.
    """
    if since is None:
        return "no earlier cut is known"
    if not since.token or since.token != facts.token:
        return "the control store does not know the earlier cut: it is another one, or was put back"
    if since.moves != facts.moves:
        return "a state was deleted, or an agent changed its network"
    if not facts.has_entry:
        return f"the change log no longer holds entry {since.change_id}: it was trimmed past it"
    return ""


def state_columns(rows: Iterable[Sequence[Any]]) -> StateColumns:
    """Turn rows into columns, holding no row.

    Args:
        rows: agent id, version, size, digest in hexadecimal, microseconds; by agent id.

    Raises:
        CorruptObjectError: a digest is no SHA-256.
    """
    agent_ids = TextPacker()
    versions, sizes, updated_us = array("q"), array("q"), array("q")
    digests = bytearray()
    for agent_id, version, size_bytes, digest, updated in rows:
        agent_ids.add(agent_id)
        versions.append(version)
        sizes.append(size_bytes)
        updated_us.append(updated)
        digests += _digest(digest, agent_id)
    return StateColumns(agent_ids.packed(), versions, sizes, updated_us, bytes(digests))


def columns_of(infos: Iterable[AgentStateInfo]) -> StateColumns:
    """The same of records."""
    return state_columns(
        (one.agent_id, one.version, one.size_bytes, one.digest, microseconds(one.updated_at))
        for one in infos
    )


def cursor_fields(cursor: ChangeCursor) -> dict[str, Any]:
    """A cursor as it stands in a snapshot's record."""
    return cursor._asdict()


def cursor_of(entry: Mapping[str, Any] | None) -> ChangeCursor | None:
    """The cursor of a cut of states; None where it names none that can be gone on from.

    Args:
        entry: `cut.states` of a snapshot record; None when the snapshot has none.
    """
    fields = (entry or {}).get("cursor")
    if not isinstance(fields, Mapping):
        return None
    change_id, token, moves = (fields.get(name) for name in ChangeCursor._fields)
    if not isinstance(change_id, int) or not isinstance(token, str) or not isinstance(moves, str):
        return None  # of a later version: listing everything is always right
    return ChangeCursor(change_id, token, moves)


def _digest(text: str, agent_id: str) -> bytes:
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) != DIGEST_BYTES:
        raise CorruptObjectError(
            f"state of agent {agent_id}: its digest {text[:80]!r} is no SHA-256",
            hint="Restore this agent's state from a backup, and check the disk.",
        )
    return digest
