"""How far one copy of a network has come, from its own log."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from resources.vault.network import NetworkVault


class CopyHead(NamedTuple):
    """How far one copy of a network has come."""

    records: int
    snapshot_id: str
    """Newest live snapshot; empty for none."""
    snapshot_at: datetime | None


def copy_head(vault: NetworkVault) -> CopyHead:
    """Read a copy's log up to its end.

    Raises:
        CorruptObjectError: the log is damaged.
    """
    state = vault.log.refresh()
    newest = max(state.live.values(), key=lambda one: one.taken_at, default=None)
    if newest is None:
        return CopyHead(state.head, "", None)
    return CopyHead(state.head, newest.snapshot_id, newest.taken_at)
