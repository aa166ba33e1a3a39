"""What was told, as JSON for a cursor: small, and readable by the next version.

A text that cannot be read is no memory: at worst everything is told once more.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from fleet.notifications import NotificationMemory, ToldAlert
from fleet.ports.notifier import Alert

FORMAT = 1


def encode_memory(memory: NotificationMemory) -> str:
    """The memory as one line."""
    told = {
        key: {
            **one._asdict(),
            "alert": one.alert._asdict() | {"raised_at": one.alert.raised_at.isoformat()},
            "first_at": one.first_at.isoformat(),
            "tried_at": None if one.tried_at is None else one.tried_at.isoformat(),
        }
        for key, one in sorted(memory.told.items())
    }
    failed = {key: at.isoformat() for key, at in sorted(memory.failed.items())}
    done = {key: at.isoformat() for key, at in sorted(memory.done.items())}
    document = {"format": FORMAT, "told": told, "failed": failed, "done": done}
    return json.dumps(document, separators=(",", ":"))


def decode_memory(text: str | None) -> NotificationMemory:
    """The memory in a text; empty when there is none, or it is not ours."""
    try:
        found = json.loads(text or "{}")
        if found.get("format") != FORMAT:
            return NotificationMemory()
        told = {key: _told(fields) for key, fields in found["told"].items()}
        failed = {key: _moment(at) for key, at in found["failed"].items()}
        done = {key: _moment(at) for key, at in found["done"].items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return NotificationMemory()
    return NotificationMemory(told, failed, done)


def _told(fields: dict[str, Any]) -> ToldAlert:
    alert = dict(fields["alert"])
    alert["raised_at"] = _moment(alert["raised_at"])
    alert["facts"] = tuple((str(name), str(value)) for name, value in alert["facts"])
    tried_at, group = fields["tried_at"], fields["group"]
    return ToldAlert(
        Alert(**alert),
        tuple(fields["members"]),
        _moment(fields["first_at"]),
        fields["waits_for"],
        tuple(fields["owed"]),
        None if tried_at is None else _moment(tried_at),
        None if group is None else (str(group[0]), str(group[1])),
    )


def _moment(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text} has no zone")
    return at
