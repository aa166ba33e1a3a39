"""What a promotion would find and decide, without a claim or a record being written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fleet.errors import (
    InvalidInputError,
    NotFoundError,
    PermanentError,
    StateroomError,
    StoreUnavailableError,
)
from fleet.pack_keys import derive_key
from fleet.ports.object_store import ObjectStore
from fleet.vault_epochs import ClaimVerdict, decide_claims, decode_claim
from fleet.vault_keyspace import VAULT_KEY, claim_key
from resources.vault.network import NetworkVault
from resources.vault.replicas.promote import EPOCH_TRIES


class OtherCopy(NamedTuple):
    """What another region says at this moment."""

    region: str
    answers: bool
    claimant: str
    """Region that has claimed the epoch there; empty for none."""
    ahead: int
    """Records that it has and the promoted region lacks: they would become a branch."""
    said: str
    """Why it has no vote, or why its log cannot be compared; empty for neither."""


class PromotionPreview(NamedTuple):
    """What `promote` would do now."""

    network_id: str
    region: str
    records: int
    snapshot_id: str
    """Newest live snapshot of the region's copy; empty for none."""
    epoch: int
    """That would be begun; that stands, where the region writes already."""
    is_writer: bool
    """Whether the region has been promoted already."""
    verdict: ClaimVerdict
    others: tuple[OtherCopy, ...]

    @property
    def ahead(self) -> int:
        """Records that would be left aside, of the region that has most of them."""
        return max((one.ahead for one in self.others), default=0)


def preview_promotion(
    vault: NetworkVault,
    stores: Mapping[str, ObjectStore],
    *,
    operator_decides: bool = False,
    supersede: int = 0,
) -> PromotionPreview:
    """Look at all regions as `promote` does; arguments as there, nothing is written.

    Raises:
        InvalidInputError: the vault's region is none of the stores'.
        CorruptObjectError: the region's own log is damaged.
        StoreUnavailableError: the region itself does not answer.
    """
    if vault.region not in stores:
        raise InvalidInputError("region", vault.region, f"one of {', '.join(sorted(stores))}")
    state = vault.log.refresh()
    standing = vault.log.promotion
    is_writer = bool(
        standing is not None and standing.region == vault.region and supersede < standing.epoch
    )
    epoch = vault.log.epoch if is_writer else max(vault.log.epoch, supersede) + 1
    for _ in range(EPOCH_TRIES):
        looked = {one: _look(vault, one, stores[one], epoch) for one in sorted(stores)}
        claims = {
            one: found.claimant or vault.region for one, found in looked.items() if found.answers
        }
        verdict = decide_claims(
            claims, sorted(stores), vault.region, operator_decides=operator_decides
        )
        if verdict.action != "tie":
            break
        epoch += 1
    if is_writer:
        verdict = ClaimVerdict("won", "it was promoted already")
    return PromotionPreview(
        vault.network_id,
        vault.region,
        state.head,
        next(reversed(list(state.live)), ""),
        epoch,
        is_writer,
        verdict,
        tuple(found for one, found in looked.items() if one != vault.region),
    )


def _look(vault: NetworkVault, region: str, store: ObjectStore, epoch: int) -> OtherCopy:
    """Vote and log of one region."""
    try:
        store.get(VAULT_KEY, 0, 1)
    except (PermanentError, StoreUnavailableError) as error:
        said = "has no vault" if isinstance(error, NotFoundError) else str(error)
        return OtherCopy(region, answers=False, claimant="", ahead=0, said=said)
    claimant, ahead, said = "", 0, ""
    try:
        key = derive_key(vault.keys.data_key, b"", b"stateroom claim")
        data = store.get(claim_key(vault.network_id, epoch))
        claimant = decode_claim(data, vault.network_id, epoch, key).region or "nobody"
    except NotFoundError:
        claimant = ""
    except StateroomError as error:
        return OtherCopy(region, answers=False, claimant="", ahead=0, said=str(error))
    try:
        ahead = _ahead(vault, NetworkVault(store, vault.keys, vault.clock, region=region))
    except StateroomError as error:
        said = f"its log cannot be compared: {error}"
    return OtherCopy(region, answers=True, claimant=claimant, ahead=ahead, said=said)


def _ahead(vault: NetworkVault, other: NetworkVault) -> int:
    """How many records of another copy this one does not have."""
    other.log.refresh()
    ours, theirs = vault.log.records, other.log.records
    pairs = zip(ours, theirs, strict=False)
    common = next(
        (n for n, (a, b) in enumerate(pairs) if a.sha256 != b.sha256), min(len(ours), len(theirs))
    )
    return len(theirs) - common
