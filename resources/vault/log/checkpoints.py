"""The checkpoints of one log in a store: listed, opened, joined, written.

A checkpoint is committed by its creation; one that exists already says the same. Nothing here
decides what a log's records are: whoever doubts a checkpoint reads the records.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from fleet.errors import CorruptObjectError
from fleet.ports.object_store import ObjectStore
from fleet.vault_checkpoint import (
    Checkpoint,
    CheckpointPlace,
    Spacing,
    covering,
    encode_checkpoint,
    line_of,
    newest_place,
    open_checkpoint,
    wanted_blocks,
)
from fleet.vault_epochs import Slot
from fleet.vault_keyspace import checkpoint_folder
from fleet.vault_records import StoredRecord

SPACING = Spacing()
"""Of the checkpoints that this process writes; readers take what they find."""

_MAIN = re.compile(r"(\d{4})/(\d{10})-(\d{10})\.ckpt", re.ASCII)
_LOCAL = re.compile(r"()(\d{10})-(\d{10})\.ckpt", re.ASCII)


class ListedCheckpoints(NamedTuple):
    """What stands in the folder of a log's checkpoints."""

    places: tuple[CheckpointPlace, ...]
    foreign: tuple[str, ...]
    """Keys that no checkpoint has."""


class CheckpointStore:
    """The checkpoints of one log.

    Args:
        store: where the vault lies.
        records_folder: of the log.
        with_epochs: whether the log runs through epochs.
        network_id: whose log it is.
        data_key: authenticates the log.
    """

    def __init__(
        self,
        store: ObjectStore,
        records_folder: str,
        network_id: str,
        data_key: bytes,
        *,
        with_epochs: bool,
    ) -> None:
        """Nothing is read."""
        self._store = store
        self.folder = checkpoint_folder(records_folder)
        self._with_epochs = with_epochs
        self._network_id = network_id
        self._data_key = data_key

    def list_all(self) -> ListedCheckpoints:
        """Every checkpoint that is there, by its name alone."""
        places, foreign = [], []
        for one in self._store.list_objects(self.folder):
            place = self._place_of(one.key)
            if place is None:
                foreign.append(one.key)
            else:
                places.append(place)
        return ListedCheckpoints(tuple(places), tuple(foreign))

    def key_of(self, place: CheckpointPlace) -> str:
        """Key of a checkpoint."""
        epoch = f"{place.epoch:04d}/" if self._with_epochs else ""
        return f"{self.folder}{epoch}{place.first:010d}-{place.last:010d}.ckpt"

    def open(self, key: str, data: bytes) -> Checkpoint:
        """Prove the bytes of a checkpoint, wherever they come from.

        Raises:
            CorruptObjectError: they are not those of a checkpoint of this key.
        """
        place = self._place_of(key)
        if place is None:
            raise CorruptObjectError(f"object {key} is no checkpoint")
        return open_checkpoint(data, place, self._network_id, self._data_key, key)

    def read(self, place: CheckpointPlace) -> Checkpoint:
        """Fetch and prove one.

        Raises:
            NotFoundError: it is not there.
            CorruptObjectError: it is not as it must be.
        """
        key = self.key_of(place)
        return self.open(key, self._store.get(key))

    def join(self, places: Collection[CheckpointPlace]) -> list[StoredRecord]:
        """The records from the first one to the end of the newest checkpoint; none without one.

        Raises:
            NotFoundError: one went away meanwhile.
            CorruptObjectError: one is missing, not as it must be, or does not continue the others.
        """
        newest = newest_place(places)
        if newest is None:
            return []
        end = self.read(newest)
        records: list[StoredRecord] = []
        for place in covering(places, newest, end.line):
            part = end if place == newest else self.read(place)
            if records and part.prev_sha256 != records[-1].sha256:
                raise CorruptObjectError(
                    f"checkpoint {self.key_of(place)} does not continue the one before it"
                )
            records += part.records
        if line_of(records) != end.line:
            raise CorruptObjectError(
                f"checkpoint {self.key_of(newest)} is of another line of epochs than those before"
            )
        return records

    def missing(
        self, records: Sequence[StoredRecord], present: Sequence[CheckpointPlace]
    ) -> list[CheckpointPlace]:
        """The checkpoints that a log wants and lacks, oldest first.

        Args:
            records: all of the log.
            present: what is listed.
        """
        blocks = wanted_blocks([one.size_bytes for one in records], SPACING)
        places = [
            CheckpointPlace(records[last - 1].position.epoch, first, last) for first, last in blocks
        ]
        return [one for one in places if one not in set(present)]

    def write(
        self,
        place: CheckpointPlace,
        records: Sequence[StoredRecord],
        line: Sequence[Slot],
        content_of: Callable[[StoredRecord], bytes],
    ) -> bool:
        """Create one; False when it is there already.

        Args:
            place: which records.
            records: all of the log, from the first one.
            line: of the whole log.
            content_of: gives the bytes of a record.

        Raises:
            StoreUnavailableError: it may or may not be there.
        """
        chosen = records[place.first - 1 : place.last]
        contents = [content_of(one) for one in chosen]
        key = self.key_of(place)
        so_far = [one for one in line if one.seq <= place.last]
        data = encode_checkpoint(so_far, chosen, contents, self._data_key, key)
        return self._store.create(key, data)

    def _place_of(self, key: str) -> CheckpointPlace | None:
        pattern = _MAIN if self._with_epochs else _LOCAL
        found = pattern.fullmatch(key.removeprefix(self.folder))
        if found is None:
            return None
        place = CheckpointPlace(int(found[1] or 0), int(found[2]), int(found[3]))
        return place if 1 <= place.first <= place.last else None
