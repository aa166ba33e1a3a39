"""The last heartbeat of every node that the control store took in, and who holds the node's lease.

What the store would hold if every node reported to it: a report is taken in at the first look after
it arrived, dated as it arrived, and renews the lease. A node that has booted anew waits until the
lease of its former boot has run out, or was ended by a fence.

A node that has long been in one condition beats on its grid or not at all; its newest heartbeat is
arithmetic on arrays. Nodes are looked at one by one only from a change on until the first beat
under the new condition was taken in (or until nothing is on its way any more).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fleet.failover.ages import NEVER
from fleet.reports import LIVE_PHASES
from resources.simulated.clock import as_microseconds
from resources.simulated.condition_columns import ConditionColumns
from resources.simulated.heartbeats import Beat

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from fleet.failover.columns import BoolArray

    Moments = npt.NDArray[np.int64]

NOBODY = 0
"""Holder of a lease that was never taken; boots count from 1."""

FENCED = -1
"""Holder of a lease that a fence has ended: nobody may renew it, anybody may take it."""

_ERA_US = 1 << 50
"""Added to arrivals to make tokens, so that arrivals before the start are none of the markers."""

_LONG_AGO_US = -(1 << 60)


class BeatColumns:
    """Reports and node leases of a simulated cluster, as a control store would hold them.

    Args:
        conditions: of its nodes; followed before this.
        ttl_s: how long a node's lease lasts after each renewal.

    Attributes:
        sent_us: when the last heartbeat that was taken in was sent.
        tokens: changes with every heartbeat that is taken in; `NEVER` before the first.
        holder: boot that holds the lease, `NOBODY` or `FENCED`.
        reported: boot of the last heartbeat that was taken in, `NOBODY` before the first.
    """

    def __init__(self, conditions: ConditionColumns, ttl_s: float) -> None:
        """Nothing was taken in yet."""
        import numpy as np

        self._nodes, self._boot = conditions.nodes, conditions.boot
        self._ttl_us = as_microseconds(ttl_s)
        size = len(conditions)
        self.sent_us: Moments = np.full(size, _LONG_AGO_US, dtype=np.int64)
        self.tokens: Moments = np.full(size, NEVER, dtype=np.int64)
        self.holder: Moments = np.full(size, NOBODY, dtype=np.int64)
        self.reported: Moments = np.full(size, NOBODY, dtype=np.int64)
        self._expires_us: Moments = np.full(size, _LONG_AGO_US, dtype=np.int64)
        self._reporter = [NOBODY] * size
        """Boot under which the node believes to hold its lease."""
        self._interval_us = np.array([node.interval_us for node in self._nodes], dtype=np.int64)
        self._phase_us = np.array([node.phase_us for node in self._nodes], dtype=np.int64)
        self._delay_us: Moments = np.zeros(size, dtype=np.int64)
        self._steady: BoolArray = np.zeros(size, dtype=bool)
        self._unsettled = set(range(size))
        self._live: dict[int, dict[str, int]] = {}
        """Of nodes that are not steady: agents that lived in their last report, with epochs."""

    def follow(self, now_us: int, changed: Iterable[int]) -> None:
        """Take in what has arrived by now.

        Args:
            now_us: the present; looks are closer together than a lease lasts.
            changed: positions of nodes whose condition has changed since the last look.
        """
        import numpy as np

        for position in changed:
            if self._steady[position]:
                self._live[position] = self._living(position)
            self._steady[position] = False
            self._unsettled.add(position)
        due_us = now_us - self._delay_us
        sent_us = due_us - (due_us - self._phase_us) % self._interval_us
        received_us = sent_us + self._delay_us
        np.copyto(self.sent_us, sent_us, where=self._steady)
        np.copyto(self.tokens, received_us + _ERA_US, where=self._steady)
        np.copyto(self._expires_us, received_us + self._ttl_us, where=self._steady)
        for position in sorted(self._unsettled):
            self._look(position, now_us)

    def _look(self, position: int, now_us: int) -> None:
        """Take in the newest heartbeat of one node, and see whether it has come to rest."""
        node = self._nodes[position]
        beat = node.beat(now_us)
        news = beat is not None and beat.sent_us > self.sent_us[position]
        if beat is not None and news and not self._accept(position, beat):
            return
        last = node.segments[-1]
        if last.condition.beats:
            settled = beat is not None and beat.segment is last
            self._steady[position] = settled
            self._delay_us[position] = last.condition.delay_us
            if settled:
                self._live.pop(position, None)
        else:  # what was sent before may still be on its way
            late_us = max(one.condition.delay_us for one in node.segments)
            settled = now_us - last.start_us > late_us
        if settled:
            self._unsettled.discard(position)

    def _accept(self, position: int, beat: Beat) -> bool:
        """Report under the node's lease, which may have to be taken first; False when refused."""
        boot, held = beat.segment.boot, int(self.holder[position])
        if self._reporter[position] == boot:
            if held != boot:  # ended by a fence: the node learns it, and tries again next time
                self._reporter[position] = NOBODY
                return False
        elif held not in {NOBODY, boot} and beat.received_us < self._expires_us[position]:
            self._reporter[position] = NOBODY
            return False
        expires_us = beat.received_us + self._ttl_us
        if held == boot:
            expires_us = max(expires_us, int(self._expires_us[position]))
        self._reporter[position] = self.holder[position] = self.reported[position] = boot
        self.sent_us[position] = beat.sent_us
        self.tokens[position] = beat.received_us + _ERA_US
        self._expires_us[position] = expires_us
        self._live[position] = self._living(position)
        return True

    def live_copies(self, position: int) -> dict[str, int]:
        """Agents that run, or will run again, by a node's last report; with their epochs."""
        return self._live[position] if position in self._live else self._living(position)

    def _living(self, position: int) -> dict[str, int]:
        """The same while the node still knows what it reported."""
        sent_us = int(self.sent_us[position])
        return {
            agent_id: seen.epoch
            for agent_id, copy in self._nodes[position].copies.items()
            if (seen := copy.seen_at(sent_us)) is not None and seen.phase in LIVE_PHASES
        }

    def fence(self, positions: Iterable[int], now_us: int) -> None:
        """End the leases of these nodes that have run out, as a run does before it moves agents."""
        for position in positions:
            if self.holder[position] != NOBODY and self._expires_us[position] <= now_us:
                self.holder[position] = FENCED

    def acting(self) -> Moments:
        """Boots that hold the leases, or held them until the fence, as `NodeBeat.acting_boot`."""
        import numpy as np

        found: Moments = np.where(self.holder == FENCED, self.reported, self.holder)
        return found

    def leased(self, now_us: int) -> BoolArray:
        """Nodes whose present boot holds a lease that runs."""
        held: BoolArray = (self.holder == self._boot) & (now_us < self._expires_us)
        return held
