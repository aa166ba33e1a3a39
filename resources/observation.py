"""One look at the fleet for each run: every table of a run shows the same moment.

Nodes, GPUs and agents are separate assets, but a region is read once. That keeps them consistent
(an agent's node is in the node table of the same tick) and a run three times cheaper.
"""

import dagster as dg

from fleet.inventory import Agent
from fleet.ports.cluster import FleetReader, FleetSnapshot


class FleetObservation:
    """Remembers the first snapshot of each region; made anew for every run.

    Where each step runs in a process of its own, each process takes its own look: the tables are
    then seconds apart, and the checks still read what was written.
    """

    def __init__(self, cluster: FleetReader) -> None:
        """Look at `cluster`, not before it is asked for."""
        self._cluster = cluster
        self._snapshots: dict[str, FleetSnapshot] = {}
        self._agents: dict[str, list[Agent]] = {}

    def without_agents(self, region: str) -> FleetSnapshot:
        """Nodes and GPUs as first seen in this run; a look that failed is repeated."""
        if region not in self._snapshots:
            seen = self._cluster.snapshot(region)
            self._snapshots[region] = seen._replace(agents=[])
            self._agents[region] = seen.agents
        return self._snapshots[region]

    def snapshot(self, region: str) -> FleetSnapshot:
        """The same with its agents; after they were released, a new look at everything."""
        if region not in self._agents:
            self._snapshots.pop(region, None)
        seen = self.without_agents(region)
        return seen._replace(agents=self._agents[region])

    def release_agents(self) -> None:
        """Forget the agents, which are most of it: their rows are written, memory is wanted."""
        self._agents.clear()


@dg.resource(required_resource_keys={"cluster"}, description="One look at each region, per run.")
def fleet_observation_resource(context: dg.InitResourceContext) -> FleetObservation:
    """An observation of whatever cluster the run has."""
    return FleetObservation(context.resources.cluster)
