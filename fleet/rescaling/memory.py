"""What rules beyond Kubernetes remember between reconciles: one JSON text for each rule.

The texts travel in `AutoscalerState.details`, so another process goes on in the middle of a window.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fleet.errors import InvalidInputError

_HINT = "`stateroom scaling forget WORKLOAD --region REGION` lets its windows begin anew."


def recall(details: Mapping[str, str], rule: str) -> Mapping[str, Any] | None:
    """What a rule has noted; None before its first reconcile.

    Raises:
        InvalidInputError: the text is no object; it was damaged, or is a newer Stateroom's.
    """
    text = details.get(rule)
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise damaged(rule, text) from error
    if not isinstance(found, dict):
        raise damaged(rule, text)
    return found


def note(memory: Mapping[str, object]) -> str:
    """The text of what a rule notes; equal notes have equal texts."""
    return json.dumps(memory, separators=(",", ":"), sort_keys=True)


def moment_text(moment: datetime | None) -> str | None:
    """A moment as it is noted."""
    return None if moment is None else moment.isoformat()


def moment_in(rule: str, memory: Mapping[str, Any], name: str) -> datetime | None:
    """A moment that was noted; None where there is none.

    Raises:
        InvalidInputError: it is no moment with a time zone.
    """
    text = memory.get(name)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except (ValueError, TypeError) as error:
        raise damaged(rule, text) from error
    if moment.tzinfo is None:
        raise damaged(rule, text)
    return moment


def count_in(rule: str, memory: Mapping[str, Any], name: str) -> int:
    """A count that was noted; 0 where there is none.

    Raises:
        InvalidInputError: it is no whole number of 0 or more.
    """
    found = memory.get(name, 0)
    if type(found) is not int or found < 0:
        raise damaged(rule, found)
    return found


def damaged(rule: str, text: object) -> InvalidInputError:
    """The error for a note that cannot be understood."""
    return InvalidInputError(f"remembered of rule {rule}", text, "what it has noted", hint=_HINT)
