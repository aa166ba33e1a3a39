"""Comparing the checkpoints of a log with its records: what V1 finds, and heal writes again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fleet.errors import CorruptObjectError, NotFoundError, SchemaMismatchError
from fleet.vault_checkpoint import CheckpointPlace, covering, epoch_at, line_of, newest_place
from fleet.vault_epochs import Slot
from fleet.vault_records import StoredRecord
from resources.vault.log.local_log import LocalLog
from resources.vault.log.log_chain import slot_at
from resources.vault.log.log_store import VaultLog


class CheckpointFault(NamedTuple):
    """A checkpoint that does not hold what the log holds."""

    key: str
    """The folder of all of them where one is missing."""
    problem: str
    present: bool = True
    """Whether there is an object to set aside."""


def check_checkpoints(log: VaultLog | LocalLog) -> list[CheckpointFault]:
    """Compare every checkpoint with the records of its log, branches included.

    The records are read here, unless `read_whole` has read every one of them before.

    A newest one that is missing is no fault: a writer may have been killed before it.

    Raises:
        CorruptObjectError: a record is damaged, forged, or missing from the sequence.
        StoreUnavailableError: the store does not answer.
    """
    store = log.checkpoints
    # Listed before the records are read to their end: whatever they hold has been committed.
    listed = store.list_all()
    if log.is_whole:
        log.refresh()
    else:
        log.read_whole()
    faults = [CheckpointFault(key, "is no checkpoint") for key in listed.foreign]
    chain = {slot_at(one): one.sha256 for one in log.records}
    known = {**chain, **_branch_hashes(log, listed.places, chain)}
    for place in listed.places:
        problem = problem_of(log, place, known)
        if problem:
            faults.append(CheckpointFault(store.key_of(place), problem))
    on_chain = [one for one in listed.places if Slot(one.epoch, one.last) in chain]
    newest = newest_place(on_chain)
    if newest is not None:
        try:
            covering(on_chain, newest, line_of(log.records))
        except CorruptObjectError as error:
            faults.append(CheckpointFault(store.folder, str(error), present=False))
    return faults


def problem_of(log: VaultLog | LocalLog, place: CheckpointPlace, known: dict[Slot, str]) -> str:
    """What is wrong with one checkpoint; '' for nothing.

    Args:
        log: whose checkpoint.
        place: which.
        known: hashes of the log's records, by place.
    """
    if Slot(place.epoch, place.last) not in known:
        return f"holds records up to {place.last}, which the log does not have"
    try:
        records = log.checkpoints.read(place).records
    except (CorruptObjectError, NotFoundError, SchemaMismatchError) as error:
        return str(error)
    differing = _first_difference(records, known)
    return "" if differing is None else f"holds another record {differing} than the log"


def _first_difference(records: tuple[StoredRecord, ...], known: dict[Slot, str]) -> int | None:
    differing = (one.position.seq for one in records if known.get(slot_at(one), "") != one.sha256)
    return next(differing, None)


def _branch_hashes(
    log: VaultLog | LocalLog, places: tuple[CheckpointPlace, ...], chain: dict[Slot, str]
) -> dict[Slot, str]:
    """Hashes of the records that epochs left aside, where a checkpoint holds any."""
    if isinstance(log, LocalLog) or all(Slot(one.epoch, one.last) in chain for one in places):
        return {}
    return {slot_at(one): one.sha256 for group in log.branches() for one in log.read_branch(group)}


def held_records(log: VaultLog | LocalLog, good: Mapping[Slot, str]) -> dict[Slot, bytes]:
    """Records that sound checkpoints hold and that continue what the store has; each was committed.

    A checkpoint of another history (records were lost, and others written in their place) is passed
    over, and so is all that only it leads to.

    Args:
        log: whose checkpoints.
        good: hash of each authentic record that the store has.

    Raises:
        StoreUnavailableError: the store does not answer.
    """
    known = dict(good)
    held: dict[Slot, bytes] = {}
    for place in sorted(log.checkpoints.list_all().places, key=lambda one: (one.last, one.first)):
        try:
            found = log.checkpoints.read(place)
        except (CorruptObjectError, NotFoundError, SchemaMismatchError):
            continue  # V1 and heal name it; another one may hold its records
        before = Slot(epoch_at(found.line, place.first - 1), place.first - 1)
        hashes = {slot_at(one): one.sha256 for one in found.records}
        continues = place.first == 1 or known.get(before) == found.prev_sha256
        if continues and all(known.get(slot, one) == one for slot, one in hashes.items()):
            known |= hashes
            held.update(zip(hashes, found.contents, strict=True))
    return held
