"""A chain of records in an object store: verified when read, appended by create-only.

One kind of chain serves the main log of a network and the logs of one region's copy: records in
order, each naming the hash of the one before it, authenticated by HMAC. An append is committed by
the creation of its object. When the answer is lost (timeout, reset, a retry that met its own first
try) the slot is read: our own bytes there mean success.

A new process reads the log out of its checkpoints and only the newest records one by one; whatever
is doubtful about a checkpoint makes it read every record, and is kept in `doubts`.

A log may run through epochs. The first record of a higher epoch continues sequence and hashes from
the record it was decided at; what the epoch before wrote beyond that point is a branch.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from fleet.errors import (
    CorruptObjectError,
    NotFoundError,
    StateroomError,
    StoreUnavailableError,
)
from fleet.names import validate_name
from fleet.ports.object_store import ListedObject, ObjectStore
from fleet.vault_checkpoint import CheckpointPlace, line_of
from fleet.vault_epochs import Slot, decode_promotion, first_slots, select_chain
from fleet.vault_log import LogRecord
from fleet.vault_records import (
    FIRST_PREVIOUS,
    LogPosition,
    StoredRecord,
    decode_record,
    encode_record,
)
from resources.vault.log import checkpoints as checkpointing
from resources.vault.log.checkpoints import CheckpointStore

_APPEND_TRIES = 4
"""How often one create is tried while the store does not answer; the store's client waits."""
_MAIN_SLOT = re.compile(r"(\d{4})/(\d{10})\.json", re.ASCII)
_LOCAL_SLOT = re.compile(r"()(\d{10})\.json", re.ASCII)


class Layout(NamedTuple):
    """Where a chain's records lie."""

    folder: str
    with_epochs: bool

    def key(self, slot: Slot) -> str:
        """Key of a record."""
        epoch = f"{slot.epoch:04d}/" if self.with_epochs else ""
        return f"{self.folder}{epoch}{slot.seq:010d}.json"

    def slot(self, key: str) -> Slot:
        """Place of a record; CorruptObjectError for a key of none."""
        pattern = _MAIN_SLOT if self.with_epochs else _LOCAL_SLOT
        found = pattern.fullmatch(key.removeprefix(self.folder))
        if found is None:
            raise CorruptObjectError(
                f"object {key} is no log record", hint="Move it away; nothing writes such a key."
            )
        return Slot(int(found[1] or 0), int(found[2]))


