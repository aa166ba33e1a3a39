"""Logs in an object store: verified when read, appended by create-only.

One kind of chain serves the main log of a network and the logs of one region's copy: records in
order, each naming the hash of the one before it, authenticated by HMAC. An append is committed by
the creation of its object. When the answer is lost (timeout, reset, a retry that met its own first
try) the slot is read: our own bytes there mean success.

The main log runs through epochs. The first record of a higher epoch continues sequence and hashes
from the record it was decided at; what the epoch before wrote beyond that point is a branch: kept,
listed, never part of the chain.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from fleet.errors import (
    CorruptObjectError,
    FencedError,
    NotFoundError,
    StoreUnavailableError,
)
from fleet.names import validate_name
from fleet.ports.object_store import ListedObject, ObjectStore
from fleet.vault_epochs import Promotion, Slot, decode_promotion, first_slots, select_chain
from fleet.vault_keyspace import local_prefix, log_folder
from fleet.vault_log import LogRecord, VaultState, replay
from fleet.vault_pack import derive_key
from fleet.vault_records import (
    FIRST_PREVIOUS,
    LogPosition,
    StoredRecord,
    decode_record,
    encode_record,
)

_APPEND_TRIES = 4
"""How often one create is tried while the store does not answer; the store's client waits."""
_MAIN_SLOT = re.compile(r"(\d{4})/(\d{10})\.json", re.ASCII)
_LOCAL_SLOT = re.compile(r"()(\d{10})\.json", re.ASCII)


class _Layout(NamedTuple):
    """Where a chain's records lie."""

    folder: str
    with_epochs: bool

    def key(self, slot: Slot) -> str:
        epoch = f"{slot.epoch:04d}/" if self.with_epochs else ""
        return f"{self.folder}{epoch}{slot.seq:010d}.json"

    def slot(self, key: str) -> Slot:
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
        self, store: ObjectStore, layout: _Layout, network_id: str, data_key: bytes
    ) -> None:
        """Remember where; nothing is read before `refresh`."""
        self._store = store
        self._layout = layout
        self._network_id = validate_name("network_id", network_id)
        self._data_key = data_key
        # Makes two equal records of two writers differ, so that each knows its own.
        self._writer = uuid.uuid4().hex
        self._records: list[StoredRecord] = []

    @property
    def records(self) -> tuple[StoredRecord, ...]:
        """What has been read so far, in order."""
        return tuple(self._records)

    @property
    def epoch(self) -> int:
        """Of the last record read; 0 for an empty log."""
        return self._records[-1].position.epoch if self._records else 0

    def _read_on(self) -> int:
        """Read what was appended since; how many of the records known before still stand."""
        known = self._records
        last = self._layout.key(_slot_of(known[-1])) if known else ""
        slots = self._list(last)
        kept = len(known)
        if any(slot.epoch != self.epoch for slot in slots):
            # Another epoch has begun: what it does not continue is a branch from now on.
            slots = self._whole_chain(self._list("") if known else slots)
            kept = _common(slots, [_slot_of(one) for one in known])
            slots = slots[kept:]
        fresh: list[StoredRecord] = []
        for slot in slots:
            before = fresh[-1] if fresh else known[kept - 1] if kept else None
            fresh.append(self._read(slot, before))
        self._records = [*known[:kept], *fresh]
        return kept

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


