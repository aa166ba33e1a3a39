"""Who may write: epochs of a log, the claims to them, and which records are the chain.

A region becomes the writer by winning the claims to a higher epoch in a majority of the configured
regions. Readers need no claim: the records of the highest epoch count, and of each older one those
up to the point where its successor forked off. The rest is a branch, kept and listed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from fleet.errors import CorruptObjectError
from fleet.vault_log import EvidenceRecord, LogRecord

PROMOTE = "promote"
"""Kind of the evidence record that begins an epoch."""


class Slot(NamedTuple):
    """Where a record of the main log lies."""

    epoch: int
    seq: int


class Promotion(NamedTuple):
    """The first record of an epoch: whose it is, and where it forked off."""

    epoch: int
    region: str
    from_epoch: int
    from_seq: int
    """The last record that the promoted region had; its own record is the next one."""
    votes: tuple[str, ...]
    """Regions whose claim it holds."""
    operator: bool
    """Whether an operator's word stood in for a majority."""


def encode_promotion(promotion: Promotion) -> EvidenceRecord:
    """As the record that begins the epoch."""
    fields = {**promotion._asdict(), "votes": sorted(promotion.votes)}
    return EvidenceRecord(PROMOTE, json.dumps(fields, sort_keys=True, separators=(",", ":")))


def decode_promotion(record: LogRecord) -> Promotion | None:
    """The promotion in a record; None when it is another record.

    Raises:
        CorruptObjectError: it calls itself one and is none.
    """
    if not isinstance(record, EvidenceRecord) or record.kind != PROMOTE:
        return None
    try:
        fields = json.loads(record.detail)
        return Promotion(**{**fields, "votes": tuple(fields["votes"])})
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptObjectError(f"promotion record cannot be read: {error}") from error


def first_slots(slots: Iterable[Slot]) -> dict[int, Slot]:
    """The first listed slot of each epoch."""
    first: dict[int, Slot] = {}
    for slot in sorted(slots):
        first.setdefault(slot.epoch, slot)
    return first


def select_chain(slots: Iterable[Slot], forks: Mapping[int, Slot]) -> tuple[Slot, ...]:
    """The slots that make up the log, in order; whatever else is listed is a branch.

    Args:
        slots: every slot that is listed.
        forks: by epoch, the last slot of the older epoch that it continues; an epoch without
            one begins the log.
    """
    by_epoch: dict[int, list[Slot]] = {}
    for slot in sorted(slots):
        by_epoch.setdefault(slot.epoch, []).append(slot)
    if not by_epoch:
        return ()
    parts: list[Sequence[Slot]] = []
    epoch, last_seq = max(by_epoch), float("inf")
    while True:
        parts.append([one for one in by_epoch.get(epoch, ()) if one.seq <= last_seq])
        fork = forks.get(epoch)
        if fork is None or fork.epoch >= epoch:
            break
        epoch, last_seq = fork.epoch, min(last_seq, fork.seq)
    return tuple(slot for part in reversed(parts) for slot in part)