class RecordChain:
    """Records in order, as one process has read them; not thread-safe.

    Args:
        store: where the vault lies.
        layout: where the records lie in it.
        network_id: whose log it is; part of each record's place.
        data_key: authenticates the records.
    """

    def __init__(
        self, store: ObjectStore, layout: Layout, network_id: str, data_key: bytes
    ) -> None:
        """Remember where; nothing is read before `refresh`."""
        self._store = store
        self._layout = layout
        self._network_id = validate_name("network_id", network_id)
        self._data_key = data_key
        # Makes two equal records of two writers differ, so that each knows its own.
        self._writer = uuid.uuid4().hex
        self._records: list[StoredRecord] = []
        self.checkpoints = CheckpointStore(
            store, layout.folder, network_id, data_key, with_epochs=layout.with_epochs
        )
        self._places: set[CheckpointPlace] | None = None
        self._opened = False
        self.is_whole = False
        """Whether every record was read by itself, none of them out of a checkpoint."""
        self._doubts: list[str] = []

    @property
    def records(self) -> tuple[StoredRecord, ...]:
        """What has been read so far, in order."""
        return tuple(self._records)

    @property
    def epoch(self) -> int:
        """Of the last record read; 0 for an empty log."""
        return self._records[-1].position.epoch if self._records else 0

    @property
    def folder(self) -> str:
        """Prefix of all its records."""
        return self._layout.folder

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why checkpoints were not used or not written, in words; V1 finds what lasts."""
        return tuple(self._doubts)

    def key_at(self, stored: StoredRecord) -> str:
        """Key of a record that was read."""
        return self._layout.key(slot_at(stored))

    def slot_of(self, key: str) -> Slot:
        """Place of a record from its key.

        Raises:
            CorruptObjectError: the key is none of a record.
        """
        return self._layout.slot(key)

    def listed(self) -> list[ListedObject]:
        """Every object of the log, verified or not."""
        return self._store.list_objects(self._layout.folder)

    def authenticate(self, key: str, data: bytes) -> StoredRecord:
        """A record by itself: written by a holder of the key, for this very place.

        Raises:
            CorruptObjectError: it is not; whether it continues its predecessor is not looked at.
        """
        return self._authentic(self._layout.slot(key), data)

    def _read_on(self, *, whole: bool = False) -> int:
        """Read what was appended since; how many of the records known before still stand.

        Args:
            whole: trust neither checkpoints nor what was read before: read every record.
        """
        kept: int | None = None
        if not (self._opened or whole):
            kept = self._read_on_from_checkpoints()
        if kept is None:
            kept = self._read_behind([] if whole else self._records)
            self.is_whole |= whole or not self._opened
        self._opened = True
        return kept

    def _read_on_from_checkpoints(self) -> int | None:
        """As `_read_on`; None when there is no checkpoint, or one is not to be trusted."""
        places = self._list_checkpoints()
        if not places:
            return None
        try:
            base = self.checkpoints.join(places)
            return self._extend(base, self._list_behind(base[-1]))
        except (CorruptObjectError, NotFoundError) as error:
            self._doubt(f"every record was read: {error}")
            return None

    def _list_behind(self, anchor: StoredRecord) -> list[Slot]:
        """The slots behind the last record of a checkpoint, which must itself be in the log."""
        slot = slot_at(anchor)
        key = self._layout.key(slot)
        found = self._list(self._layout.key(slot._replace(seq=slot.seq - 1)))
        if not found or found[0] != slot:
            raise CorruptObjectError(f"log record {key} is missing, and a checkpoint holds it")
        if len(found) == 1 and self._peek(slot).sha256 != anchor.sha256:
            raise CorruptObjectError(f"log record {key} is not the one that a checkpoint holds")
        return found[1:]

    def _doubt(self, text: str) -> None:
        if text not in self._doubts:
            self._doubts.append(text)

    def _read_behind(self, known: list[StoredRecord]) -> int:
        last = self._layout.key(slot_at(known[-1])) if known else ""
        return self._extend(known, self._list(last))

    def _extend(self, known: list[StoredRecord], slots: list[Slot]) -> int:
        """Follow these slots behind known records; how many of those still stand."""
        kept = len(known)
        epoch = known[-1].position.epoch if known else 0
        if any(slot.epoch != epoch for slot in slots):
            # Another epoch has begun: what it does not continue is a branch from now on.
            slots = self._whole_chain(self._list("") if known else slots)
            kept = _common(slots, [slot_at(one) for one in known])
            slots = slots[kept:]
        fresh: list[StoredRecord] = []
        for slot in slots:
            before = fresh[-1] if fresh else known[kept - 1] if kept else None
            fresh.append(self._read(slot, before))
        self._records = [*known[:kept], *fresh]
        return kept

    def _list_checkpoints(self) -> set[CheckpointPlace]:
        if self._places is None:
            self._places = set(self.checkpoints.list_all().places)
        return self._places

    def write_checkpoints(self) -> int:
        """Create the checkpoints that are due, oldest first; how many were not there before.

        Raises:
            CorruptObjectError: a record does not read back as it was verified.
            StoreUnavailableError: the store does not answer; running again goes on.
        """
        return self._write_missing() if self._is_due(self._list_checkpoints()) else 0

    def rewrite_checkpoints(self) -> int:
        """Create every checkpoint that is wanted and not there, as the store lists them now."""
        self._places = None
        return self._write_missing()

    def _write_missing(self) -> int:
        places = self._list_checkpoints()
        records = self._all_records()
        line = line_of(records)
        written = 0
        for place in self.checkpoints.missing(records, sorted(places)):
            written += self.checkpoints.write(place, records, line, self._content_of)
            places.add(place)
        return written

    def _is_due(self, places: set[CheckpointPlace]) -> bool:
        """Whether so many records lie behind the last checkpoint of this very chain."""
        known = self._records
        if not known:
            return False
        first, head = known[0].position.seq, known[-1].position.seq
        held = (
            one.last
            for one in places
            if one.last < first
            or (one.last <= head and known[one.last - first].position.epoch == one.epoch)
        )
        return head - max(held, default=0) >= checkpointing.SPACING.every

    def _all_records(self) -> Sequence[StoredRecord]:
        """Every record of the log, as read."""
        return self._records

    def _content_of(self, stored: StoredRecord) -> bytes:
        """The bytes of a record: made again where that gives the same ones, else read."""
        data = encode_record(
            stored.record, stored.position, stored.written_at, self._data_key, stored.extra
        )
        if hashlib.sha256(data).hexdigest() == stored.sha256:
            return data
        key = self._layout.key(slot_at(stored))
        data = self._store.get(key)
        if hashlib.sha256(data).hexdigest() != stored.sha256:
            raise CorruptObjectError(f"log record {key} changed since it was read")
        return data

    def _list(self, after: str) -> list[Slot]:
        listed = self._store.list_objects(self._layout.folder, after)
        return [self._layout.slot(one.key) for one in listed]

    def _whole_chain(self, slots: Sequence[Slot]) -> list[Slot]:
        """Follow the forks from the newest epoch back; each record is verified when it is read."""
        forks: dict[int, Slot] = {}
        for epoch, slot in first_slots(slots).items():
            if epoch and slot.seq > 1:
                promotion = decode_promotion(self._peek(slot).record)
                if promotion is None or promotion.epoch != epoch:
                    raise CorruptObjectError(
                        f"log record {self._layout.key(slot)} should begin epoch {epoch} "
                        "and is no promotion: records before it are missing",
                        hint="Copy them back from another region; never renumber the log.",
                    )
                forks[epoch] = Slot(promotion.from_epoch, promotion.from_seq)
        return list(select_chain(slots, forks))

    def _peek(self, slot: Slot) -> StoredRecord:
        """An authentic record whose predecessor is not known yet."""
        return self._authentic(slot, self._store.get(self._layout.key(slot)))

    def _authentic(self, slot: Slot, data: bytes) -> StoredRecord:
        key = self._layout.key(slot)
        try:
            claimed = LogPosition(self._network_id, *slot, json.loads(data)["prev_sha256"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CorruptObjectError(f"log record {key} cannot be read: {error}") from error
        return decode_record(data, claimed, self._data_key, key)

    def _read(self, slot: Slot, before: StoredRecord | None) -> StoredRecord:
        expected = self._position_after(before, slot.epoch)
        wanted = self._layout.key(slot._replace(seq=expected.seq))
        key = self._layout.key(slot)
        if expected.seq != slot.seq:
            raise CorruptObjectError(
                f"log record {wanted} is missing: the next one is {key}",
                hint="Copy it back from another region; never renumber the log.",
            )
        return decode_record(self._store.get(key), expected, self._data_key, key)

    def _append(
        self,
        record: LogRecord,
        epoch: int,
        written_at: datetime,
        extra: Mapping[str, Any] | None,
    ) -> StoredRecord | None:
        before = self._records[-1] if self._records else None
        position = self._position_after(before, epoch)
        key = self._layout.key(Slot(epoch, position.seq))
        signed = {**(extra or {}), "writer": self._writer}
        data = encode_record(record, position, written_at, self._data_key, signed)
        if not self._create(key, data):
            return None
        stored = decode_record(data, position, self._data_key, key)
        self._records.append(stored)
        try:
            self.write_checkpoints()
        except StateroomError as error:
            # The record is committed, and nothing is lost: the next commit tries again.
            self._doubt(f"no checkpoint was written: {error}")
        return stored

    def _create(self, key: str, data: bytes) -> bool:
        """Create the slot, or find out whose it is."""
        for remaining in reversed(range(_APPEND_TRIES)):
            try:
                if self._store.create(key, data):
                    return True
                return self._store.get(key) == data
            except NotFoundError:
                continue  # refused as existing, then gone: a store that answers in two minds
            except StoreUnavailableError:
                if not remaining:
                    raise
        raise StoreUnavailableError(f"log record {key}: the store says it exists and does not")

    def _position_after(self, before: StoredRecord | None, epoch: int) -> LogPosition:
        previous = before.sha256 if before else FIRST_PREVIOUS
        return LogPosition(
            self._network_id, epoch, (before.position.seq if before else 0) + 1, previous
        )


def slot_at(stored: StoredRecord) -> Slot:
    """Place of a record that was read."""
    return Slot(stored.position.epoch, stored.position.seq)


def _common(one: Sequence[Slot], other: Sequence[Slot]) -> int:
    """Length of the common beginning."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
