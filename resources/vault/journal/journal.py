"""Writing the journal: what has changed since the last segment, for several networks in one pass.

Committed by the creation of a segment under the next number, which only one writer gets. Each
segment carries the cursor into the change log up to which it covers, so nothing else is kept:
killed anywhere, the next pass goes on from the last segment that is there. Everything in a segment
was read after every foreign segment before it existed, so the order of the journal is the order in
which states were seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from fleet.agents import StateChange
from fleet.errors import StateroomError
from fleet.inventory import AgentStateInfo
from fleet.vault_journal import change_mark
from resources.vault.journal.journal_writer import ChangeSource, SegmentResult, SegmentWriter
from resources.vault.network import NetworkVault

HEARTBEAT = timedelta(minutes=5)
"""A network without changes gets a segment this often, so that its coverage is on record."""
_PAGE = 10_000
"""Change log entries in one read."""
_ROUND = 100_000
"""Change log entries in memory at a time."""


class JournalPass(NamedTuple):
    """One pass over the change log for several networks."""

    results: Mapping[str, SegmentResult]
    failures: Mapping[str, StateroomError]
    """Networks whose vault failed; the next pass tries them again from where they stand."""


def append_segment(
    vault: NetworkVault,
    source: ChangeSource,
    *,
    heartbeat: timedelta = HEARTBEAT,
    networks: dict[str, str] | None = None,
) -> SegmentResult:
    """Journal what has changed in one network since its last segment.

    Args:
        vault: the opened network.
        source: the control store.
        heartbeat: age of the last segment at which one is written without changes.
        networks: see `append_segments`.

    Raises:
        StoreUnavailableError: a store does not answer; running again goes on.
        CorruptObjectError: the newest segment, or the snapshot to begin at, is damaged.
        FencedError: other writers were faster, again and again.
    """
    done = append_segments(
        {vault.network_id: vault}, source, heartbeat=heartbeat, networks=networks
    )
    for failure in done.failures.values():
        raise failure
    return done.results[vault.network_id]


def append_segments(
    vaults: Mapping[str, NetworkVault],
    source: ChangeSource,
    *,
    heartbeat: timedelta = HEARTBEAT,
    networks: dict[str, str] | None = None,
) -> JournalPass:
    """Journal several networks, reading the change log once; one's failure stops no other.

    Args:
        vaults: the opened networks, by id.
        source: the control store.
        heartbeat: age of the last segment at which one is written without changes.
        networks: network of each agent, kept by the caller from pass to pass and filled here: the
            listing of all states is then read only when an unknown agent has changed. Empty it
            when agents may have been declared into other networks, at least with each snapshot.

    Raises:
        StoreUnavailableError: the control store does not answer.
    """
    if not vaults:
        return JournalPass({}, {})
    known = {} if networks is None else networks
    return _Pass(vaults, source, heartbeat, known).run()


class _Pass:
    """Reads the change log once and hands each network its share."""

    def __init__(
        self,
        vaults: Mapping[str, NetworkVault],
        source: ChangeSource,
        heartbeat: timedelta,
        networks: dict[str, str],
    ) -> None:
        self._clock = next(iter(vaults.values())).clock
        self._source = source
        self._failures: dict[str, StateroomError] = {}
        self._networks = networks
        self._writers: dict[str, SegmentWriter] = {}
        self._began_s = self._clock.monotonic_s()
        for network_id, vault in vaults.items():
            try:
                self._writers[network_id] = SegmentWriter(vault, source, heartbeat)
            except StateroomError as error:
                self._failures[network_id] = error

    def run(self) -> JournalPass:
        cursors = [one.cursor for one in self._writers.values()]
        after = max(0, min(cursors, default=0) - 1)
        at, mark = self._clock.now(), ""
        waiting: list[StateChange] = []
        while self._writers:
            at = self._clock.now()
            page = self._source.state_changes(after, _PAGE)
            if page:
                after, mark = page[-1].change_id, change_mark(page[-1])
            self._recognise(page)
            waiting += page
            last = len(page) < _PAGE
            if last or len(waiting) >= _ROUND:
                self._write(waiting, after if mark else 0, mark, at if last else None)
                waiting = []
            if last:
                break
        seconds = self._clock.monotonic_s() - self._began_s
        results = {name: one.result(at, seconds) for name, one in self._writers.items()}
        return JournalPass(results, self._failures)

    def _recognise(self, page: Sequence[StateChange]) -> None:
        """Let each network find the entry at which its journal stands."""
        seeking: dict[int, list[SegmentWriter]] = {}
        for writer in self._writers.values():
            if not writer.recognised:
                seeking.setdefault(writer.cursor, []).append(writer)
        for change in page if seeking else ():
            for writer in seeking.get(change.change_id, ()):
                writer.recognise(change)

    def _write(
        self, changes: Sequence[StateChange], cursor: int, mark: str, at: datetime | None
    ) -> None:
        shares = self._shares(changes)
        infos: Sequence[AgentStateInfo] = ()
        if at is not None and not all(one.recognised for one in self._writers.values()):
            # Read behind the last entry that the cursor will cover, whatever is known.
            infos = self._list_states()
        for network_id, writer in list(self._writers.items()):
            try:
                if writer.recognised:
                    share = shares.get(network_id, {})
                    writer.write_changes(share, cursor, mark, at)
                elif at is not None:
                    mine = [one for one in infos if one.network_id == network_id]
                    writer.write_listing(mine, cursor, mark, at)
            except StateroomError as error:
                self._failures[network_id] = error
                del self._writers[network_id]

    def _shares(self, changes: Sequence[StateChange]) -> dict[str, dict[str, list[StateChange]]]:
        """Changes by network and agent; an agent without a state belongs to nobody."""
        oldest = min((one.cursor for one in self._writers.values()), default=0)
        fresh = [one for one in changes if one.change_id > oldest]
        shares: dict[str, dict[str, list[StateChange]]] = {}
        if not fresh:
            return shares
        if any(one.agent_id not in self._networks for one in fresh):
            self._list_states()
        for change in fresh:
            network_id = self._networks.get(change.agent_id)
            if network_id is not None:
                share = shares.setdefault(network_id, {})
                share.setdefault(change.agent_id, []).append(change)
        return shares

    def _list_states(self) -> Sequence[AgentStateInfo]:
        infos = self._source.state_infos()
        self._networks.clear()
        self._networks.update({one.agent_id: one.network_id for one in infos})
        return infos
