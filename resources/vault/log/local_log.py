"""The log of one region's copy of a vault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from fleet.errors import CorruptObjectError, NotFoundError
from fleet.names import validate_name
from fleet.pack_keys import derive_key
from fleet.ports.object_store import ObjectStore
from fleet.vault_epochs import Slot
from fleet.vault_keyspace import local_prefix
from fleet.vault_log import LogRecord
from fleet.vault_records import StoredRecord
from resources.vault.log.log_chain import Layout, RecordChain


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
        self._network_key = data_key
        layout = Layout(local_prefix(region, network_id), with_epochs=False)
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

    def read_whole(self) -> tuple[StoredRecord, ...]:
        """Every single record: neither checkpoints nor earlier reads are trusted.

        Raises:
            CorruptObjectError: a record is damaged, forged, or missing from the sequence.
            StoreUnavailableError: the store does not answer.
        """
        self._read_on(whole=True)
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
        # The names of checkpoints save listing what lies before them; nothing else is believed.
        held = max((one.last for one in self._list_checkpoints()), default=0)
        slots = self._list(self.key_of(held - 1)) if held else []
        slots = slots or self._list("")
        self._records = [self._peek(slots[-1])] if slots else []
        self._opened = True

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

    def checkpoints_beyond(self, seq: int) -> list[str]:
        """Keys of the checkpoints that hold a record behind a number."""
        places = self.checkpoints.list_all().places
        return [self.checkpoints.key_of(one) for one in places if one.last > seq]

    def _all_records(self) -> Sequence[StoredRecord]:
        """Every record; an append alone has seen no more than the last one."""
        if not self._records or self._records[0].position.seq == 1:
            return self._records
        log = LocalLog(self._store, self._network_id, self.region, self._network_key)
        return log.refresh()

    def key_of(self, seq: int) -> str:
        """Key of one record."""
        return self._layout.key(Slot(0, seq))
