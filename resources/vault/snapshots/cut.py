"""The cut record of a snapshot: to which moment, and how consistently, each of its parts belongs.

What a snapshot did not look at is carried over from its base, and so is its entry here, with the
moment at which it was last looked at: nobody takes it for fresher than it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from fleet.backup import ArtefactOutcome
from fleet.state_cuts import ChangeCursor, cursor_fields

_ERROR_CHARS = 500
_PATHS = 5


def states_entry(
    taken_at: datetime, agents: int, cursor: ChangeCursor | None, whole: str
) -> dict[str, Any]:
    """How the agent states were cut.

    Args:
        taken_at: moment before the listing.
        agents: with a state.
        cursor: from where the next cut may go on; None where it must compare everything.
        whole: why all states were compared; empty when only those were that had been touched.
    """
    entry: dict[str, Any] = {"taken_at": taken_at.isoformat(), "agents": agents}
    if whole:
        entry["whole"] = whole
    return entry if cursor is None else {**entry, "cursor": cursor_fields(cursor)}


def without_cursor(states: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A states' entry after which the next cut compares everything."""
    if states is None:
        return None
    return {name: value for name, value in states.items() if name != "cursor"}


def artefact_entry(
    taken_at: datetime, outcome: ArtefactOutcome, before: Mapping[str, Any]
) -> dict[str, Any]:
    """How one artefact was cut.

    Args:
        taken_at: moment before it was looked at.
        outcome: what came of it.
        before: its entry in the base; its copy stays the last good one when this one failed, and
            describes what was not read again.
    """
    if outcome.error:
        failed = {
            "error": outcome.error[:_ERROR_CHARS],
            "failed_at": taken_at.isoformat(),
            "failed": [list(one) for one in outcome.failed[:_PATHS]],
        }
        return {"kind": outcome.kind, "items": outcome.items, **before, **failed}
    return {
        "kind": outcome.kind,
        "taken_at": taken_at.isoformat(),
        "items": outcome.items,
        "changed": outcome.changed,
        "removed": outcome.removed,
        "skipped": [list(one) for one in outcome.skipped[:_PATHS]],
        "about": dict(outcome.about or before.get("about", {})),
    }


def cut_record(
    base: Mapping[str, Any],
    taken_at: datetime,
    states: Mapping[str, Any] | None,
    artefacts: Mapping[str, Mapping[str, Any]],
    retired: Iterable[str],
) -> dict[str, Any]:
    """The whole record: what was looked at, and what was carried over.

    Args:
        base: the base's cut record; empty for none.
        taken_at: moment of this cut.
        states: entry of the states; None when they were not looked at.
        artefacts: entries of those that were looked at.
        retired: artefacts that are gone.
    """
    carried = {
        name: entry for name, entry in base.get("artefacts", {}).items() if name not in set(retired)
    }
    return {
        "taken_at": taken_at.isoformat(),
        "states": states if states is not None else base.get("states"),
        "artefacts": {**carried, **artefacts},
        "looked_at": sorted([*artefacts, *(["state"] if states is not None else [])]),
    }
