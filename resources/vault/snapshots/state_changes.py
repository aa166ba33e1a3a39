"""Agent states of a backup: which have changed since the base, read and stored batch by batch.

What the change log names since the base's cut is looked at, and nothing else; where that is not
enough (`fleet.state_cuts.explain_broken`), all states are listed and compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from fleet.agents import AgentState, StateChange
from fleet.state_cuts import ChangeCursor, StateListing, cursor_of
from resources.vault.live_states import read_states
from resources.vault.packs.arrow_columns import empty, number, strings, text
from resources.vault.packs.manifest import (
    STATE,
    arrow,
    kernels,
    manifest_schema,
    of_kinds,
    select_items,
    tombstones,
)
from resources.vault.packs.state_diff import diff_states
from resources.vault.snapshots.attempt import Attempt

_BATCH_BYTES = 2 * 1024 * 1024
_BATCH_AGENTS = 1000
_PAGE = 10_000
FULL = "a full snapshot compares every state"


class StateSource(Protocol):
    """What a backup reads: the part of `fleet.ports.AgentStateStore` that it needs."""

    def cut_states(
        self, network_id: str, since: ChangeCursor | None, *, whole: bool = False
    ) -> StateListing:
        """The states of a network that were touched since an earlier cut, or all of them."""
        ...

    def state_changes(self, after: int, limit: int) -> list[StateChange]:
        """Change log entries behind a cursor, in order."""
        ...

    def states(self, agent_ids: Sequence[str]) -> list[AgentState]:
        """The newest states of these agents, digests verified."""
        ...


class StateChanges:
    """The states' part of one attempt.

    Args:
        attempt: that it belongs to.
        source: the control store.
        full: whether to compare every state, whatever the change log says.
    """

    def __init__(self, attempt: Attempt, source: StateSource, *, full: bool = False) -> None:
        """Nothing is read yet."""
        self._attempt = attempt
        self._source = source
        self._full = full
        self._since: ChangeCursor | None = None
        self._listing: StateListing | None = None
        self._cursor: ChangeCursor | None = None
        self.agents = 0
        """With a state, damaged ones included."""
        self.whole = ""
        """Why all states were listed; empty when only those were that have been touched."""
        self.changed = self.removed = 0
        self.unlogged = 0
        """States that differ from the base without a change log entry: a full comparison finds
        what somebody has changed in the database itself."""
        self.damaged: list[str] = []

    def take_cut(self) -> int:
        """Take one cut of the network's states; how many there are."""
        attempt = self._attempt
        since = cursor_of(attempt.base_extra.get("cut", {}).get("states"))
        foreign = since is not None and attempt.base_epoch != attempt.vault.epoch
        self._since = None if foreign else since
        listing = self._source.cut_states(attempt.vault.network_id, self._since, whole=self._full)
        self._listing, self._cursor = listing, listing.cursor
        self.agents = len(listing.states.agent_ids)
        if not listing.is_whole:
            self.agents += self._untouched(listing.states.agent_ids)
        elif self._full:
            self.whole = FULL
        elif foreign:
            self.whole = f"the base is of epoch {attempt.base_epoch}, when another region wrote"
        else:
            self.whole = listing.broken
        return self.agents

    def _untouched(self, touched: Sequence[str]) -> int:
        """How many agents of the base the cut does not list."""
        pc = kernels()
        table = self._attempt.current.table
        is_head = pc.equal(table["chunk"], number(0, arrow().int32()))
        known = pc.and_(pc.equal(table["kind"], text(STATE)), is_head)
        if touched:
            again = pc.is_in(table["item_id"], value_set=strings(touched))
            known = pc.and_not(known, again)
        return int(pc.sum(known).as_py() or 0)

    @property
    def cursor(self) -> ChangeCursor | None:
        """From where the next cut may go on; None where it must compare everything.

        So it must after a damaged state: nothing in the change log tells when that was mended.
        """
        return None if self.damaged else self._cursor

    def store(self) -> list[Any]:
        """Store what has changed since the base; the delta's rows, tombstones included."""
        attempt = self._attempt
        listing, self._listing = self._listing, None
        assert listing is not None, "take_cut comes first"
        base = of_kinds(attempt.current, states=True).table
        if not self.whole:
            base = select_items(base, listing.states.agent_ids)
        diff = diff_states(base, listing.states)
        del base
        self._count_unlogged(listing, diff.changed, diff.removed)
        agent_ids, sizes = listing.states.agent_ids, listing.states.sizes
        del listing  # of a network's listing the rest has been read
        fresh, gone = self._store(_batches(agent_ids, sizes, diff.changed), len(diff.changed))
        del agent_ids, sizes
        removed = arrow().concat_arrays([diff.removed, strings(gone)])
        is_head = kernels().equal(fresh["chunk"], number(0, arrow().int32()))
        self.changed = kernels().sum(is_head).as_py() or 0
        self.removed = len(removed)
        attempt.replace(fresh, removed)
        return [fresh, tombstones(removed)]

    def _count_unlogged(self, listing: StateListing, changed: Sequence[int], removed: Any) -> None:
        """Ask the change log, where it continues, about what the full comparison has found."""
        since = self._since
        if not self._full or listing.broken or since is None:
            return
        agent_ids = listing.states.agent_ids
        found = {agent_ids[at] for at in changed} | set(removed.to_pylist())
        after = since.change_id
        while found:
            page = self._source.state_changes(after, _PAGE)
            found.difference_update(one.agent_id for one in page)
            if len(page) < _PAGE:
                break
            after = page[-1].change_id
        self.unlogged = len(found)

    def rescue(self, lost: Sequence[str]) -> int:
        """Store agents whose packs go away again from their live states; how many.

        Who has no live state any more is left out: nothing is left to store. The next cut compares
        everything.
        """
        wanted = set(lost)
        listed = self._source.cut_states(self._attempt.vault.network_id, None).states
        numbers = [at for at, agent_id in enumerate(listed.agent_ids) if agent_id in wanted]
        fresh, _ = self._store(_batches(listed.agent_ids, listed.sizes, numbers), len(numbers))
        del listed
        self._cursor = None
        self._attempt.replace(fresh, strings(lost))
        return len(numbers)

    def _store(self, batches: Iterator[list[str]], count: int) -> tuple[Any, list[str]]:
        """Store the live states of so many agents; their rows, and who has none any more."""
        gone: list[str] = []
        if not count:
            return empty(manifest_schema()), gone
        with self._attempt.writer(STATE) as writer:
            for batch in batches:
                states, damaged = read_states(self._source, batch)
                self.damaged += damaged
                found = {one.agent_id for one in states}.union(damaged)
                gone += [one for one in batch if one not in found]
                writer.add(states)
            fresh = writer.finish()
        self._attempt.adopt(writer)
        return fresh, gone


def _batches(
    agent_ids: Sequence[str], sizes: Sequence[int], numbers: Iterable[int]
) -> Iterator[list[str]]:
    """The agent ids of these positions, in batches of bounded bytes."""
    batch: list[str] = []
    size = 0
    for at in numbers:
        size_bytes = sizes[at]
        if batch and (size + size_bytes > _BATCH_BYTES or len(batch) >= _BATCH_AGENTS):
            yield batch
            batch, size = [], 0
        batch.append(agent_ids[at])
        size += size_bytes
    if batch:
        yield batch
