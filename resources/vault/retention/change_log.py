"""Trimming the control store's change log: what every reader has passed, and nothing young.

Its readers are the journals and the backups of all networks. What is trimmed is gone from the log
alone: states, journals and snapshots keep what they hold. The deletion is committed in short
transactions, oldest entries first; one that is killed is made up for by the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from fleet.agents import StateChange
from fleet.state_cuts import cursor_of
from resources.vault.network import NetworkVault

KEEP = timedelta(hours=48)
"""Entries younger than this stay, whoever has passed them: for a reader that is set back by a
restore of its vault, and for people who look into what happened."""


class ChangeLog(Protocol):
    """The part of `fleet.ports.AgentStateStore` that is trimmed."""

    def state_changes(self, after: int, limit: int) -> list[StateChange]:
        """Change log entries behind a cursor, in order."""
        ...

    def trim_state_changes(self, up_to: int) -> int:
        """Remove change log entries that every reader has passed."""
        ...


def trim_change_log(
    vaults: Mapping[str, NetworkVault], log: ChangeLog, now: datetime, keep: timedelta = KEEP
) -> int:
    """Delete the entries that all networks' journals and backups have passed.

    Args:
        vaults: every network of the fleet that has a snapshot; one that is left out reads all its
            states anew.
        log: the control store.
        now: the moment against which age is judged.
        keep: how long an entry stays at least.

    Returns:
        How many entries were deleted.

    Raises:
        StoreUnavailableError: a store does not answer; running again goes on.
        CorruptObjectError: the newest segment of a journal is damaged.
    """
    passed = trimmable_cursor(vaults.values())
    up_to = _newest_before(log, passed, now - keep)
    return log.trim_state_changes(up_to) if up_to else 0


def trimmable_cursor(vaults: Iterable[NetworkVault]) -> int:
    """Up to which change log entry every network's journal and backup have read.

    The entry at a cursor itself stays: by it the next pass sees that the log still continues what
    it has read, and has not been trimmed past it.

    Returns:
        The entry's id; 0 when nothing may be removed.
    """
    cursors = [one for vault in vaults for one in _cursors(vault)]
    return max(0, min(cursors, default=0) - 1)


def _cursors(vault: NetworkVault) -> Sequence[int]:
    """Where the network's journal and the next backup go on; 0 for one that has not begun."""
    head = vault.journal.head()
    live = list(vault.log.refresh().live)
    if head is None or head.header.covered_at is None or not live:
        return [0]
    cut = vault.snapshot(live[-1]).extra.get("cut", {})
    backup = cursor_of(cut.get("states"))
    # A backup without a cursor compares every state: it reads no change log.
    return [head.header.cursor] if backup is None else [head.header.cursor, backup.change_id]


def _newest_before(log: ChangeLog, up_to: int, due: datetime) -> int:
    """The newest of the entries up to a number that is older than `due`; 0 for none.

    Found by halving, because the log may be long and is not indexed by time. Where the store's
    clock was set back it may find an older one; what is trimmed has been passed by all anyway.
    """
    found, last = 0, up_to
    while found < last:
        middle = (found + last + 1) // 2
        page = log.state_changes(middle - 1, 1)
        if page and page[0].change_id <= last and page[0].changed_at <= due:
            found = page[0].change_id
        else:
            last = middle - 1
    return found
