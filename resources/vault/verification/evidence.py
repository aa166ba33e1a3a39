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
    StoreUnavailableError,
)
from fleet.vault_keyspace import quarantine_key
from fleet.vault_log import EvidenceRecord
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


def mend_evidence(vault: NetworkVault, region: str) -> int:
    """Set the damaged part of an evidence log aside, and say so in it; how many were set aside.

    From the first record that does not verify, everything is copied to `quarantine/` and removed:
    without its predecessor a record proves nothing. So is every checkpoint that holds one of them,
    first, so that none outlives its records. Killed in between and run again, it goes on.
    """
    log = vault.local_log(region)
    try:
        log.read_whole()
    except (CorruptObjectError, NotFoundError) as error:
        cause = str(error)
    else:
        return 0
    good = log.last_valid()
    doomed = [one.key for one in log.listed() if one.key > log.key_of(good)]
    beyond = log.checkpoints_beyond(good)
    for key in [*beyond, *doomed]:
        data = vault.store.get(key)
        vault.store.create(quarantine_key(key, hashlib.sha256(data).hexdigest()), data)
    vault.store.delete(beyond)
    # The last one first: killed in between, the part that is left still ends with a bad record.
    for key in reversed(doomed):
        vault.store.delete([key])
    text = f"{len(doomed)} records from number {good + 1} on were set aside: {cause}"
    note = NoteEvidence(vault.network_id, region, text, vault.clock.now())
    record_evidence(vault, region, note)
    return len(doomed)


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
