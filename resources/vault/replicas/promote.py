"""Making another region the writer: claims first, then the first record of a higher epoch.

A claim is a create-only object in the vault of every region; a majority of the configured regions
decides, so two regions never both win one epoch; a store in which no vault lies has no vote. The
promotion is committed by its record in the winner's own vault. Killed before it, running again
finds its own claims and goes on; killed behind it, running again finds the promotion done. Reading
and restoring need none of this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from fleet.errors import (
    FencedError,
    InvalidInputError,
    NotFoundError,
    PermanentError,
    StoreUnavailableError,
)
from fleet.pack_keys import derive_key
from fleet.ports.object_store import ObjectStore
from fleet.vault_epochs import (
    Claim,
    ClaimVerdict,
    Promotion,
    decide_claims,
    decode_claim,
    encode_claim,
    encode_promotion,
)
from fleet.vault_keyspace import VAULT_KEY, claim_key
from fleet.vault_log import SnapshotRecord
from fleet.vault_records import StoredRecord
from resources.vault.network import NetworkVault

EPOCH_TRIES = 5
"""Epochs that one promotion claims, one after the other, when nobody wins."""
_CREATE_TRIES = 4


class Branch(NamedTuple):
    """Records that one epoch had and the next one left aside, in order."""

    epoch: int
    first_seq: int
    records: tuple[StoredRecord, ...]

    @property
    def snapshots(self) -> tuple[SnapshotRecord, ...]:
        """Snapshots that only this branch knows; nothing of them is deleted."""
        found = (one.record for one in self.records)
        return tuple(one for one in found if isinstance(one, SnapshotRecord))


def _go_on(attempt: int) -> None:
    """No wait: for a single claimant."""


def promote(
    vault: NetworkVault,
    stores: Mapping[str, ObjectStore],
    *,
    operator_decides: bool = False,
    supersede: int = 0,
    pause: Callable[[int], None] = _go_on,
) -> Promotion:
    """Make the vault's region the writer of its network.

    Args:
        vault: the region's own vault, opened with its region.
        stores: of ALL configured regions, this one included; one that does not answer is counted
            as a vote that is missing.
        operator_decides: a person has made sure that no other region writes. Needed where no
            majority can be had: with two regions, when one is gone.
        supersede: an epoch that another region won, and will never use again: a higher one is
            claimed. What that region wrote under it becomes a branch.
        pause: called with 1, 2, ... before a further epoch is tried after a tie; waits a random
            while, so that two claimants do not meet again.

    Returns:
        The promotion; the one that stands when the region has been promoted already.

    Raises:
        InvalidInputError: the vault has no region, or it is none of the stores'.
        FencedError: another region has won; replicate from it.
        StoreUnavailableError: too few regions answer; run again, or let an operator decide.
    """
    if vault.region not in stores:
        raise InvalidInputError("region", vault.region, f"one of {', '.join(sorted(stores))}")
    vault.log.refresh()
    standing = vault.log.promotion
    if standing is not None and standing.region == vault.region and supersede < standing.epoch:
        return standing
    epoch = max(vault.log.epoch, supersede) + 1
    for attempt in range(EPOCH_TRIES):
        if attempt:
            pause(attempt)
        verdict = _claim(vault, stores, epoch, operator_decides=operator_decides)
        if verdict.action == "won":
            return _begin(vault, epoch, verdict)
        if verdict.action == "lost":
            raise FencedError(
                f"network {vault.network_id}: epoch {epoch} belongs to another region: "
                f"{verdict.reason}",
                hint="Replicate from that region; if it is gone for good, supersede its epoch.",
            )
        if verdict.action == "undecided":
            raise StoreUnavailableError(
                f"network {vault.network_id}: epoch {epoch} is undecided: {verdict.reason}",
                hint="Run again when more regions answer, or let an operator decide.",
            )
        epoch += 1
    raise PermanentError(
        f"network {vault.network_id}: {EPOCH_TRIES} epochs in a row were claimed by several",
        hint="Promote one region at a time.",
    )


def branch_of(vault: NetworkVault) -> list[Branch]:
    """What earlier epochs wrote beyond the point where a later one forked off, from the store.

    Raises:
        CorruptObjectError: a record of a branch is damaged.
    """
    vault.log.refresh()
    return [
        Branch(group[0].epoch, group[0].seq, tuple(vault.log.read_branch(group)))
        for group in vault.log.branches()
    ]


def branch_packs(vault: NetworkVault) -> frozenset[str]:
    """Packs and manifests that branches need, and that no deletion may take.

    A log that never left epoch 0 has none, and is not listed again to find that out.
    """
    if vault.log.epoch == 0:
        return frozenset()
    snapshots = (one for branch in branch_of(vault) for one in branch.snapshots)
    return frozenset[str]().union(*(one.packs for one in snapshots))


def _claim(
    vault: NetworkVault,
    stores: Mapping[str, ObjectStore],
    epoch: int,
    *,
    operator_decides: bool,
) -> ClaimVerdict:
    """Claim an epoch in every region that answers, and count."""
    head = vault.log.records[-1].position if vault.log.records else None
    claim = Claim(vault.region, head.epoch if head else 0, head.seq if head else 0)
    log_key = derive_key(vault.keys.data_key, b"", b"stateroom claim")
    data = encode_claim(claim, vault.network_id, epoch, log_key)
    key = claim_key(vault.network_id, epoch)
    claims: dict[str, str] = {}
    for region in sorted(stores):
        found = _create_or_read(stores[region], key, data) if _has_vault(stores[region]) else None
        if found is not None:
            claims[region] = decode_claim(found, vault.network_id, epoch, log_key).region
    regions = sorted(stores)
    return decide_claims(claims, regions, vault.region, operator_decides=operator_decides)


def _has_vault(store: ObjectStore) -> bool:
    """Whether a vault answers, and not the empty folder of a disk that is not mounted.

    A store without a vault has no vote, else the loss of a region would add to the majority.
    """
    for _ in range(_CREATE_TRIES):
        try:
            store.get(VAULT_KEY, 0, 1)
        except StoreUnavailableError:
            continue
        except PermanentError:
            return False
        return True
    return False


def _create_or_read(store: ObjectStore, key: str, data: bytes) -> bytes | None:
    """What stands under a key after trying to create it; None when the store does not answer."""
    for _ in range(_CREATE_TRIES):
        try:
            return data if store.create(key, data) else store.get(key)
        except (StoreUnavailableError, NotFoundError):
            continue
        except PermanentError:
            return None  # refused or without a bucket: a vote that is missing, as when it is gone
    return None


def _begin(vault: NetworkVault, epoch: int, verdict: ClaimVerdict) -> Promotion:
    last = vault.log.records[-1].position if vault.log.records else None
    promotion = Promotion(
        epoch,
        vault.region,
        last.epoch if last else 0,
        last.seq if last else 0,
        verdict.votes,
        verdict.operator,
    )
    if not vault.log.begin_epoch(epoch, encode_promotion(promotion), vault.clock.now()):
        # The slot is taken: by our own record of a run that was killed, or by nobody we know.
        vault.log.refresh()
        standing = vault.log.promotion
        if standing is None or standing.region != vault.region or standing.epoch != epoch:
            raise FencedError(f"network {vault.network_id}: epoch {epoch} was begun by another")
        return standing
    return promotion