class VaultLog(RecordChain):
    """The main log of a network: what is live, decided by its records alone.

    Args:
        store: where the vault lies.
        network_id: whose log it is.
        epoch: that this writer was opened under.
        data_key: authenticates the records.
        region: of the writer; may go on under a higher epoch that was promoted for it.
    """

    def __init__(
        self,
        store: ObjectStore,
        network_id: str,
        epoch: int,
        data_key: bytes,
        region: str = "",
    ) -> None:
        """Remember where; nothing is read before `refresh`."""
        validate_name("network_id", network_id)
        layout = _Layout(log_folder(network_id), with_epochs=True)
        super().__init__(store, layout, network_id, data_key)
        self._opened_epoch = epoch
        self._region = region
        self._state = VaultState()

    def refresh(self) -> VaultState:
        """Read what others have appended since; the state at the new head.

        A higher epoch that forked off before our head takes its place: what only the old epoch
        had is no longer part of the state.

        Raises:
            CorruptObjectError: a record is damaged, forged, or missing from the sequence.
            StoreUnavailableError: the store does not answer; what was read before stays valid.
        """
        before = self._state.head
        kept = self._read_on()
        base = self._state if kept == before else None
        fresh = self._records[kept:] if base else self._records
        self._state = replay([one.record for one in fresh], base)
        return self._state

    def append(
        self, record: LogRecord, written_at: datetime, extra: Mapping[str, Any] | None = None
    ) -> bool:
        """Make a record the very next one after what was read last.

        Returns:
            True when it is committed; False when somebody else was faster: refresh, decide anew.

        Raises:
            FencedError: another region was promoted to write; stop.
            StoreUnavailableError: the store did not answer; the record may or may not be there.
                Calling again after a `refresh` that shows it absent is safe.
        """
        self.demand_writable()
        epoch = max(self.epoch, self._opened_epoch)
        if self._append(record, epoch, written_at, extra) is None:
            return False
        self._state = replay([record], self._state)
        return True

    def begin_epoch(self, epoch: int, record: LogRecord, written_at: datetime) -> bool:
        """Append the first record of a higher epoch; only who won its claims may call this.

        Returns:
            False when that slot is taken by another record.
        """
        if epoch <= self.epoch:
            raise FencedError(f"epoch {epoch} is not higher than the log's, {self.epoch}")
        if self._append(record, epoch, written_at, None) is None:
            return False
        self._state = replay([record], self._state)
        return True

    @property
    def promotion(self) -> Promotion | None:
        """The promotion that began the newest epoch; None under the first home."""
        for one in reversed(self._records):
            if one.position.epoch != self.epoch:
                break
            if promotion := decode_promotion(one.record):
                return promotion
        return None

    @property
    def owner(self) -> str | None:
        """Region that writes the newest epoch; None for the first home."""
        promotion = self.promotion
        return promotion.region if promotion else None

    def demand_writable(self) -> None:
        """Refuse to write for a region that another one has superseded, as far as read.

        Raises:
            FencedError: a higher epoch belongs to another region.
        """
        if self.epoch <= self._opened_epoch:
            return
        owner = self.owner
        if owner is None or owner != self._region:
            raise FencedError(
                f"network {self._network_id}: region {owner} writes since epoch {self.epoch}; "
                f"this writer is of epoch {self._opened_epoch}, region {self._region or 'unnamed'}",
                hint="Stop this writer; its region is a replica now.",
            )

    @property
    def folder(self) -> str:
        """Prefix of all its records."""
        return self._layout.folder

    def key_of(self, slot: Slot) -> str:
        """Key of a record."""
        return self._layout.key(slot)

    def key_at(self, stored: StoredRecord) -> str:
        """Key of a record that was read."""
        return self._layout.key(_slot_of(stored))

    def slot_of(self, key: str) -> Slot:
        """Place of a record from its key.

        Raises:
            CorruptObjectError: the key is none of a record.
        """
        return self._layout.slot(key)

    def authenticate(self, key: str, data: bytes) -> StoredRecord:
        """A record by itself: written by a holder of the key, for this very place.

        Raises:
            CorruptObjectError: it is not; whether it continues its predecessor is not looked at.
        """
        return self._authentic(self._layout.slot(key), data)

    def branch_slots(self) -> list[Slot]:
        """Every record that a higher epoch left aside, in order, from a full listing."""
        slots = self._list("")
        chain = frozenset(self._whole_chain(slots))
        return sorted(slot for slot in slots if slot not in chain)

    def read_branch(self, slots: Iterable[Slot]) -> list[StoredRecord]:
        """Verify and read consecutive records of one branch, given in order.

        Raises:
            CorruptObjectError: one is damaged, or does not continue the one before it.
        """
        found: list[StoredRecord] = []
        for slot in slots:
            if found:
                found.append(self._read(slot, found[-1]))
            else:
                found.append(self._peek(slot))
        return found


class LocalLog(RecordChain):
    """The log of one region's copy: evidence only, never copied to another region.

    Its records are authenticated under a key of their own for each region, so none of them can be
    passed off as a record of the main log or of another region.

    Args:
        store: the region's vault.
        network_id: whose copy.
        region: whose log.
        data_key: of the network.
    """

    def __init__(self, store: ObjectStore, network_id: str, region: str, data_key: bytes) -> None:
        """Remember where; nothing is read before `refresh`."""
        validate_name("network_id", network_id)
        self.region = validate_name("region", region)
        layout = _Layout(local_prefix(region, network_id), with_epochs=False)
        key = derive_key(data_key, b"", b"stateroom local log" + region.encode())
        super().__init__(store, layout, network_id, key)

    def refresh(self) -> tuple[StoredRecord, ...]:
        """Read what others have appended since; all records known.

        Raises:
            CorruptObjectError: a record is damaged, forged, or missing from the sequence.
            StoreUnavailableError: the store does not answer.
        """
        self._read_on()
        return self.records

    def append(
        self, record: LogRecord, written_at: datetime, extra: Mapping[str, Any] | None = None
    ) -> StoredRecord | None:
        """As `VaultLog.append`; the stored record, or None when somebody else was faster."""
        return self._append(record, 0, written_at, extra)

    def seek_tail(self) -> None:
        """Begin at the last record, which is all that an append needs.

        Raises:
            CorruptObjectError: the last record is damaged; what lies before it is not looked at.
        """
        slots = self._list("")
        self._records = [self._peek(slots[-1])] if slots else []

    def read_after(self, seq: int) -> tuple[StoredRecord, ...]:
        """The records behind a number, without reading those before it; nothing is remembered.

        Raises:
            NotFoundError: there is no record of that number.
            CorruptObjectError: one is damaged, forged, or missing from the sequence.
        """
        found = [self._peek(Slot(0, seq))]
        for slot in self._list(self.key_of(seq)):
            found.append(self._read(slot, found[-1]))
        return tuple(found[1:])

    def last_valid(self) -> int:
        """Number of the last record before the first that does not verify; 0 for none."""
        before: StoredRecord | None = None
        for slot in self._list(""):
            try:
                before = self._read(slot, before)
            except (CorruptObjectError, NotFoundError):
                break
        return before.position.seq if before else 0

    def key_of(self, seq: int) -> str:
        """Key of one record."""
        return self._layout.key(Slot(0, seq))

    def listed(self) -> list[ListedObject]:
        """Every object of the log, verified or not."""
        return self._store.list_objects(self._layout.folder)


def _slot_of(stored: StoredRecord) -> Slot:
    return Slot(stored.position.epoch, stored.position.seq)


def _common(one: Sequence[Slot], other: Sequence[Slot]) -> int:
    """Length of the common beginning."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
