"""What has changed since a base manifest: vectorised, an unchanged agent costs no Python."""

from __future__ import annotations

from array import array
from typing import Any, NamedTuple

from fleet.state_cuts import StateColumns
from resources.vault.packs.arrow_columns import (
    as_flags,
    as_numbers,
    fixed_words,
    number,
    numbers,
    one_chunk,
    strings,
)
from resources.vault.packs.manifest import arrow, kernels


class StateDiff(NamedTuple):
    """How the live states differ from a base."""

    changed: array[int]
    """Positions in the listing, ascending: new, or of another version or digest."""
    removed: Any
    """Agent ids of the base that are gone, as an Arrow array."""


def diff_states(base: Any, states: StateColumns) -> StateDiff:
    """Find what has changed since the base, by version and digest, without looking at bytes.

    Holds the base's rows once: mostly every item is one blob, and then its columns serve as they
    are; and where nobody came or went, nobody has to be looked for.
    """
    import numpy as np

    pc = kernels()
    heads = base.select(["item_id", "version", "digest"])
    is_head = pc.equal(base["chunk"], number(0, arrow().int32()))
    if not pc.all(is_head, min_count=0).as_py():
        heads = heads.filter(is_head)
    base_ids = one_chunk(heads["item_id"])
    agent_ids = strings(states.agent_ids)
    if not len(agent_ids) or not len(base_ids):
        return StateDiff(array("q", range(len(agent_ids))), base_ids)
    versions, words = as_numbers(heads["version"]), fixed_words(heads["digest"])
    known: Any = slice(None)
    removed = base_ids.slice(0, 0)
    if not base_ids.equals(agent_ids):
        found = pc.index_in(agent_ids, value_set=base_ids)
        at, known = as_numbers(found.drop_null()), as_flags(pc.is_valid(found))
        gone = np.ones(len(base_ids), bool)
        gone[at] = False
        removed = base_ids.take(numbers(np.flatnonzero(gone)))
        versions, words = versions[at], words[at]
    same = np.zeros(len(agent_ids), bool)
    same[known] = np.frombuffer(states.versions, np.int64)[known] == versions
    listed = np.frombuffer(states.digests, np.uint64).reshape(-1, 4)
    same[known] &= (listed[known] == words).all(axis=1)
    return StateDiff(array("q", np.flatnonzero(~same).astype(np.int64).tobytes()), removed)
