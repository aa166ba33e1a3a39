"""States of agents: durable, fenced by epochs, with a log of changes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from fleet.agents import AgentState, StateChange, StatePut, StateRestore
from fleet.errors import FencedError, TooLargeError
from fleet.inventory import AgentStateInfo
from fleet.state_cuts import ChangeCursor, StateListing


class PutResult(NamedTuple):
    """Outcome of one put of a batch: the durable version, or the error that refused it."""

    agent_id: str
    version: int
    """New version when accepted, else 0."""
    error: FencedError | TooLargeError | None
    updated_at: datetime | None = None
    """When it was stored, by the store's clock; None when it was refused."""


class AgentStateStore(Protocol):
    """Durable, fenced agent state."""

    def put_states(self, puts: Sequence[StatePut]) -> list[PutResult]:
        """Apply puts in order in one durable transaction; refused ones do not stop the others.

        When this returns, every accepted put survives a power cut.
        """
        ...

    def state(self, agent_id: str) -> AgentState | None:
        """The newest state, its digest verified; None when there is none.

        Raises:
            CorruptObjectError: the stored bytes do not match the digest.
        """
        ...

    def states(self, agent_ids: Sequence[str]) -> list[AgentState]:
        """The newest states of these agents, digests verified, ordered by agent_id; one query.

        Agents without a state are left out. The caller chunks: all bytes are in memory at once.

        Raises:
            CorruptObjectError: stored bytes of one of them do not match the digest.
        """
        ...

    def restore_states(
        self, restores: Sequence[StateRestore], *, more: bool = False
    ) -> list[PutResult]:
        """Put states back from a backup, as `put_states` does: one durable transaction, in order.

        With `more`, a further batch follows. This one is a transaction all the same and survives
        the end of the process, but a power cut only once any durable write behind it has returned:
        a restore of very many states waits for the disk once, not with every batch.

        A restore is accepted when the live version is still `expected_version`. It is stored under
        the placement's epoch and the higher of the backup's version and the live one + 1, so that
        versions never fall and every running writer must load the state again. A digest that the
        restorer gives is kept as it is, so that large restores are hashed once.
        """
        ...

    def state_infos(self, region: str | None = None) -> list[AgentStateInfo]:
        """Metadata of all states, ordered by agent_id; never the bytes."""
        ...

    def cut_states(
        self, network_id: str, since: ChangeCursor | None, *, whole: bool = False
    ) -> StateListing:
        """List the states of a network that were touched since an earlier cut, or all of them.

        Every state of which a change log entry up to the new cursor tells is listed as it was then
        or later. All are listed, with the reason, when the earlier cut cannot be gone on from
        (`fleet.state_cuts.explain_broken`); retired agents count, as in `state_infos`.

        The cut replaces the network's newest one: committed when this returns, and only the newest
        can be gone on from.

        Args:
            network_id: whose states.
            since: the earlier cut's; None for none.
            whole: list all, whether or not the earlier cut can be gone on from.

        Raises:
            CorruptObjectError: the digest of a state is no SHA-256.
        """
        ...

    def state_changes(self, after: int, limit: int) -> list[StateChange]:
        """Change log entries with change_id > `after`, in order, at most `limit`.

        No entry appears later below one that was returned.
        """
        ...

    def trim_state_changes(self, up_to: int) -> int:
        """Remove change log entries that every reader has passed; states stay.

        Returns:
            How many entries with change_id <= `up_to` there were.
        """
        ...
