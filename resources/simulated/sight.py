"""The controller's evidence of a simulated fleet, read in array passes instead of through a store.

`FleetSight.look` gives the columns that `ops.failover_evidence.EvidenceReader` would read from a
store to which every simulated node reports: the same ages (`ReceiverAges` itself counts them), the
same leases, the same votes. A look costs a few array passes and what has changed since the last
one, so that a day of 10,000 nodes can be watched as often as a live fleet is. The tests hold it
against the reader, a store and `SimulatedProbes`, column by column.

Not seen here: work of agents (the simulator stores no states), maintenance, forced orders.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fleet.failover.ages import NEVER, Channel, ReceiverAges
from fleet.failover.columns import Infrastructure, NodeColumns, node_columns
from fleet.failover.policy import FailoverPolicy
from fleet.probing import ProbePolicy
from resources.simulated.beat_columns import NOBODY, BeatColumns
from resources.simulated.cluster import SimulatedCluster
from resources.simulated.condition_columns import ConditionColumns
from resources.simulated.probe_columns import ProbeColumns

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from fleet.failover.columns import IntArray
    from resources.simulated.condition_columns import Positions


class FleetSight:
    """One controller's eyes on a simulated cluster; one thread uses it.

    Args:
        cluster: whose nodes are all declared; its lease times are those of the nodes.
        policy: of failover; says how ages are counted.
        probing: how nodes are probed: one round at each look.
        own_max: nodes that the controller probes itself at most in one look.

    Attributes:
        names: of all nodes, sorted; the order of all columns.
        agents: placed agents that should run, per node; kept by whoever places them.
        beats: reports and leases; a move ends the leases that it has waited for.
    """

    def __init__(
        self,
        cluster: SimulatedCluster,
        policy: FailoverPolicy,
        probing: ProbePolicy,
        *,
        own_max: int,
    ) -> None:
        """Nothing has been seen yet; agents are counted once."""
        import numpy as np

        machinery = cluster.machinery
        self._cluster, self._machinery = cluster, machinery
        self._conditions = ConditionColumns(machinery)
        self.names = self._conditions.names
        self.regions = self._conditions.regions
        self.region_index = self._conditions.region_index
        self.beats = BeatColumns(self._conditions, cluster.lease_ttl_s)
        self.probes = ProbeColumns(self._conditions, probing, own_max)
        self._ages = ReceiverAges(self.names, policy)
        self.agents: IntArray = np.zeros(len(self.names), dtype=np.int32)
        for placed in machinery.placements.values():
            if placed.node_id and placed.desired == "running":
                self.agents[self.position(placed.node_id)] += 1

    def position(self, name: str) -> int:
        """Where a node stands in the columns."""
        return self._conditions.position(name)

    def look(self, suspects: Positions, returned: Iterable[int] = ()) -> NodeColumns:
        """What is seen of every node at the cluster's present.

        Args:
            suspects: positions of nodes that the controller probes itself, ascending.
            returned: positions of nodes on probation, of which must be known what still runs there.
        """
        import numpy as np

        machinery, now_s = self._cluster.machinery, self._cluster.clock.monotonic_s()
        conditions, ages = self._conditions, self._ages
        changed = conditions.follow()
        self.beats.follow(machinery.now_us, changed)
        self.probes.round(changed, self.beats.leased(machinery.now_us), now_s)
        self.probes.ask(suspects, now_s)
        tokens = self.beats.tokens
        for channel in (Channel.HEARTBEAT, Channel.LEASE):
            ages.see(channel, tokens, now_s)
        codes = self._infrastructure()
        stale = np.zeros(len(self.names), dtype=np.int32)
        for position in returned:
            stale[position] = self._stale_copies(position)
        return node_columns(
            self.names,
            self.regions,
            region_index=self.region_index,
            heartbeat_age_s=ages.age_s(Channel.HEARTBEAT, now_s),
            heartbeat_mean_s=ages.mean_s(),
            lease_age_s=ages.age_s(Channel.LEASE, now_s),
            lease_ttl_s=np.where(tokens == NEVER, 0.0, self._cluster.lease_ttl_s),
            infrastructure=codes,
            terminated_age_s=ages.see_terminated(codes == Infrastructure.TERMINATED, now_s),
            agents=self.agents.copy(),
            agents_stale=stale,
            **self.probes.columns(now_s)._asdict(),
        )

    def restart(self) -> None:
        """Believe nothing that was seen before: after a freeze, or a pause of our own."""
        self.probes.restart()

    def _infrastructure(self) -> npt.NDArray[np.int8]:
        """A word about another boot than the one that acts is no word."""
        import numpy as np

        conditions, acting = self._conditions, self.beats.acting()
        said = conditions.infrastructure
        other = (acting != NOBODY) & (acting != conditions.boot)
        found: npt.NDArray[np.int8] = np.where(
            (said == Infrastructure.TERMINATED) & other, Infrastructure.UNKNOWN, said
        )
        return found.astype(np.int8)

    def _stale_copies(self, position: int) -> int:
        """Copies that the node's last report names and that belong elsewhere by now."""
        placed, name = self._machinery.placements, self.names[position]
        return sum(
            one is None or one.node_id != name or epoch < one.epoch
            for agent_id, epoch in self.beats.live_copies(position).items()
            for one in [placed.get(agent_id)]
        )
