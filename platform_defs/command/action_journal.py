"""Commands that change much say so in the control store first: a crashed one shows as an incident.

`stateroom status` lists actions that have started and not ended. The first entry is committed
before anything is touched; the last one when it is over. Run again as it was, an unfinished action
goes on under its id.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from fleet.errors import PermanentError
from fleet.journal import JournalEntry
from fleet.ports.control_store import ControlStore


@contextmanager
def journaled(
    store: ControlStore, kind: str, subject: str, reason: str, *, same_reason: bool = True
) -> Iterator[dict[str, Any]]:
    """One action of one step: started, then done; an unfinished one of the same kind goes on.

    It stays open when the process dies, when it is interrupted, and when something that must be
    reached does not answer: part of it may be done then. What is refused has done nothing, and is
    over.

    Args:
        store: takes the journal.
        kind: `restore`, `shred`, `cleanup` or `consolidation`.
        subject: what it is about.
        reason: what was asked for, in words.
        same_reason: whether only an action with this very reason is gone on with.

    Yields:
        What to keep with the last entry, as JSON; `unfinished` in it leaves the action open.

    Raises:
        StoreUnavailableError: the control store does not answer; nothing was done yet, or all.
    """
    began_s = time.monotonic()
    action_id = _open_action(store, kind, subject, reason if same_reason else None)
    action_id = action_id or f"{kind}-{subject}-{uuid.uuid4().hex[:12]}"
    entry = JournalEntry(action_id, kind, "started", subject, reason, datetime.now(UTC))
    store.append_journal([entry])
    detail: dict[str, Any] = {}
    try:
        yield detail
    except PermanentError as error:
        detail["refused"] = str(error)
        _end(store, entry, detail, began_s)
        raise
    if not detail.pop("unfinished", False):
        _end(store, entry, detail, began_s)


def _open_action(store: ControlStore, kind: str, subject: str, reason: str | None) -> str:
    for one in store.open_actions():
        if (one.step, one.subject) == (kind, subject) and reason in {None, one.reason}:
            return one.action_id
    return ""


def _end(store: ControlStore, entry: JournalEntry, detail: dict[str, Any], began_s: float) -> None:
    ended = entry._replace(
        status="done",
        at=datetime.now(UTC),
        duration_s=time.monotonic() - began_s,
        detail=json.dumps(detail, default=str),
    )
    store.append_journal([ended])
