"""What a moment means in a vault: the rows that restore it, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from resources.vault.packs.manifest import Manifest

_NAMED = 5


class Substitution(NamedTuple):
    """An agent that comes back as something else than it (certainly) was at the moment."""

    agent_id: str
    wanted_version: int | None
    """Newest version known to have been stored by then."""
    version: int
    """Version that is restored in its place."""
    updated_at: datetime
    """When that one was stored."""
    reason: str


class Moment(NamedTuple):
    """What restores a moment."""

    snapshot_id: str
    """Snapshot that it begins at."""
    taken_at: datetime
    """Moment of that snapshot's cut."""
    snapshots: tuple[str, ...]
    """Every snapshot whose packs are read."""
    achieved: datetime
    """Moment that the states are of: the one wanted, or the newest that is covered."""
    manifest: Manifest
    from_journal: frozenset[str]
    """Agents whose state comes from the journal."""
    substitutions: tuple[Substitution, ...]
    missing: tuple[tuple[str, str], ...]
    """Agents that had a state by then of which nothing is held, with the reason."""
    notes: tuple[str, ...]
    """What could not be looked at, or was not recorded."""
    certain: bool = True
    """Whoever is not among the substitutions or the missing is exactly as at the moment; False
    when part of the journal is lost, so that anybody may have had a newer version."""


def listed_names(names: Sequence[str]) -> str:
    """A few names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
