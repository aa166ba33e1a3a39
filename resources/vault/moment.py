"""A moment into the rows that restore it: snapshot, journal behind it, next snapshot.

For each agent the newest version stored at or before the moment. Where the vault does not hold it,
or cannot prove that there was no other, the next older one is taken and the substitution reported:
never a version from after the moment, and never without a word. `fleet.vault_moment` decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any, NamedTuple

from fleet.errors import CorruptObjectError, InvalidInputError, NotFoundError
from fleet.vault_journal import Segment, SegmentRow, microseconds, moment_of
from fleet.vault_log import SnapshotRecord
from fleet.vault_moment import Choice, Identity, choose_version, in_order
from resources.vault.manifest import (
    STATE,
    Manifest,
    PackInfo,
    arrow,
    kernels,
    manifest_schema,
    packs_of,
    select_items,
)
from resources.vault.network import NetworkVault
from resources.vault.segments import ListedSegment, check_link, missing_segment

_NAMED = 5
_Excluded = Mapping[str, AbstractSet[Identity]]


class Substitution(NamedTuple):
    """An agent that comes back as something else than it (certainly) was at the moment."""

    agent_id: str
    wanted_version: int | None
    """Newest version known to have been stored by then."""
    version: int
    """Version that is restored in its place."""
    updated_at: datetime
    """When that one was stored."""
    reason: str


class Moment(NamedTuple):
    """What restores a moment."""

    snapshot_id: str
    """Snapshot that it begins at."""
    taken_at: datetime
    """Moment of that snapshot's cut."""
    snapshots: tuple[str, ...]
    """Every snapshot whose packs are read."""
    achieved: datetime
    """Moment that the states are of: the one wanted, or the newest that is covered."""
    manifest: Manifest
    from_journal: frozenset[str]
    """Agents whose state comes from the journal."""
    substitutions: tuple[Substitution, ...]
    missing: tuple[tuple[str, str], ...]
    """Agents that had a state by then of which nothing is held, with the reason."""
    notes: tuple[str, ...]
    """What could not be looked at, or was not recorded."""


class _Walk(NamedTuple):
    """The journal behind a snapshot, up to a moment."""

    segments: Sequence[Segment]
    proven: bool
    covered_at: datetime | None
    notes: Sequence[str]


class _Seen(NamedTuple):
    """An agent in one snapshot."""

    identity: Identity
    rows: Sequence[Mapping[str, Any]]


class _Base(NamedTuple):
    """A snapshot to begin at."""

    record: SnapshotRecord
    seq: int
    """Of its log record."""
    journal_seq: int
    """Segments up to this one are older than it; -1 when it does not say."""
    manifest: Manifest


def find_moment(
    vault: NetworkVault,
    at: datetime | None,
    agent_ids: Sequence[str] | None = None,
    *,
    excluded: _Excluded | None = None,
    tolerant: bool = False,
) -> Moment:
    """Resolve a moment into rows.

    Args:
        vault: the opened network.
        at: the moment; None for the newest of all that is held.
        agent_ids: whom; None for everybody who had a state then.
        excluded: versions that turned out to be damaged, by agent.
        tolerant: go on past damaged segments and manifests, and note them.

    Raises:
        InvalidInputError: the moment has no time zone.
        NotFoundError: it lies before the first backup, or after what is covered; or an agent was
            not known at that moment, or nothing of it is held.
        CorruptObjectError: a segment or manifest that is needed is damaged or missing.
    """
    if at is not None and at.tzinfo is None:
        raise InvalidInputError("at", at.isoformat(), "a moment with time zone")
    search = _Search(vault, at, excluded or {}, tolerant=tolerant)
    return search.run(None if agent_ids is None else frozenset(agent_ids))


