"""The notes of agents as embedding reads them: in the order in which they were stored.

A note's id sorts by the time that its agent says, and agents deliver late. So whoever follows the
notes follows the store's own log of changes, which also tells of notes that were removed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from fleet.agents import Note
from fleet.leases import Lease
from fleet.vectors.standing import IndexStanding


class NoteChange(NamedTuple):
    """A note was stored, changed or removed."""

    change_id: int
    """Rises in the order of commits, over all networks; not without gaps."""
    note_id: str
    note: Note | None
    """As it is now; None when it is gone."""
    region: str | None
    """Where its agent is placed now; None when it is placed nowhere."""


class NoteBacklog(NamedTuple):
    """What waits to be indexed in one network."""

    network_id: str
    standing: IndexStanding
    waiting: int
    """Changes after `standing.indexed_change`, counted up to the limit of the question."""
    oldest_at: datetime | None
    """When the first of them was stored; None where none waits."""
    newest_change: int
    builder: Lease | None
    """Lease of the network's builder as stored, also when it has run out; None: never held."""


class NoteIndexStore(Protocol):
    """What stands between agents' notes and their indexes."""

    def note_changes(self, network_id: str, after: int, limit: int) -> list[NoteChange]:
        """Changes with change_id > `after`, in order; a note that changed twice stands twice.

        No change appears later below one that was returned: writers in flight are waited for.
        """
        ...

    def note_ids(self, network_id: str, after: str, limit: int) -> Sequence[str]:
        """Ids of the notes that exist, greater than `after`, in order, at most `limit`."""
        ...

    def note_backlogs(self, count_max: int) -> list[NoteBacklog]:
        """What waits, for each network that ever had a note, by name; one cheap look.

        Args:
            count_max: waiting changes are counted up to this many.
        """
        ...

    def index_standing(self, network_id: str) -> IndexStanding:
        """How far the network's index has come; a standing without anything before the first."""
        ...

    def change_index_standing(
        self,
        network_id: str,
        change: Callable[[IndexStanding], IndexStanding],
        term: int | None = None,
    ) -> IndexStanding:
        """Replace a standing by what `change` makes of it, in one transaction.

        Args:
            network_id: the network.
            change: called once, with the present standing.
            term: of the lease under which the caller builds; None: it does not build.

        Raises:
            LeaseLostError: a builder of a higher term has written since; nothing has changed.
        """
        ...
