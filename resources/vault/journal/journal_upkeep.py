"""Looking after the journal: trimming by age, copying to a replica, checking every byte.

The journal that remains is contiguous after a kill at any operation: segments are deleted one by
one from the oldest, and copied one by one behind the newest. A deletion or a copy is committed by
itself; running again goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from fleet.errors import CorruptObjectError, NotFoundError, PermanentError
from fleet.ports.object_store import ObjectStore
from fleet.vault_journal import SegmentTrailer, check_segment, open_frame_of, read_trailer
from fleet.vault_keyspace import journal_prefix, parse_segment_key
from resources.vault.network import NetworkVault
from resources.vault.packs.packing import create_object
from resources.vault.packs.segments import ListedSegment, check_link, missing_segment
from resources.vault.retention.removal import store_time
from resources.vault.verification.finding import Finding, Verification

KEEP = timedelta(hours=48)
"""How far back any moment can be restored."""


class TrimResult(NamedTuple):
    """What a trim deleted, and why it stopped where it did."""

    segments: int
    bytes_freed: int
    reason: str


class CopyResult(NamedTuple):
    """What was copied."""

    segments: int
    size_bytes: int


def trim_journal(vault: NetworkVault, keep: timedelta = KEEP) -> TrimResult:
    """Delete segments that no moment of the last `keep` needs, oldest first.

    A moment needs every segment behind the snapshot that it begins at. So a segment goes only when
    it is older than `keep` by the store's clock AND a live snapshot from before that time was
    taken behind it. The newest segment, which holds the cursor, always stays.

    Args:
        vault: the opened network.
        keep: how far back any moment must stay restorable.
    """
    now = store_time(vault.store)
    state = vault.log.refresh()
    listed = vault.store.list_objects(journal_prefix(vault.network_id))
    due = vault.clock.now() - keep
    begins = [
        int(vault.snapshot(one.snapshot_id).extra.get("journal_seq", 0))
        for one in state.live.values()
        if one.taken_at <= due
    ]
    needless = max(begins, default=0)
    segments = bytes_freed = 0
    reason = "only the newest is left"
    for one in listed[:-1]:
        if now - one.modified_at <= keep:
            reason = f"{one.key} is younger than {keep}"
            break
        if parse_segment_key(one.key).seq > needless:
            reason = f"{one.key} is needed: no live snapshot before {due.isoformat()} is behind it"
            break
        vault.store.delete([one.key])
        segments, bytes_freed = segments + 1, bytes_freed + one.size_bytes
    vault.journal.forget()
    return TrimResult(segments, bytes_freed, reason)


def copy_segments(source: NetworkVault, target: NetworkVault) -> CopyResult:
    """Bring a replica's journal up to the source's, in order, checked without keys.

    What the replica still holds from before a stretch that the source has trimmed meanwhile cannot
    be continued; it is deleted first, after the source's next segment has been opened with the key.

    Raises:
        CorruptObjectError: a segment of the source is damaged or missing; the replica stays valid
            up to the one before it.
        PermanentError: the replica's journal is not the source's.
    """
    source.journal.forget()
    target.journal.forget()
    theirs, ours = source.journal.refresh(), target.journal.refresh()
    link = _common_link(source, target, theirs, ours)
    behind = [one for one in theirs if not ours or one.place > ours[-1].place]
    if ours and behind and behind[0].place.seq > ours[-1].place.seq + 1:
        _demand_trimmed(source, theirs, behind[0])
        for one in ours:
            target.store.delete([one.key])
        link = None
    segments = size_bytes = 0
    for number, one in enumerate(behind):
        if number and one.place.seq != behind[number - 1].place.seq + 1:
            raise missing_segment(f"before {one.key}")
        data, trailer = _checked(source.store, one)
        if link is not None and trailer.previous != link:
            raise CorruptObjectError(f"segment {one.key} does not follow the one before it")
        create_object(target.store, one.key, data)
        if target.store.get(one.key) != data:
            raise PermanentError(f"segment {one.key}: the replica holds another one")
        link = trailer.link
        segments, size_bytes = segments + 1, size_bytes + len(data)
    target.journal.forget()
    return CopyResult(segments, size_bytes)


def verify_journal(vault: NetworkVault) -> Verification:
    """V3 of the journal: each segment whole, in its place, in the chain, and every piece opens."""
    began_s = vault.clock.monotonic_s()
    vault.journal.forget()
    findings: list[Finding] = []
    items = size_bytes = 0
    before = None
    for number, one in enumerate(listed := vault.journal.refresh()):
        if number and one.place.seq != listed[number - 1].place.seq + 1:
            problem = f"the segment before it is missing, behind {listed[number - 1].key}"
            findings.append(Finding(one.key, problem))
            before = None
        try:
            data, _ = _checked(vault.store, one)
            segment = vault.journal.read(one)
            if before is not None:
                check_link(before, segment)
            before = segment
            for row in segment.rows:
                if row.chunks:
                    size_bytes += len(open_frame_of(vault.keys, segment, row, data))
                    items += 1
        except CorruptObjectError as error:
            findings.append(Finding(one.key, str(error)))
            before = None
    seconds = vault.clock.monotonic_s() - began_s
    return Verification("V3", items, size_bytes, seconds, tuple(findings))


def _checked(store: ObjectStore, one: ListedSegment) -> tuple[bytes, SegmentTrailer]:
    try:
        data = store.get(one.key)
    except NotFoundError as error:
        raise missing_segment(one.key) from error
    return data, check_segment(data, one.key, one.place)


def _common_link(
    source: NetworkVault,
    target: NetworkVault,
    theirs: Sequence[ListedSegment],
    ours: Sequence[ListedSegment],
) -> str | None:
    """Link of the newest segment that both have; it must be the same one."""
    if not ours:
        return None
    same = next((one for one in theirs if one.place == ours[-1].place), None)
    data = target.store.get(ours[-1].key)
    link = check_segment(data, ours[-1].key, ours[-1].place).link
    if same is not None and _link_of(source.store, same) != link:
        raise PermanentError(
            f"segment {same.key}: the replica holds another one",
            hint="One of the two was written to by another region; compare them.",
        )
    if theirs and same is None and theirs[-1].place < ours[-1].place:
        raise PermanentError(
            f"the replica's journal goes beyond the source's: to {ours[-1].key}",
            hint="The source has lost segments, or the other region writes now.",
        )
    return link


def _link_of(store: ObjectStore, one: ListedSegment) -> str:
    length = min(one.size_bytes, 1024)
    return read_trailer(store.get(one.key, one.size_bytes - length, length), one.key).link


def _demand_trimmed(
    source: NetworkVault, theirs: Sequence[ListedSegment], first: ListedSegment
) -> None:
    """Tell a journal trimmed at its beginning from one with a hole, and from a forged one."""
    if first != theirs[0]:
        raise missing_segment(f"before {first.key}")
    source.journal.read(first)