class _Search:
    """One search; settles agents snapshot by snapshot, the newest fitting one first."""

    def __init__(
        self, vault: NetworkVault, at: datetime | None, excluded: _Excluded, *, tolerant: bool
    ) -> None:
        self._vault = vault
        self._at = at
        self._at_us = None if at is None else microseconds(at)
        self._excluded = excluded
        self._tolerant = tolerant
        self._tables: list[Any] = []
        self._packs: dict[str, PackInfo] = {}
        self._rows: list[Mapping[str, Any]] = []
        self._settled: set[str] = set()
        self._from_journal: set[str] = set()
        self._substitutions: list[Substitution] = []
        self._missing: dict[str, str] = {}
        self._notes: dict[str, None] = {}
        self._used: list[str] = []
        self._achieved: datetime | None = at

    def run(self, wanted: AbstractSet[str] | None) -> Moment:
        live = self._live_snapshots()
        self._listed = self._vault.journal.refresh()
        self._head = self._read_head()
        fitting = [one for one in live if self._at is None or one.taken_at <= self._at]
        if not fitting:
            self._vault.find_snapshot(self._at)
        self._demand_covered(live)
        first: _Base | None = None
        todo: AbstractSet[str] | None = wanted
        newer: dict[str, tuple[_Seen, ...]] = {}
        for record in reversed(fitting):
            base = self._read_base(record)
            if base is None:
                continue
            first = first or base
            newer = self._settle(base, live, todo, newer)
            todo = newer.keys()
            if not todo:
                break
        if first is None:
            raise CorruptObjectError(
                f"no snapshot of {self._vault.network_id} can be read",
                hint="Restore from another region.",
            )
        for agent_id in todo or ():
            self._missing.setdefault(agent_id, "no version from before the moment is held")
        return self._finish(first, wanted)

    def _live_snapshots(self) -> list[SnapshotRecord]:
        """Live snapshots in the order of their records, whatever was undeleted since."""
        live = self._vault.log.refresh().live
        records = [one.record for one in self._vault.log.records]
        return [
            live[one.snapshot_id]
            for one in records
            if isinstance(one, SnapshotRecord) and one.snapshot_id in live
        ]

    def _read_head(self) -> Segment | None:
        """The newest segment that can be read: it says up to when there is anything."""
        for listed in reversed(self._listed):
            try:
                return self._vault.journal.read(listed)
            except CorruptObjectError as error:
                self._fault(error)
        return None

    def _fault(self, error: CorruptObjectError) -> None:
        if not self._tolerant:
            raise error
        self._notes[str(error)] = None

    def _demand_covered(self, live: Sequence[SnapshotRecord]) -> None:
        """Refuse a moment of which nothing can be known yet."""
        ends = [one.taken_at for one in live]
        if self._head is not None and self._head.header.covered_at is not None:
            ends.append(self._head.header.covered_at)
        if self._at is not None and self._at > max(ends):
            raise NotFoundError(
                f"network {self._vault.network_id} is covered until {max(ends).isoformat()}, "
                f"not at {self._at.isoformat()}",
                hint="Leave the moment out to restore the newest that is held.",
            )

    def _read_base(self, record: SnapshotRecord) -> _Base | None:
        stored = self._vault.snapshot(record.snapshot_id)
        try:
            manifest = self._vault.read_manifest(stored)
        except (CorruptObjectError, NotFoundError) as error:
            if not self._tolerant:
                raise
            self._notes[str(error)] = None
            return None
        table = manifest.table.filter(kernels().equal(manifest.table["kind"], STATE))
        journal_seq = int(stored.extra.get("journal_seq", -1))
        return _Base(record, stored.position.seq, journal_seq, Manifest(table, manifest.packs))

    def _settle(
        self,
        base: _Base,
        live: Sequence[SnapshotRecord],
        todo: AbstractSet[str] | None,
        newer: Mapping[str, tuple[_Seen, ...]],
    ) -> dict[str, tuple[_Seen, ...]]:
        """Choose for each agent; those for which an older snapshot must be asked, as seen here."""
        walk = self._walk(base)
        self._notes.update(dict.fromkeys(walk.notes))
        table = base.manifest.table if todo is None else select_items(base.manifest.table, todo)
        sighted, pieces = _sightings(walk.segments, todo)
        after = {**({} if walk.proven else self._after(base, live, table, todo)), **newer}
        if self._achieved is None:
            self._achieved = max(base.record.taken_at, walk.covered_at or base.record.taken_at)
        affected = sighted.keys() | after.keys() | self._too_new(table) | self._excluded.keys()
        if todo is not None:
            affected &= todo
        self._take_unaffected(base, table, affected)
        known = _rows_by_agent(select_items(table, affected))
        looked_at = sorted(affected | (todo or frozenset()))
        choices: dict[str, Choice] = {}
        for again in (False, True):
            for agent_id in looked_at:
                if agent_id not in self._settled:
                    held = _complete(pieces.get(agent_id, {}))
                    choices[agent_id] = self._choose(
                        known.get(agent_id),
                        sighted.get(agent_id, ()),
                        after.get(agent_id, ()),
                        held,
                        walk,
                        self._excluded.get(agent_id, frozenset()),
                    )
            looked_at = [one for one in looked_at if one in choices and choices[one].reason]
            if again or not walk.proven or not looked_at:
                break
            # What the journal only mentions, the next snapshot may hold.
            after = {**self._after(base, live, table, frozenset(looked_at)), **after}
        look_back = {}
        for agent_id, choice in choices.items():
            mine, later = known.get(agent_id), after.get(agent_id, ())
            if choice.look_back and mine is not None:
                look_back[agent_id] = (mine, *later)
            else:
                self._take(agent_id, choice, mine, later, _complete(pieces.get(agent_id, {})))
        self._packs.update(base.manifest.packs)
        self._used.append(base.record.snapshot_id)
        return look_back

    def _choose(
        self,
        base: _Seen | None,
        journal: Sequence[Identity],
        after: Sequence[_Seen],
        pieces: Mapping[Identity, Any],
        walk: _Walk,
        excluded: AbstractSet[Identity],
    ) -> Choice:
        mine = base.identity if base else None
        later = [one.identity for one in after]
        ends = set(later) if mine is None else {mine, *later}
        return choose_version(
            in_order(mine, journal, later),
            pieces.keys() | ends,
            self._at_us,
            proven=walk.proven,
            base=mine,
            excluded=excluded,
        )

    def _take_unaffected(self, base: _Base, table: Any, affected: AbstractSet[str]) -> None:
        """Agents of which the snapshot tells all: taken without looking at each."""
        pa, pc = arrow(), kernels()
        if affected:
            named = pa.array(sorted(affected), pa.string())
            table = table.filter(pc.invert(pc.is_in(table["item_id"], value_set=named)))
        if len(table):
            self._tables.append(table)
            self._packs.update(base.manifest.packs)
            self._settled.update(table["item_id"].to_pylist())

    def _too_new(self, table: Any) -> set[str]:
        if self._at is None:
            return set()
        pa, pc = arrow(), kernels()
        moment = pa.scalar(self._at, pa.timestamp("us", tz="UTC"))
        return set(table.filter(pc.greater(table["updated_at"], moment))["item_id"].to_pylist())

    def _after(
        self,
        base: _Base,
        live: Sequence[SnapshotRecord],
        table: Any,
        todo: AbstractSet[str] | None,
    ) -> dict[str, tuple[_Seen, ...]]:
        """What the next snapshot shows otherwise: all that is known where the journal is silent."""
        behind = [
            one
            for one in live
            if self._at is not None
            and one.taken_at > self._at
            and self._vault.snapshot(one.snapshot_id).position.seq > base.seq
        ]
        following = self._read_base(behind[0]) if behind else None
        if following is None:
            return {}
        theirs = following.manifest.table
        theirs = theirs if todo is None else select_items(theirs, todo)
        changed = _differing(table, theirs)
        if changed:
            self._packs.update(following.manifest.packs)
            self._used.append(following.record.snapshot_id)
        seen = _rows_by_agent(select_items(theirs, changed))
        return {agent_id: (one,) for agent_id, one in seen.items()}

    def _take(
        self,
        agent_id: str,
        choice: Choice,
        base: _Seen | None,
        after: Sequence[_Seen],
        pieces: Mapping[Identity, Sequence[tuple[Segment, SegmentRow]]],
    ) -> None:
        found = choice.found
        if found is None:
            if choice.existed:
                self._missing[agent_id] = choice.reason
            return
        self._settled.add(agent_id)
        if choice.reason:
            wanted = None if choice.wanted is None else choice.wanted[0]
            self._substitutions.append(
                Substitution(agent_id, wanted, found[0], moment_of(found[1]), choice.reason)
            )
        for seen in (base, *after):
            if seen is not None and seen.identity == found:
                self._rows += seen.rows
                return
        self._from_journal.add(agent_id)
        for segment, row in pieces[found]:
            self._rows.append(_manifest_row(segment, row))
            trailer = segment.trailer
            info = PackInfo("", trailer.salt, segment.size_bytes, trailer.dek_id, key=segment.key)
            self._packs[segment.key] = info

    def _finish(self, first: _Base, wanted: AbstractSet[str] | None) -> Moment:
        pa = arrow()
        unknown = sorted((wanted or set()) - self._settled)
        if unknown and not (self._tolerant and self._settled):
            missing = [self._missing[one] for one in unknown if one in self._missing]
            reason = f": {missing[0]}" if missing else ""
            raise NotFoundError(
                f"{self._moment_text(first)} does not hold {listed_names(unknown)}{reason}",
                hint="Choose another moment; nothing was written.",
            )
        for one in unknown:
            self._missing.setdefault(one, "it had no state then, as far as is known")
        fresh = pa.Table.from_pylist(list(self._rows), schema=manifest_schema())
        table = pa.concat_tables([*self._tables, fresh]).combine_chunks()
        return Moment(
            snapshot_id=first.record.snapshot_id,
            taken_at=first.record.taken_at,
            snapshots=tuple(dict.fromkeys([first.record.snapshot_id, *self._used])),
            achieved=self._achieved or first.record.taken_at,
            manifest=Manifest(table, packs_of(table, self._packs)),
            from_journal=frozenset(self._from_journal),
            substitutions=tuple(sorted(self._substitutions)),
            missing=tuple(sorted(self._missing.items())),
            notes=tuple(self._notes),
        )

    def _moment_text(self, first: _Base) -> str:
        name = f"snapshot {first.record.snapshot_id}"
        return name if self._at is None else f"{self._at.isoformat()} ({name} and its journal)"

    def _walk(self, base: _Base) -> _Walk:
        """Segments behind a snapshot up to the moment, and those that come late."""
        behind = [one for one in self._listed if one.place.seq > base.journal_seq]
        notes: list[str] = []
        proven = self._begins_at(base, behind)
        segments: list[Segment] = []
        covered: datetime | None = None
        for segment in self._contiguous(behind):
            if segment is None:
                proven = False
                continue
            segments.append(segment)
            header = segment.header
            if header.gap is not None and not self._bridges(segment, base):
                proven = False
                notes.append(f"{segment.key}: {header.gap.reason}")
            if header.final and header.covered_at is not None:
                covered = header.covered_at
                if self._at is not None and covered >= self._at:
                    break
        reached = self._at is None or (covered is not None and covered >= self._at)
        proven = (proven and reached) or self._at == base.record.taken_at
        segments += self._late(segments, behind)
        if not proven and (behind or self._at is not None):
            until = self._at.isoformat() if self._at else "the newest segment"
            since = base.record.taken_at.isoformat()
            notes.append(f"the journal does not tell all between {since} and {until}")
        return _Walk(segments, proven, covered, notes)

    def _begins_at(self, base: _Base, behind: Sequence[ListedSegment]) -> bool:
        """Whether the journal goes on where the snapshot was taken."""
        if base.journal_seq < 0:
            return False
        if not behind or behind[0].place.seq == base.journal_seq + 1:
            return True
        if len(behind) < len(self._listed):  # nothing was trimmed so far: it had to be there
            self._fault(missing_segment(f"{base.journal_seq + 1} before {behind[0].key}"))
        return False

    def _bridges(self, segment: Segment, base: _Base) -> bool:
        """Whether a gap is without effect for the moment: it ends before, with a full listing."""
        gap, end = segment.header.gap, segment.header.covered_at
        if gap is None:
            return True
        compared = self._vault.snapshot(gap.snapshot_id).position.seq <= base.seq
        outside = self._at is None or end is None or not gap.since <= self._at < end
        return compared and outside

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
        if self._head is None or self._at_us is None:
            return []
        last = read[-1].header.place.seq if read else -1
        wanted = {
            seq for seq, oldest in self._head.header.late if seq > last and oldest <= self._at_us
        }
        late = []
        for _, found in self._vault.journal.read_each(
            [one for one in behind if one.place.seq in wanted]
        ):
            if isinstance(found, CorruptObjectError):
                self._fault(found)
            else:
                late.append(found)
        return late


