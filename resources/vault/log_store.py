"""The log of one network in an object store: verified when read, appended by create-only.

An append is committed by the creation of its object. When the answer is lost (timeout, reset, a
retry that met its own first try) the slot is read: our own bytes there mean success.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fleet.errors import CorruptObjectError, NotFoundError, StoreUnavailableError
from fleet.names import validate_name
from fleet.ports.object_store import ObjectStore
from fleet.vault_log import LogRecord, VaultState, replay
from fleet.vault_records import (
    FIRST_PREVIOUS,
    LogPosition,
    StoredRecord,
    decode_record,
    encode_record,
)

_APPEND_TRIES = 4
"""How often one create is tried while the store does not answer; the store's client waits."""


class VaultLog:
    """Reads and extends the log of a network under one epoch; not thread-safe.

    Args:
        store: where the vault lies.
        network_id: whose log it is.
        epoch: of the region that writes; part of each record's place.
        data_key: authenticates the records.
    """

    def __init__(self, store: ObjectStore, network_id: str, epoch: int, data_key: bytes) -> None:
        """Remember where; nothing is read before `refresh`."""
        self._store = store
        self._folder = f"log/{validate_name('network_id', network_id)}/{epoch:04d}/"
        self._network_id = network_id
        self._epoch = epoch
        self._data_key = data_key
        # Makes two equal records of two writers differ, so that each knows its own.
        self._writer = uuid.uuid4().hex
        self._records: list[StoredRecord] = []
        self._state = VaultState()

    @property
    def records(self) -> tuple[StoredRecord, ...]:
        """What has been read so far, in order."""
        return tuple(self._records)

    def refresh(self) -> VaultState:
        """Read what others have appended since; the state at the new head.

        Raises:
            CorruptObjectError: a record is damaged, forged, or missing from the sequence.
            StoreUnavailableError: the store does not answer; what was read before stays valid.
        """
        fresh: list[StoredRecord] = []
        last = self._key(self._state.head) if self._records else ""
        for listed in self._store.list_objects(self._folder, last):
            expected = self._next_position(fresh)
            key = self._key(expected.seq)
            if listed.key != key:
                raise CorruptObjectError(
                    f"log record {key} is missing: the next one is {listed.key}",
                    hint="Copy it back from another region; never renumber the log.",
                )
            fresh.append(decode_record(self._store.get(key), expected, self._data_key, key))
        self._state = replay([one.record for one in fresh], self._state)
        self._records += fresh
        return self._state

    def append(
        self, record: LogRecord, written_at: datetime, extra: Mapping[str, Any] | None = None
    ) -> bool:
        """Make a record the very next one after what was read last.

        Returns:
            True when it is committed; False when somebody else was faster: refresh, decide anew.

        Raises:
            StoreUnavailableError: the store did not answer; the record may or may not be there.
                Calling again after a `refresh` that shows it absent is safe.
        """
        position = self._next_position([])
        key = self._key(position.seq)
        signed = {**(extra or {}), "writer": self._writer}
        data = encode_record(record, position, written_at, self._data_key, signed)
        if not self._create(key, data):
            return False
        stored = decode_record(data, position, self._data_key, key)
        self._state = replay([record], self._state)
        self._records.append(stored)
        return True

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

    def _next_position(self, fresh: list[StoredRecord]) -> LogPosition:
        last = fresh[-1] if fresh else self._records[-1] if self._records else None
        previous = last.sha256 if last else FIRST_PREVIOUS
        seq = (last.position.seq if last else 0) + 1
        return LogPosition(self._network_id, self._epoch, seq, previous)

    def _key(self, seq: int) -> str:
        return f"{self._folder}{seq:010d}.json"
