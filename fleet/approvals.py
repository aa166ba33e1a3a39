"""What a person has approved: a snapshot that looked suspect, or a plan that forgets many.

An approval is an evidence record of the main log, so that it is authenticated, dated and copied to
every region like all else. It never outlives its subject: it names ids, not a permission.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fleet.errors import CorruptObjectError, InvalidInputError
from fleet.vault_log import EvidenceRecord, LogRecord

APPROVE = "approve"
"""Kind of the evidence record."""


class Approval(NamedTuple):
    """Somebody's word."""

    subject: str
    """Id of a snapshot that is believed, or digest of a plan's forget set."""
    snapshots: tuple[str, ...]
    """Of a plan: the ids that it may forget, sorted. Empty for a snapshot."""
    by: str
    reason: str


class Approvals(NamedTuple):
    """All approvals of a log."""

    snapshots: Mapping[str, str]
    """By id of the snapshot: who believes it and why."""
    forgets: frozenset[str]
    """Ids that may be forgotten beyond what one plan may forget by itself."""


def encode_approval(approval: Approval) -> EvidenceRecord:
    """An approval as a record of the main log.

    Raises:
        InvalidInputError: it lacks its subject, its person or its reason.
    """
    for name in ("subject", "by", "reason"):
        if not str(getattr(approval, name)).strip():
            raise InvalidInputError(f"approval.{name}", getattr(approval, name), "a text")
    fields = {
        "approve": approval.subject,
        "snapshots": sorted(approval.snapshots),
        "by": approval.by,
        "reason": approval.reason,
    }
    return EvidenceRecord(APPROVE, json.dumps(fields, sort_keys=True, separators=(",", ":")))


def decode_approval(record: LogRecord) -> Approval | None:
    """The approval in a record; None when it is another record.

    Raises:
        CorruptObjectError: it calls itself one and is none.
    """
    if not isinstance(record, EvidenceRecord) or record.kind != APPROVE:
        return None
    try:
        fields = json.loads(record.detail)
        names = ("approve", "by", "reason")
        subject, by, reason = (_text(fields[name]) for name in names)
        return Approval(subject, tuple(_text(one) for one in fields["snapshots"]), by, reason)
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptObjectError(f"approval record cannot be read: {error!r}") from error


def fold_approvals(records: Iterable[LogRecord]) -> Approvals:
    """All approvals among the records of a log; of one snapshot the newest counts."""
    believed: dict[str, str] = {}
    forgets: set[str] = set()
    for approval in filter(None, map(decode_approval, records)):
        if approval.snapshots:
            forgets |= set(approval.snapshots)
        else:
            believed[approval.subject] = f"{approval.by}: {approval.reason}"
    return Approvals(believed, frozenset(forgets))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