def _sightings(
    segments: Sequence[Segment], wanted: AbstractSet[str] | None
) -> tuple[
    dict[str, list[Identity]],
    dict[str, dict[Identity, dict[int, tuple[Segment, SegmentRow]]]],
]:
    """Versions by agent in the journal's order, and the pieces that are held of each."""
    sighted: dict[str, list[Identity]] = {}
    pieces: dict[str, dict[Identity, dict[int, tuple[Segment, SegmentRow]]]] = {}
    for segment in segments:
        for row in segment.rows:
            if wanted is not None and row.agent_id not in wanted:
                continue
            if row.chunk == 0:
                sighted.setdefault(row.agent_id, []).append(row.identity)
            if row.chunks:
                mine = pieces.setdefault(row.agent_id, {}).setdefault(row.identity, {})
                mine[row.chunk] = (segment, row)
    return sighted, pieces


def _complete(
    pieces: Mapping[Identity, Mapping[int, tuple[Segment, SegmentRow]]],
) -> dict[Identity, list[tuple[Segment, SegmentRow]]]:
    """Versions of which every piece is held."""
    return {
        identity: [parts[number] for number in sorted(parts)]
        for identity, parts in pieces.items()
        if len(parts) == next(iter(parts.values()))[1].chunks
    }


def _rows_by_agent(table: Any) -> dict[str, _Seen]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in table.to_pylist():
        found.setdefault(row["item_id"], []).append(row)
    return {
        agent_id: _Seen((rows[0]["version"], microseconds(rows[0]["updated_at"])), rows)
        for agent_id, rows in found.items()
    }


