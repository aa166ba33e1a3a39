"""Action journal: every step of every action, in the order it was committed.

An action is resumed by reading its steps: the (action_id, step) pair is unique, so a step that was
recorded is never done twice.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple


class JournalEntry(NamedTuple):
    """One step of one action."""

    action_id: str
    step: str
    status: str
    """`started`, `done` or `failed`."""
    subject: str
    """The node, agent, region or network that it is about."""
    reason: str
    at: datetime
    duration_s: float | None = None
    detail: str = "{}"
    """JSON object with what was seen and done."""
