"""How long ago *we* saw a sign of life: ages by the receiver's monotonic clock.

A sender's time is never compared with ours. Each channel of a node carries a token (a report
counter, a heartbeat time, a lease's renewal time: anything that changes with every sign of life);
we keep the moment at which we saw it change. A clock that is a day off, or set back, changes
nothing. The first token that we read is no sign: it may be as old as the store.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from fleet.errors import InvalidInputError
from fleet.failover.policy import FailoverPolicy

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from fleet.failover.columns import BoolArray, FloatArray

    TokenArray = npt.NDArray[np.int64]

NEVER = -1
"""Token of a channel that has never carried anything."""

_UNREAD = -2
"""Kept where no token has been read yet."""

_MEAN_SHARE = 0.1
"""Weight of the newest interval in the running mean: it forgets half in about seven beats."""


class Channel(StrEnum):
    """A way by which a node's life shows."""

    HEARTBEAT = "heartbeat"
    LEASE = "lease"
    WORK = "work"


class ReceiverAges:
    """Keeps, for one fixed order of nodes, when each channel last changed before our eyes.

    One thread uses it. A new object knows no sign of life: ages are +inf until a token changes,
    and `decide` counts silence from its own start, so a restarted controller waits in full.
    """

    def __init__(self, node_ids: tuple[str, ...], policy: FailoverPolicy) -> None:
        """Watch these nodes, sorted by name; nothing has been seen yet."""
        import numpy as np

        self.node_ids = node_ids
        self._policy = policy
        size = len(node_ids)
        self._tokens: dict[Channel, TokenArray] = {
            channel: np.full(size, _UNREAD, dtype=np.int64) for channel in Channel
        }
        self._seen_s = {channel: np.full(size, -np.inf) for channel in Channel}
        self._mean_s = np.zeros(size)
        self._terminated_s = np.full(size, np.inf)

    def see(self, channel: Channel, tokens: TokenArray, now_s: float) -> None:
        """Take the tokens that were just read; those that differ from the last are signs of life.

        An interval that is an outage by the policy's own measure does not enter the mean: it says
        how the node beats when it lives.

        Args:
            channel: which one.
            tokens: one per node, `NEVER` where there is none; in the order of `node_ids`.
            now_s: when they were read, by the monotonic clock.

        Raises:
            InvalidInputError: another number of tokens than of nodes.
        """
        import numpy as np

        tokens = np.asarray(tokens, dtype=np.int64)
        if tokens.shape != (len(self.node_ids),):
            raise InvalidInputError("tokens", tokens.shape, f"one for each of {len(self.node_ids)}")
        last = self._tokens[channel]
        self._tokens[channel] = tokens.copy()
        changed = (tokens != last) & (tokens != NEVER) & (last != _UNREAD)
        seen_s = self._seen_s[channel]
        if channel is Channel.HEARTBEAT:
            self._learn(np.flatnonzero(changed & np.isfinite(seen_s)), seen_s, now_s)
        seen_s[changed] = now_s

    def _learn(self, nodes: npt.NDArray[np.intp], seen_s: FloatArray, now_s: float) -> None:
        """Let the intervals that just ended enter the running means, outages left out."""
        import numpy as np

        interval_s = now_s - seen_s[nodes]
        mean_s = self._mean_s[nodes]
        regular = interval_s <= silence_limit_s(mean_s, self._policy)
        learnt = np.where(
            mean_s > 0.0, mean_s + _MEAN_SHARE * (interval_s - mean_s), np.maximum(interval_s, 0.0)
        )
        self._mean_s[nodes[regular]] = learnt[regular]

    def see_terminated(self, terminated: BoolArray, now_s: float) -> FloatArray:
        """Take where the infrastructure says "terminated" now.

        Returns:
            Since when we have been seeing it, as ages in seconds; +inf where it does not say so.
        """
        import numpy as np

        began = terminated & np.isinf(self._terminated_s)
        self._terminated_s[began] = now_s
        self._terminated_s[~terminated] = np.inf
        return np.where(terminated, now_s - self._terminated_s, np.inf)

    def age_s(self, channel: Channel, now_s: float) -> FloatArray:
        """Seconds since we saw this channel change, +inf where we never did."""
        age_s: FloatArray = now_s - self._seen_s[channel]
        return age_s

    def mean_s(self) -> FloatArray:
        """Mean interval between heartbeats per node, 0 while it is not known."""
        return self._mean_s.copy()

    def watching(self, node_ids: tuple[str, ...]) -> ReceiverAges:
        """Ages for another set of nodes: those that stay keep what was seen of them."""
        import numpy as np

        if node_ids == self.node_ids:
            return self
        fresh = ReceiverAges(node_ids, self._policy)
        old = {node_id: index for index, node_id in enumerate(self.node_ids)}
        pairs = [(new, old[node_id]) for new, node_id in enumerate(node_ids) if node_id in old]
        into = np.array([new for new, _ in pairs], dtype=np.intp)
        source = np.array([index for _, index in pairs], dtype=np.intp)
        for channel in Channel:
            fresh._seen_s[channel][into] = self._seen_s[channel][source]
            fresh._tokens[channel][into] = self._tokens[channel][source]
        fresh._mean_s[into] = self._mean_s[source]
        fresh._terminated_s[into] = self._terminated_s[source]
        return fresh


def silence_limit_s(mean_s: FloatArray, policy: FailoverPolicy) -> FloatArray:
    """Silence after which a node is suspect: three of its own mean intervals, within bounds."""
    import numpy as np

    limit_s: FloatArray = np.clip(
        policy.suspect_intervals * mean_s, policy.suspect_min_s, policy.suspect_cap_s
    )
    return limit_s