def _differing(ours: Any, theirs: Any) -> list[str]:
    """Agents that the second table shows with another version than the first."""
    pc = kernels()
    found = pc.index_in(theirs["item_id"], value_set=ours["item_id"].combine_chunks())
    there = ours.take(pc.fill_null(found, 0)) if len(ours) else None
    if there is None:
        return list(dict.fromkeys(theirs["item_id"].to_pylist()))
    same = pc.and_(
        pc.and_(
            pc.equal(theirs["version"], there["version"]),
            pc.equal(theirs["updated_at"], there["updated_at"]),
        ),
        pc.is_valid(found),
    )
    return list(dict.fromkeys(theirs.filter(pc.invert(same))["item_id"].to_pylist()))


def _manifest_row(segment: Segment, row: SegmentRow) -> dict[str, Any]:
    """A piece in the journal as a row of a manifest; the segment's key stands for the pack."""
    frame = segment.frames[row.frame]
    return {
        "kind": STATE,
        "item_id": row.agent_id,
        "version": row.version,
        "chunk": row.chunk,
        "blob_id": frame.blob_id,
        "pack": segment.key,
        "frame": frame.frame,
        "offset": frame.offset,
        "length": frame.length,
        "plain_length": frame.plain_length,
        "digest": bytes.fromhex(row.digest),
        "updated_at": moment_of(row.updated_us),
        "removed": False,
    }


def listed_names(names: Sequence[str]) -> str:
    """A few names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
