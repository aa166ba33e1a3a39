"""The main log of a network: what is live is what its records say, under the highest epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from fleet.errors import FencedError
from fleet.names import validate_name
from fleet.ports.object_store import ObjectStore
from fleet.vault_epochs import Promotion, Slot, decode_promotion
from fleet.vault_keyspace import log_folder
from fleet.vault_log import LogRecord, VaultState, replay
from fleet.vault_records import StoredRecord
from resources.vault.log.log_chain import Layout, RecordChain


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
        layout = Layout(log_folder(network_id), with_epochs=True)
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
        return self._refresh(whole=False)

    def read_whole(self) -> VaultState:
        """The state from every single record: neither checkpoints nor earlier reads are trusted.

        Raises:
            CorruptObjectError: a record is damaged, forged, or missing from the sequence.
            StoreUnavailableError: the store does not answer.
        """
        return self._refresh(whole=True)

    def _refresh(self, *, whole: bool) -> VaultState:
        before = self._state.head
        kept = self._read_on(whole=whole)
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

    def key_of(self, slot: Slot) -> str:
        """Key of a record."""
        return self._layout.key(slot)

    def branches(self) -> list[list[Slot]]:
        """The stretches that higher epochs left aside, each in order, from a full listing."""
        groups: list[list[Slot]] = []
        for slot in self.branch_slots():
            last = groups[-1][-1] if groups else None
            if last is not None and slot == Slot(last.epoch, last.seq + 1):
                groups[-1].append(slot)
            else:
                groups.append([slot])
        return groups

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
