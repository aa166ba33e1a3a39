"""Writing and reading the evidence of one region's copy.

An evidence record is committed by its creation in `local/{region}/{network}/`. Nothing here is
needed to restore: a vault whose evidence log is damaged or read-only still gives its data back,
only what was proven about it has to be proven again.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from fleet.backup_evidence import (
    Evidence,
    NoteEvidence,
    VerificationEvidence,
    decode_evidence,
    encode_evidence,
)
from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    NotFoundError,
    PermanentError,
    SchemaMismatchError,
    StoreUnavailableError,
)
from fleet.vault_epochs import Slot
from fleet.vault_keyspace import quarantine_key
from fleet.vault_log import EvidenceRecord
from resources.vault.log.checkpoint_checks import held_records
from resources.vault.log.local_log import LocalLog
from resources.vault.network import NetworkVault

_TRIES = 20


def record_evidence(vault: NetworkVault, region: str, evidence: Evidence) -> int:
    """Append evidence to a region's log; its number there.

    Raises:
        InvalidInputError: the evidence is invalid, or of another network or region.
        CorruptObjectError: the log's end is damaged: `mend_evidence` sets the damaged part aside.
            Damage before the end is found when the log is read.
        PermanentError: the vault may not be written to.
        StoreUnavailableError: the store does not answer; running again may record it twice, which
            is harmless.
    """
    for name, wanted in (("network_id", vault.network_id), ("region", region)):
        if getattr(evidence, name) != wanted:
            raise InvalidInputError(name, getattr(evidence, name), wanted)
    record = encode_evidence(evidence)
    log = vault.local_log(region)
    mark = uuid.uuid4().hex
    unanswered: StoreUnavailableError | None = None
    with _naming_the_log(log):
        log.seek_tail()
    for _ in range(_TRIES):
        with _naming_the_log(log):
            stored = log.refresh()
        for one in reversed(stored):
            if one.extra.get("mark") == mark:
                found: int = one.position.seq
                return found
        try:
            placed = log.append(record, vault.clock.now(), {"mark": mark})
        except StoreUnavailableError as error:
            unanswered = error
            continue
        except PermanentError as error:
            raise PermanentError(
                f"evidence of region {region} cannot be recorded: {error}",
                hint="Give this region write access to its own vault; what was found still holds.",
            ) from error
        if placed is not None:
            return placed.position.seq
    raise StoreUnavailableError(
        f"network {vault.network_id}: evidence of region {region} could not be placed "
        f"in {_TRIES} tries",
        hint="Run the verification again.",
    ) from unanswered


def read_local(vault: NetworkVault, region: str, after: int = 0) -> list[Evidence]:
    """All evidence of a region's copy behind a number, in order; unknown kinds are passed over.

    Args:
        vault: the opened network.
        region: whose copy.
        after: number of the last record that is known already; 0 for all.

    Raises:
        CorruptObjectError: a record is damaged, forged or missing; restoring needs none of this.
        NotFoundError: there is no record of number `after`.
    """
    log = vault.local_log(region)
    with _naming_the_log(log):
        stored = log.refresh() if after <= 0 else log.read_after(after)
    decoded = [
        decode_evidence(one.record, one.position.seq)
        for one in stored
        if isinstance(one.record, EvidenceRecord)
    ]
    return [one for one in decoded if one is not None]


def read_evidence(vault: NetworkVault, region: str, after: int = 0) -> list[VerificationEvidence]:
    """The verifications among a region's evidence; arguments and errors as `read_local`."""
    found = read_local(vault, region, after)
    return [one for one in found if isinstance(one, VerificationEvidence)]


class MendedEvidence(NamedTuple):
    """What became of a damaged evidence log."""

    recovered: int
    """Records that came back, bit by bit, out of checkpoints."""
    set_aside: int
    """Records that are lost as evidence; their bytes are in quarantine."""


def mend_evidence(vault: NetworkVault, region: str) -> MendedEvidence:
    """Bring the damaged part of an evidence log back out of checkpoints, or set it aside; say so.

    A record that a sound checkpoint holds, and that continues what is there, is put back: each is
    committed by its creation, and a run that was killed goes on. What no checkpoint holds is set
    aside: from the first record that does not verify, everything is copied to `quarantine/` and
    removed, for without its predecessor a record proves nothing. So is every checkpoint that holds
    one of them, first, so that none outlives its records. A note in the log says what was done.
    """
    try:
        vault.local_log(region).read_whole()
    except (CorruptObjectError, NotFoundError) as error:
        cause = str(error)
    else:
        return MendedEvidence(0, 0)
    recovered = _recover(vault, region)
    log = vault.local_log(region)
    try:
        log.read_whole()
    except (CorruptObjectError, NotFoundError) as error:
        set_aside = _set_aside(vault, log, str(error))
    else:
        set_aside = 0
    if recovered:
        text = f"{recovered} records came back out of checkpoints: {cause}"
        _note(vault, region, text)
    return MendedEvidence(recovered, set_aside)


def _recover(vault: NetworkVault, region: str) -> int:
    """Put back what checkpoints hold of damaged and missing records; how many."""
    log = vault.local_log(region)
    present: dict[Slot, bytes] = {}
    good: dict[Slot, str] = {}
    for listed in log.listed():
        try:
            slot, data = log.slot_of(listed.key), vault.store.get(listed.key)
            present[slot] = data
            good[slot] = log.authenticate(listed.key, data).sha256
        except (CorruptObjectError, NotFoundError, SchemaMismatchError):
            continue  # bad or foreign: what a checkpoint holds in its place comes back below
    recovered = 0
    for slot, held in sorted(held_records(log, good).items()):
        if present.get(slot) == held:
            continue
        key = log.key_of(slot.seq)
        if slot in present:
            _quarantine(vault, key, present[slot])
            vault.store.delete([key])
        # False: somebody appended here in between; the log is read once more behind this.
        recovered += vault.store.create(key, held)
    return recovered


def _set_aside(vault: NetworkVault, log: LocalLog, cause: str) -> int:
    """Move away everything from the first bad record on; how many records that were."""
    good = log.last_valid()
    doomed = [one.key for one in log.listed() if one.key > log.key_of(good)]
    beyond = log.checkpoints_beyond(good)
    for key in [*beyond, *doomed]:
        _quarantine(vault, key, vault.store.get(key))
    vault.store.delete(beyond)
    # The last one first: killed in between, the part that is left still ends with a bad record.
    for key in reversed(doomed):
        vault.store.delete([key])
    text = f"{len(doomed)} records from number {good + 1} on were set aside: {cause}"
    _note(vault, log.region, text)
    return len(doomed)


def _quarantine(vault: NetworkVault, key: str, data: bytes) -> None:
    vault.store.create(quarantine_key(key, hashlib.sha256(data).hexdigest()), data)


def _note(vault: NetworkVault, region: str, text: str) -> None:
    record_evidence(vault, region, NoteEvidence(vault.network_id, region, text, vault.clock.now()))


@contextmanager
def _naming_the_log(log: LocalLog) -> Iterator[None]:
    """Say whose log is damaged, and that a restore does not need it."""
    try:
        yield
    except CorruptObjectError as error:
        raise CorruptObjectError(
            f"the evidence log of region {log.region} is damaged: {error}",
            hint="Mend it (mend_evidence), then verify again; restores do not need it.",
        ) from error
