"""Who may write: epochs of a log, the claims to them, and which records are the chain.

A region becomes the writer by winning the claims to a higher epoch in a majority of the configured
regions. Readers need no claim: the records of the highest epoch count, and of each older one those
up to the point where its successor forked off. The rest is a branch, kept and listed.
"""

from __future__ import annotations

import hashlib
import hmac
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


class Claim(NamedTuple):
    """What stands in one region's vault under the claim to an epoch."""

    region: str
    """Who claims; '' when the object is no authentic claim."""
    head_epoch: int
    head_seq: int
    """The claimant's last record."""


class ClaimVerdict(NamedTuple):
    """Whether a region may begin the epoch that it claims."""

    action: str
    """`won`; `lost` to another region; `tie`: nobody can win any more; `undecided`."""
    reason: str
    votes: tuple[str, ...] = ()
    """Regions whose vault holds our claim."""
    operator: bool = False
    """Whether it was won by an operator's word, not by a majority."""


def encode_claim(claim: Claim, network_id: str, epoch: int, log_key: bytes) -> bytes:
    """The object to create in the vault of each region, authenticated like a record."""
    fields = {**claim._asdict(), "epoch": epoch, "network_id": network_id}
    fields["hmac"] = _claim_signature(fields, log_key)
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def decode_claim(data: bytes, network_id: str, epoch: int, log_key: bytes) -> Claim:
    """The claim in an object; one that is not authentic claims for nobody and blocks its slot."""
    try:
        fields = json.loads(data)
        signature = str(fields.pop("hmac"))
        place = (fields.pop("network_id"), fields.pop("epoch"))
        signed = {**fields, "epoch": place[1], "network_id": place[0]}
        if hmac.compare_digest(signature, _claim_signature(signed, log_key)):
            claim = Claim(**fields)
            return claim if place == (network_id, epoch) else Claim("", 0, 0)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Claim("", 0, 0)
    return Claim("", 0, 0)


def _claim_signature(fields: Mapping[str, object], log_key: bytes) -> str:
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hmac.new(log_key, text.encode(), hashlib.sha256).hexdigest()


def decide_claims(
    claims: Mapping[str, str | None], regions: Sequence[str], mine: str, *, operator_decides: bool
) -> ClaimVerdict:
    """Say whether a region has won an epoch, by the claims that stand in each region's vault.

    A majority of the CONFIGURED regions decides, so two regions can never both win one epoch.
    Where no majority can be reached (of two regions one is gone) an operator's word stands in for
    the missing votes, as long as nobody else's claim is seen.

    Args:
        claims: by region whose vault was asked: the claimant, None for an unanswered region.
        regions: all configured regions.
        mine: the region that wants to write.
        operator_decides: a person has made sure that no other region writes.
    """
    needed = len(regions) // 2 + 1
    votes = tuple(sorted(one for one in regions if claims.get(one) == mine))
    others: dict[str, int] = {}
    for region in regions:
        claimant = claims.get(region)
        if claimant is not None and claimant != mine:
            others[claimant] = others.get(claimant, 0) + 1
    silent = sum(claims.get(one) is None for one in regions)
    if len(votes) >= needed:
        return ClaimVerdict("won", f"{len(votes)} of {len(regions)} regions", votes)
    named = {claimant: count for claimant, count in others.items() if claimant}
    winner = next((one for one, count in named.items() if count >= needed), None)
    if winner is not None:
        return ClaimVerdict("lost", f"{winner} holds {named[winner]} of {len(regions)}", votes)
    if operator_decides and votes and not others:
        reason = f"an operator decides: {len(votes)} of {len(regions)}, no other claim"
        return ClaimVerdict("won", reason, votes, operator=True)
    best = max([len(votes), *named.values()])
    if best + silent < needed:
        return ClaimVerdict("tie", f"no region can reach {needed} of {len(regions)}", votes)
    reason = f"{len(votes)} of {len(regions)} regions, {needed} are needed, {silent} do not answer"
    return ClaimVerdict("undecided", reason, votes)
