"""Vector indexes in `stateroom status`: one read of the control store, no index is opened."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from fleet.ports.note_store import NoteIndexStore
from fleet.vectors.health import COUNT_MAX, IndexHealth, all_health
from fleet.vectors.refresh_due import waiting_text
from platform_defs.command.output import age, cell_text
from platform_defs.declared_vectors import declared_vectors
from platform_defs.settings import Settings

LINES_MAX = 10
"""Networks with a line of their own; those with problems first."""


def read_index_health(
    store: NoteIndexStore, settings: Settings, now: datetime
) -> tuple[IndexHealth, ...]:
    """How the index of each network that ever had a note stands."""
    return tuple(all_health(store.note_backlogs(COUNT_MAX), declared_vectors(settings), now))


def index_texts(found: Sequence[IndexHealth], now: datetime) -> list[str]:
    """A line for each network, worst first."""
    ordered = sorted(found, key=lambda one: (not one.problems(), one.network_id))
    lines = [_line(one, now) for one in ordered[:LINES_MAX]]
    hidden = len(ordered) - LINES_MAX
    if hidden > 0:
        lines.append(f"  ... and {hidden} more indexes; `stateroom status --json` lists all")
    return lines


def _line(one: IndexHealth, now: datetime) -> str:
    name = f"index {one.network_id}:"
    waiting = waiting_text(one.waiting) if one.waiting else "holds every note"
    if one.waiting:
        waiting += f" ({one.behind_s:.1f} s)"
    if one.facts is None:
        return f"{name} none yet, {waiting}"
    recall = "not measured" if one.facts.recall is None else f"recall {one.facts.recall:.4f}"
    built = f"{age(one.facts.built_at, now)} old"
    return f"{name} {one.facts.live} notes, {recall}, {built}, {waiting}"


def index_findings(found: Sequence[IndexHealth]) -> list[str]:
    """What is wrong, one sentence each."""
    return [
        cell_text(f"index {one.network_id}: {problem}")
        for one in found
        for problem in one.problems()
    ]


def index_documents(found: Sequence[IndexHealth]) -> list[dict[str, Any]]:
    """What `--json` prints of each index."""
    return [
        {
            **one._asdict(),
            "facts": None if one.facts is None else one.facts._asdict(),
            "scrub": None if one.scrub is None else one.scrub._asdict(),
            "problems": one.problems(),
        }
        for one in found
    ]
