"""Walking the journal from a snapshot to a moment: which segments, and what they leave open.

A missing, damaged or exchanged segment is handed to the caller, who raises it or goes on without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from fleet.errors import CorruptObjectError
from fleet.moments import microseconds
from fleet.vault_journal import Segment
from fleet.vault_log import SnapshotRecord
from resources.vault.network import NetworkVault
from resources.vault.packs.manifest import Manifest
from resources.vault.packs.segments import ListedSegment, check_link, missing_segment


class Base(NamedTuple):
    """A snapshot to begin at."""

    record: SnapshotRecord
    seq: int
    """Of its log record."""
    journal_seq: int
    """Segments up to this one are older than it; -1 when it does not say."""
    manifest: Manifest


class Walk(NamedTuple):
    """The journal behind a snapshot, up to a moment."""

    segments: Sequence[Segment]
    proven: bool
    """Every version stored between the snapshot and the moment is held or mentioned."""
    told: bool
    """Every agent that changed in between is named, though perhaps not every version of it."""
    covered_at: datetime | None
    notes: Sequence[str]


class JournalWalker:
    """Reads the journal for one search.

    Args:
        vault: the opened network.
        at: moment to walk to; None for the newest segment.
        fault: told of segments that are missing, damaged or exchanged; may raise.
    """

    def __init__(
        self, vault: NetworkVault, at: datetime | None, fault: Callable[[CorruptObjectError], None]
    ) -> None:
        """List the journal, and open its newest segment."""
        self._vault = vault
        self._at = at
        self._fault = fault
        self.listed = vault.journal.refresh()
        self.head = self._read_head()

    def _read_head(self) -> Segment | None:
        """The newest segment that can be read: it says up to when there is anything."""
        for listed in reversed(self.listed):
            try:
                return self._vault.journal.read(listed)
            except CorruptObjectError as error:
                self._fault(error)
        return None

    def walk(self, base: Base) -> Walk:
        """Segments behind a snapshot up to the moment, and those that come late."""
        behind = [one for one in self.listed if one.place.seq > base.journal_seq]
        notes: list[str] = []
        told = self._begins_at(base, behind)
        inside = False
        segments: list[Segment] = []
        covered: datetime | None = None
        for segment in self._contiguous(behind):
            if segment is None:
                told = False
                continue
            segments.append(segment)
            gap, end = segment.header.gap, segment.header.covered_at
            if gap is not None:
                # The listing at its end was compared with a snapshot: with this one or an older?
                told &= self._vault.snapshot(gap.snapshot_id).position.seq <= base.seq
                if self._at is not None and end is not None and gap.since <= self._at < end:
                    inside = True
                    notes.append(f"{segment.key}: {gap.reason}")
            if segment.header.final and end is not None:
                covered = end
                if self._at is not None and covered >= self._at:
                    break
        told &= self._at is None or (covered is not None and covered >= self._at)
        if self._at == base.record.taken_at:
            told, inside = True, False
        segments += self._late(segments, behind)
        if not told or inside:
            until = self._at.isoformat() if self._at else "the newest segment"
            since = base.record.taken_at.isoformat()
            notes.append(f"the journal does not tell all between {since} and {until}")
        return Walk(segments, told and not inside, told, covered, notes)

    def _begins_at(self, base: Base, behind: Sequence[ListedSegment]) -> bool:
        """Whether the journal goes on where the snapshot was taken."""
        if not behind or behind[0].place.seq == max(base.journal_seq, 0) + 1:
            return True
        if base.journal_seq >= 0 and len(behind) < len(
            self.listed
        ):  # nothing was trimmed so far: it had to be there
            self._fault(missing_segment(f"{base.journal_seq + 1} before {behind[0].key}"))
        return False

    def _contiguous(self, behind: Sequence[ListedSegment]) -> Iterator[Segment | None]:
        """Segments in order, each linked to the one before; None where one is missing or bad."""
        before: tuple[int, Segment | None] | None = None
        for listed, found in self._vault.journal.read_each(behind):
            if before is not None and listed.place.seq != before[0] + 1:
                self._fault(missing_segment(f"between {before[0]} and {listed.key}"))
                yield None
                before = None
            if isinstance(found, CorruptObjectError):
                self._fault(found)
                yield None
                before = (listed.place.seq, None)
                continue
            if before is not None and before[1] is not None:
                try:
                    check_link(before[1], found)
                except CorruptObjectError as error:
                    self._fault(error)
                    yield None
            before = (listed.place.seq, found)
            yield found

    def _late(self, read: Sequence[Segment], behind: Sequence[ListedSegment]) -> list[Segment]:
        """Later segments that hold changes from before the moment, by a clock that was set back."""
        if self.head is None or self._at is None:
            return []
        at_us = microseconds(self._at)
        last = read[-1].header.place.seq if read else -1
        wanted = {seq for seq, oldest in self.head.header.late if seq > last and oldest <= at_us}
        late = []
        for _, found in self._vault.journal.read_each(
            [one for one in behind if one.place.seq in wanted]
        ):
            if isinstance(found, CorruptObjectError):
                self._fault(found)
            else:
                late.append(found)
        return late
