"""The journal of one network in an object store: listed, opened by its tails, and kept.

Segments never change, so whatever was opened is kept: headers for ever, rows up to a limit. A
segment that is damaged, missing, or not the one that its neighbour names is reported by its key.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from fleet.errors import CorruptObjectError, NotFoundError
from fleet.pack_keys import PackKeys
from fleet.ports.object_store import ObjectStore
from fleet.vault_journal import Segment, open_segment, read_trailer
from fleet.vault_keyspace import SegmentPlace, journal_prefix, parse_segment_key

_TAIL_BYTES = 64 * 1024
_TAIL_SHARE = 16
"""The tail of a large segment is seldom more than this part of it."""
_KEPT_ROWS = 400_000
_READERS = 8
_BLOCK = 64


class ListedSegment(NamedTuple):
    """A segment as the store lists it."""

    place: SegmentPlace
    key: str
    size_bytes: int


class SegmentStore:
    """Reads the journal of a network; not thread-safe.

    Args:
        store: where the vault lies.
        keys: of the network.
    """

    def __init__(self, store: ObjectStore, keys: PackKeys) -> None:
        """Nothing is read before the first call."""
        self._store = store
        self._keys = keys
        self._folder = journal_prefix(keys.network_id)
        self._listed: list[ListedSegment] = []
        self._kept: OrderedDict[str, Segment] = OrderedDict()
        self._kept_rows = 0

    def forget(self) -> None:
        """Drop everything kept, so that the next look sees what is stored now."""
        self._listed = []
        self._kept.clear()
        self._kept_rows = 0

    def refresh(self) -> Sequence[ListedSegment]:
        """All segments that count, in order; one request.

        A new epoch continues the numbers from where its writer saw the journal; what the old
        epoch's writer added behind that point does not count.

        Raises:
            CorruptObjectError: an object in the journal's folder is no segment.
        """
        after = self._listed[-1].key if self._listed else ""
        self._listed += [
            ListedSegment(parse_segment_key(one.key), one.key, one.size_bytes)
            for one in self._store.list_objects(self._folder, after)
        ]
        counting: list[ListedSegment] = []
        for one in self._listed:
            while (
                counting
                and counting[-1].place.epoch < one.place.epoch
                and (counting[-1].place.seq >= one.place.seq)
            ):
                counting.pop()
            counting.append(one)
        return counting

    def head(self) -> Segment | None:
        """The newest segment; None for an empty journal.

        Raises:
            CorruptObjectError: it is damaged.
        """
        listed = self.refresh()
        return self.read(listed[-1]) if listed else None

    def read(self, listed: ListedSegment) -> Segment:
        """One segment, opened.

        Raises:
            CorruptObjectError: it is damaged, missing, or belongs somewhere else.
        """
        found = self._kept.get(listed.key)
        if found is None:
            found = self._open(listed)
            self._keep(found)
        else:
            self._kept.move_to_end(listed.key)
        return found

    def read_each(
        self, wanted: Sequence[ListedSegment]
    ) -> Iterator[tuple[ListedSegment, Segment | CorruptObjectError]]:
        """Segments in the given order, several requests at a time; faults are handed on."""
        readers = min(_READERS, len(wanted)) or 1
        with ThreadPoolExecutor(readers, thread_name_prefix="vault-journal") as pool:
            for start in range(0, len(wanted), _BLOCK):
                block = wanted[start : start + _BLOCK]
                kept = {one.key: self._kept[one.key] for one in block if one.key in self._kept}
                absent = [one for one in block if one.key not in kept]
                opened = dict(
                    zip((one.key for one in absent), pool.map(self._try_open, absent), strict=True)
                )
                for one in block:
                    yield one, opened.get(one.key) or kept[one.key]
                for found in opened.values():
                    if isinstance(found, Segment):
                        self._keep(found)

    def _try_open(self, listed: ListedSegment) -> Segment | CorruptObjectError:
        try:
            return self._open(listed)
        except CorruptObjectError as error:
            return error

    def _open(self, listed: ListedSegment) -> Segment:
        guess = min(listed.size_bytes, max(_TAIL_BYTES, listed.size_bytes // _TAIL_SHARE))
        tail = self._read_end(listed, guess)
        needed = read_trailer(tail, listed.key).tail_bytes
        if len(tail) < needed <= listed.size_bytes:
            tail = self._read_end(listed, needed)
        return open_segment(self._keys, tail, listed.key, listed.place, listed.size_bytes)

    def _read_end(self, listed: ListedSegment, length: int) -> bytes:
        try:
            return self._store.get(listed.key, listed.size_bytes - length, length)
        except NotFoundError as error:
            raise missing_segment(listed.key) from error

    def _keep(self, segment: Segment) -> None:
        if segment.key in self._kept:
            return
        self._kept[segment.key] = segment
        self._kept_rows += len(segment.rows) + 1
        while self._kept_rows > _KEPT_ROWS and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._kept_rows -= len(dropped.rows) + 1


def missing_segment(key: str) -> CorruptObjectError:
    """A segment that its neighbours prove to have been there."""
    return CorruptObjectError(
        f"segment {key} is missing",
        hint="Copy it back from another region, or restore another moment.",
    )


def check_link(before: Segment, one: Segment) -> None:
    """Demand that a segment names the one before it.

    Raises:
        CorruptObjectError: it names another one: one of the two was exchanged.
    """
    if one.header.previous != before.trailer.link:
        raise CorruptObjectError(
            f"segment {one.key} does not follow {before.key}: one of them was exchanged",
            hint="Compare both with another region's.",
        )
