"""A moment into the rows that restore it: snapshot, journal behind it, next snapshot.

For each agent the newest version stored at or before the moment. Where the vault does not hold it,
or cannot prove that there was no other, the next older one is taken and the substitution reported:
never a version from after the moment, and never without a word. `fleet.vault_moment` decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any

from fleet.errors import CorruptObjectError, InvalidInputError, NotFoundError
from fleet.moments import microseconds, moment_of
from fleet.vault_journal import Segment, SegmentRow
from fleet.vault_log import SnapshotRecord
from fleet.vault_moment import Choice, Identity, choose_version, in_order
from resources.vault.journal.found_moment import Moment, Substitution, listed_names
from resources.vault.journal.journal_walk import Base, JournalWalker, Walk
from resources.vault.network import NetworkVault
from resources.vault.packs.arrow_columns import number, strings, table_of
from resources.vault.packs.manifest import (
    Manifest,
    PackInfo,
    arrow,
    kernels,
    manifest_schema,
    of_kinds,
    packs_of,
    select_items,
    without_items,
)
from resources.vault.packs.sightings import (
    Seen,
    complete,
    differing,
    manifest_row,
    rows_by_agent,
    sightings,
    stored_by,
)

_Excluded = Mapping[str, AbstractSet[Identity]]


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
        self._certain = True

    def run(self, wanted: AbstractSet[str] | None) -> Moment:
        live = self._live_snapshots()
        self._journal = JournalWalker(self._vault, self._at, self._fault)
        fitting = [one for one in live if self._at is None or one.taken_at <= self._at]
        if not fitting:
            self._vault.find_snapshot(self._at)
        self._demand_covered(live)
        first: Base | None = None
        todo: AbstractSet[str] | None = wanted
        newer: dict[str, tuple[Seen, ...]] = {}
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

    def _fault(self, error: CorruptObjectError) -> None:
        if not self._tolerant:
            raise error
        self._notes[str(error)] = None

    def _demand_covered(self, live: Sequence[SnapshotRecord]) -> None:
        """Refuse a moment of which nothing can be known yet."""
        ends = [one.taken_at for one in live]
        head = self._journal.head
        if head is not None and head.header.covered_at is not None:
            ends.append(head.header.covered_at)
        if self._at is not None and self._at > max(ends):
            raise NotFoundError(
                f"network {self._vault.network_id} is covered until {max(ends).isoformat()}, "
                f"not at {self._at.isoformat()}",
                hint="Leave the moment out to restore the newest that is held.",
            )

    def _read_base(self, record: SnapshotRecord) -> Base | None:
        stored = self._vault.snapshot(record.snapshot_id)
        try:
            manifest = self._vault.read_manifest(stored)
        except (CorruptObjectError, NotFoundError) as error:
            if not self._tolerant:
                raise
            self._notes[str(error)] = None
            return None
        journal_seq = int(stored.extra.get("journal_seq", -1))
        return Base(record, stored.position.seq, journal_seq, of_kinds(manifest, states=True))

    def _settle(
        self,
        base: Base,
        live: Sequence[SnapshotRecord],
        todo: AbstractSet[str] | None,
        newer: Mapping[str, tuple[Seen, ...]],
    ) -> dict[str, tuple[Seen, ...]]:
        """Choose for each agent; those for which an older snapshot must be asked, as seen here."""
        walk = self._journal.walk(base)
        self._notes.update(dict.fromkeys(walk.notes))
        table = base.manifest.table if todo is None else select_items(base.manifest.table, todo)
        sighted, pieces = sightings(walk.segments, todo)
        following = None if walk.proven else self._following(base, live)
        self._demand_told(walk, following)
        after = {
            **(self._set_back(base, live, table, todo) if walk.proven else {}),
            **self._after(following, table, todo),
            **newer,
        }
        if self._achieved is None:
            self._achieved = max(base.record.taken_at, walk.covered_at or base.record.taken_at)
        affected = sighted.keys() | after.keys() | self._too_new(table) | self._excluded.keys()
        if todo is not None:
            affected &= todo
        self._take_unaffected(base, table, affected)
        known = rows_by_agent(select_items(table, affected))
        looked_at = sorted(affected | (todo or frozenset()))
        choices: dict[str, Choice] = {}
        for again in (False, True):
            for agent_id in looked_at:
                if agent_id not in self._settled:
                    held = complete(pieces.get(agent_id, {}))
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
            following = self._following(base, live)
            after = {**self._after(following, table, frozenset(looked_at)), **after}
        look_back = {}
        for agent_id, choice in choices.items():
            mine, later = known.get(agent_id), after.get(agent_id, ())
            if choice.look_back and mine is not None:
                look_back[agent_id] = (mine, *later)
            else:
                self._take(agent_id, choice, mine, later, complete(pieces.get(agent_id, {})))
        self._packs.update(base.manifest.packs)
        self._used.append(base.record.snapshot_id)
        return look_back

    def _choose(
        self,
        base: Seen | None,
        journal: Sequence[Identity],
        after: Sequence[Seen],
        pieces: Mapping[Identity, Any],
        walk: Walk,
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

    def _take_unaffected(self, base: Base, table: Any, affected: AbstractSet[str]) -> None:
        """Agents of which the snapshot tells all: taken without looking at each."""
        if affected:
            table = without_items(table, strings(sorted(affected)))
        if len(table):
            self._tables.append(table)
            self._packs.update(base.manifest.packs)
            self._settled.update(table["item_id"].to_pylist())

    def _too_new(self, table: Any) -> set[str]:
        if self._at is None:
            return set()
        moment = number(microseconds(self._at), arrow().timestamp("us", tz="UTC"))
        later = kernels().greater(table["updated_at"], moment)
        return set(table.filter(later)["item_id"].to_pylist())

    def _following(self, base: Base, live: Sequence[SnapshotRecord]) -> Base | None:
        """The next snapshot after the moment."""
        behind = [
            one
            for one in live
            if self._at is not None
            and one.taken_at > self._at
            and self._vault.snapshot(one.snapshot_id).position.seq > base.seq
        ]
        return self._read_base(behind[0]) if behind else None

    def _set_back(
        self, base: Base, live: Sequence[SnapshotRecord], table: Any, todo: AbstractSet[str] | None
    ) -> dict[str, tuple[Seen, ...]]:
        """Later versions dated before the moment, in snapshots that no segment has followed yet.

        A clock that was set back dates them so. Where a segment has followed, the journal names
        them: its head lists what comes late.
        """
        seen: dict[str, tuple[Seen, ...]] = {}
        head = self._journal.head
        for record in live if self._at_us is not None else ():
            stored = self._vault.snapshot(record.snapshot_id)
            journal_seq = int(stored.extra.get("journal_seq", -1))
            if stored.position.seq <= base.seq or (head and journal_seq < head.header.place.seq):
                continue
            later = self._read_base(record)
            for agent_id, (one,) in self._after(later, table, todo, until_us=self._at_us).items():
                seen[agent_id] = (*seen.get(agent_id, ()), one)
        return seen

    def _demand_told(self, walk: Walk, following: Base | None) -> None:
        """Refuse to guess: without journal and next snapshot nobody knows who has changed."""
        if walk.told or following is not None:
            return
        self._certain = False
        if self._at is not None and not self._tolerant:
            raise NotFoundError(
                f"nothing proves what was live at {self._at.isoformat()}: {walk.notes[-1]}",
                hint="Choose an earlier moment, or take what there is (best effort).",
            )

    def _after(
        self,
        following: Base | None,
        table: Any,
        todo: AbstractSet[str] | None,
        until_us: int | None = None,
    ) -> dict[str, tuple[Seen, ...]]:
        """What the next snapshot shows otherwise: all that is known where the journal is silent.

        Args:
            following: that snapshot; None for none.
            table: of the one before.
            todo: of whom; None for all.
            until_us: only versions dated by then.
        """
        if following is None:
            return {}
        theirs = following.manifest.table
        theirs = theirs if todo is None else select_items(theirs, todo)
        if until_us is not None:
            theirs = stored_by(theirs, until_us)
        changed = differing(table, theirs)
        if changed:
            self._packs.update(following.manifest.packs)
            self._used.append(following.record.snapshot_id)
        seen = rows_by_agent(select_items(theirs, changed))
        return {agent_id: (one,) for agent_id, one in seen.items()}

    def _take(
        self,
        agent_id: str,
        choice: Choice,
        base: Seen | None,
        after: Sequence[Seen],
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
            self._rows.append(manifest_row(segment, row))
            trailer = segment.trailer
            info = PackInfo("", trailer.salt, segment.size_bytes, trailer.dek_id, key=segment.key)
            self._packs[segment.key] = info

    def _finish(self, first: Base, wanted: AbstractSet[str] | None) -> Moment:
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
        tables = self._tables
        if self._rows or not tables:
            tables = [*tables, table_of(self._rows, manifest_schema())]
        # A snapshot without a journal behind it is the manifest's own table, not a copy.
        table = arrow().concat_tables(tables).combine_chunks() if len(tables) > 1 else tables[0]
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
            certain=self._certain,
        )

    def _moment_text(self, first: Base) -> str:
        name = f"snapshot {first.record.snapshot_id}"
        return name if self._at is None else f"{self._at.isoformat()} ({name} and its journal)"
