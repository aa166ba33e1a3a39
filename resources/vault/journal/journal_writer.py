"""Appending to the journal of one network: parts, numbers, and who was faster.

Committed by the creation of a segment under the next number, which only one writer gets. The parts
of one pass repeat the cursor before them; the last one moves it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

from fleet.agents import AgentState, StateChange
from fleet.errors import FencedError, NotFoundError, StoreUnavailableError
from fleet.inventory import AgentStateInfo
from fleet.state_cuts import columns_of
from fleet.vault_journal import (
    NO_PREVIOUS,
    PART_BYTES,
    PART_ROWS,
    Gap,
    Piece,
    SegmentHeader,
    change_mark,
    group_pieces,
    late_segments,
    pieces_of,
    read_trailer,
    seal_segment,
)
from fleet.vault_keyspace import SegmentPlace, segment_key
from fleet.vault_pack import SALT_BYTES
from resources.vault.keys.shredding import demand_unshredded
from resources.vault.live_states import read_states
from resources.vault.network import NetworkVault
from resources.vault.packs.state_diff import diff_states

_CREATE_TRIES = 4
_OVERTAKEN_MAX = 20


class ChangeSource(Protocol):
    """What a journal reads: the part of `fleet.ports.AgentStateStore` that it needs."""

    def state_changes(self, after: int, limit: int) -> list[StateChange]:
        """Change log entries behind a cursor, in order."""
        ...

    def state_infos(self) -> list[AgentStateInfo]:
        """Metadata of all states, as one consistent cut."""
        ...

    def states(self, agent_ids: Sequence[str]) -> list[AgentState]:
        """The newest states of these agents, digests verified."""
        ...


class SegmentResult(NamedTuple):
    """What a pass did for one network."""

    network_id: str
    segments: tuple[str, ...]
    """Keys written, in order; none when nothing changed and the last one is young."""
    agents: int
    """Agents whose newest state was stored."""
    mentioned: int
    """Versions that were replaced before they could be read."""
    damaged: tuple[str, ...]
    """Agents whose live state is damaged."""
    covered_at: datetime | None
    """What a restore can prove, up to when; None while there is no snapshot to begin at."""
    checked_at: datetime
    """Nothing has changed between `covered_at` and this moment but what is stored."""
    cursor: int
    """Change log entries up to this id are covered."""
    gap: str
    """Why there is a gap in the journal; empty for none."""
    waiting: str
    """Why nothing could be written yet; empty otherwise."""
    bytes_logical: int
    bytes_stored: int
    seconds: float


class _Overtaken(Exception):  # noqa: N818 - a turn of events, not an error
    """Another journaler took the number."""


class SegmentWriter:
    """Appends to the journal of one network during one pass.

    Args:
        vault: the opened network.
        source: the control store.
        heartbeat: age of the last segment at which one is written without changes.
    """

    def __init__(self, vault: NetworkVault, source: ChangeSource, heartbeat: timedelta) -> None:
        """Read where the journal stands."""
        self._vault = vault
        self._source = source
        self._heartbeat = heartbeat
        self._segments: list[str] = []
        self._damaged: set[str] = set()
        self._agents = self._mentioned = self._logical = self._stored = 0
        self._gap = self._waiting = ""
        # A process that opened the network before it was shredded must not go on as if nothing was.
        demand_unshredded(vault.store, vault.network_id)
        self._look()
        begun = self._head is not None and self._head.covered_at is not None
        self.cursor = self._head.cursor if self._head and begun else 0
        self.recognised = begun and self.cursor == 0

    def _look(self) -> None:
        """Read the newest segment."""
        journal = self._vault.journal
        listed = journal.refresh()
        segment = journal.read(listed[-1]) if listed else None
        self._first_seq = listed[0].place.seq if listed else 1
        self._head: SegmentHeader | None = segment.header if segment else None
        self._link = segment.trailer.link if segment else NO_PREVIOUS

    def recognise(self, change: StateChange) -> None:
        """Compare the entry at the cursor: only then the change log continues the journal."""
        if self._head is not None and self.cursor:
            self.recognised = change_mark(change) == self._head.mark

    def write_changes(
        self,
        share: Mapping[str, Sequence[StateChange]],
        cursor: int,
        mark: str,
        at: datetime | None,
    ) -> None:
        """Write the changes of one round; `at` is None when more rounds follow."""
        fresh = {
            agent_id: [one for one in changes if one.change_id > self.cursor]
            for agent_id, changes in share.items()
        }
        fresh = {agent_id: changes for agent_id, changes in fresh.items() if changes}
        if fresh or self._is_due(at):
            sizes = {agent_id: changes[-1].size_bytes for agent_id, changes in fresh.items()}
            self._write(fresh, sizes, cursor, mark, at, None)

    def write_listing(
        self, infos: Sequence[AgentStateInfo], cursor: int, mark: str, at: datetime
    ) -> None:
        """Begin, or begin anew, with what differs from the newest snapshot."""
        vault = self._vault
        live = vault.log.refresh().live
        if not live:
            self._waiting = "there is no snapshot yet to begin at"
            return
        newest = list(live)[-1]
        base = vault.read_manifest(vault.snapshot(newest))
        changed = [infos[number] for number in diff_states(base.table, columns_of(infos)).changed]
        begun = self._head.covered_at if self._head else None
        if begun is None:
            gap = Gap(live[newest].taken_at, "the journal begins here", newest)
        else:
            reason = f"the change log does not continue at change {self.cursor}"
            gap = Gap(begun, reason, newest)
        self._gap = gap.reason
        share: dict[str, Sequence[StateChange]] = {one.agent_id: () for one in changed}
        sizes = {one.agent_id: one.size_bytes for one in changed}
        self._write(share, sizes, cursor, mark, at, gap)

    def _is_due(self, at: datetime | None) -> bool:
        covered = self._head.covered_at if self._head else None
        return at is not None and (covered is None or abs(at - covered) >= self._heartbeat)

    def _write(
        self,
        share: Mapping[str, Sequence[StateChange]],
        sizes: Mapping[str, int],
        cursor: int,
        mark: str,
        at: datetime | None,
        gap: Gap | None,
    ) -> None:
        """Write all parts; the last one moves the cursor."""
        parts = list(_parts(share, sizes)) or [[]]
        overtaken = 0
        while parts:
            try:
                self._write_part(parts[0], share, (cursor, mark, at, gap), final=len(parts) == 1)
                parts.pop(0)
            except _Overtaken:
                overtaken += 1
                self._look()
                if self._is_covered(cursor):
                    break
                if overtaken > _OVERTAKEN_MAX:
                    raise FencedError(
                        f"journal of {self._vault.network_id}: another writer was faster "
                        f"{overtaken} times",
                        hint="Run one journaler for each network.",
                    ) from None
        self.cursor = self._head.cursor if self._head else self.cursor

    def _is_covered(self, cursor: int) -> bool:
        """Whether another writer has covered all that this one was about to."""
        head = self._head
        return head is not None and head.covered_at is not None and head.cursor >= cursor

    def _write_part(
        self,
        agent_ids: Sequence[str],
        share: Mapping[str, Sequence[StateChange]],
        end: tuple[int, str, datetime | None, Gap | None],
        *,
        final: bool,
    ) -> None:
        read = read_states(self._source, agent_ids)
        self._damaged.update(read.damaged)
        states = {one.agent_id: one for one in read.states}
        pieces = [
            piece
            for agent_id in agent_ids
            for piece in pieces_of(agent_id, share[agent_id], states.get(agent_id))
        ]
        groups = group_pieces(pieces)
        for number, group in enumerate(groups):
            self._append(group, end, final=final and number == len(groups) - 1)
        self._agents += len(states)
        self._mentioned += sum(not piece.row.chunks for piece in pieces)
        self._logical += sum(len(piece.plain) for piece in pieces)

    def _append(
        self,
        pieces: Sequence[Piece],
        end: tuple[int, str, datetime | None, Gap | None],
        *,
        final: bool,
    ) -> None:
        """Create the next segment; committed by the create-only write of its number."""
        vault, before = self._vault, self._head
        cursor, mark, at, gap = end
        if before and before.place.epoch > vault.epoch:
            raise FencedError(
                f"journal of {vault.network_id}: epoch {before.place.epoch} has begun, "
                f"this writer is of {vault.epoch}",
                hint="Another region writes this vault now; stop the journal here.",
            )
        place = SegmentPlace(vault.epoch, before.place.seq + 1 if before else 1)
        covered = before.covered_at if before else None
        if not final:
            cursor, mark = (before.cursor, before.mark) if before else (0, "")
        elif at is not None:
            covered = at
        highs = [one for one in (before.high_at if before else None, covered) if one is not None]
        header = SegmentHeader(
            network_id=vault.network_id,
            place=place,
            previous=self._link,
            written_at=vault.clock.now(),
            cursor=cursor,
            mark=mark,
            covered_at=covered,
            final=final and at is not None,
            gap=gap if final else None,
            high_at=max(highs, default=None),
            late=late_segments(before, pieces, place, self._first_seq),
        )
        data = seal_segment(vault.keys, header, pieces, os.urandom(SALT_BYTES))
        key = segment_key(vault.network_id, place)
        if not self._create(key, data):
            raise _Overtaken
        self._head, self._link = header, read_trailer(data, key).link
        self._segments.append(key)
        self._stored += len(data)

    def _create(self, key: str, data: bytes) -> bool:
        """Create the number, or find out whose it is; a lost answer is looked up."""
        store = self._vault.store
        for remaining in reversed(range(_CREATE_TRIES)):
            try:
                if store.create(key, data):
                    return True
                return store.get(key) == data
            except NotFoundError:
                continue  # refused as existing, then gone: a store that answers in two minds
            except StoreUnavailableError:
                if not remaining:
                    raise
        raise StoreUnavailableError(f"segment {key}: the store says it exists and does not")

    def result(self, checked_at: datetime, seconds: float) -> SegmentResult:
        """What was done."""
        head = self._head
        return SegmentResult(
            network_id=self._vault.network_id,
            segments=tuple(self._segments),
            agents=self._agents,
            mentioned=self._mentioned,
            damaged=tuple(sorted(self._damaged)),
            covered_at=head.covered_at if head else None,
            checked_at=checked_at,
            cursor=head.cursor if head else 0,
            gap=self._gap,
            waiting=self._waiting,
            bytes_logical=self._logical,
            bytes_stored=self._stored,
            seconds=seconds,
        )


def _parts(
    share: Mapping[str, Sequence[StateChange]], sizes: Mapping[str, int]
) -> Iterator[list[str]]:
    """Agent ids in parts of bounded bytes and rows."""
    part: list[str] = []
    size = rows = 0
    for agent_id in sorted(share):
        more = len(share[agent_id]) + 1
        full = size + sizes[agent_id] > PART_BYTES or rows + more > PART_ROWS
        if part and full:
            yield part
            part, size, rows = [], 0, 0
        part.append(agent_id)
        size += sizes[agent_id]
        rows += more
    if part:
        yield part
