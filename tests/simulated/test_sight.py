"""What a controller sees of a fleet: in columns, and through a store, node by node.

The drive's live controller reads its evidence from a store to which every simulated node reports,
and from probes that are made one by one. `FleetSight` looks at the same cluster at the same
moments, and must see the same in every column.
"""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from fleet.errors import InvalidInputError, NotFoundError
from fleet.failover.columns import NodeColumns
from fleet.failover.profiles import PRODUCTION
from fleet.failover.records import ControllerState
from fleet.fault_script import parse_fault_script
from fleet.faults import random_fault_script
from fleet.leases import is_fence, node_lease_name
from fleet.probing import PRODUCTION_PROBING
from fleet.reports import NodeDeclaration
from resources.simulated.beat_columns import FENCED
from resources.simulated.sight import FleetSight
from tests.resources.simulated.fleets import dealt_fleet
from tests.simulated.controllers import SimulatedController
from tests.simulated.failover_drive import FailoverDrive, FleetShape
from tests.simulated.scenario import AUTO

COLUMNS = tuple(name for name in NodeColumns.__dataclass_fields__ if name != "work_age_s")
"""All but the work of agents, which only a store knows of."""


class WatchedTwice(FailoverDrive):
    """A drive whose evidence is read by columns as well, and compared at each tick."""

    sight: FleetSight | None = None
    compared = 0

    def _tick(self, controller: SimulatedController) -> None:
        mind = controller.mind
        assert mind is not None
        if self.sight is None:
            self.sight = FleetSight(self.cluster, self.policy, self.probing, own_max=256)
        sight = self.sight
        self._fence(sight)
        running = self.store.placement_counts().running
        sight.agents[:] = [running.get(name, 0) for name in sight.names]
        suspects = [sight.position(name) for name in mind.controller._suspects()]
        returned = [sight.position(name) for name in mind.controller._returned()]
        columns = sight.look(np.array(sorted(suspects), dtype=np.intp), returned)
        before = mind.controller.state.controller
        super()._tick(controller)
        self._compare(columns, mind.reader.seen.nodes)
        assert sight.probes.observers_configured() == mind.reader.seen.observers_configured
        now_s = self.clock.monotonic_s()
        assert sight.probes.observers_reporting(now_s) == mind.reader.seen.observers_reporting
        frozen = ControllerState.FROZEN
        if mind.controller.state.controller is frozen and before is not frozen:
            sight.restart()

    def _fence(self, sight: FleetSight) -> None:
        """Let the columns know of the leases that a run has ended in the store."""
        for position, name in enumerate(sight.names):
            lease = self.store.lease(node_lease_name(name))
            ended = lease is not None and is_fence(lease.holder)
            if ended and sight.beats.holder[position] != FENCED:
                sight.beats.fence([position], self.machinery.now_us)

    def _compare(self, mine: NodeColumns, theirs: NodeColumns) -> None:
        self.compared += 1
        for name in COLUMNS:
            one, other = getattr(mine, name), getattr(theirs, name)
            if isinstance(one, tuple):
                assert one == other, name
            elif not np.array_equal(one, other):
                odd = np.flatnonzero(one != other)
                rows = [(theirs.node_ids[at], one[at], other[at]) for at in odd[:5].tolist()]
                raise AssertionError(f"{self.now_s:g} s, {name}: {rows}")


def _faults(seed: int, drive: FailoverDrive, seconds: float, region_probability: float) -> None:
    """A fault for every node and hour, of all kinds, from now on."""
    names = sorted(drive.machinery.nodes)
    script = random_fault_script(
        Random(seed),
        node_ids=names,
        regions=drive.shape.regions,
        duration_s=seconds,
        faults=int(len(names) * seconds / 900),
        region_probability=region_probability,
    )
    drive.cluster.play(script)


def _play(seed: int, shape: FleetShape, seconds: float, region_probability: float) -> WatchedTwice:
    drive = WatchedTwice(AUTO, shape, seed=seed)
    try:
        _faults(seed, drive, seconds, region_probability)
        drive.run(seconds)
    finally:
        drive.close()
    return drive


@pytest.mark.parametrize("seed", range(4))
def test_columns_show_what_a_reader_of_the_store_sees(seed: int) -> None:
    """Every kind of fault, of nodes and whole regions, with failovers under way: all columns."""
    drive = _play(seed, FleetShape(nodes=4), 1800.0, 0.1)
    assert drive.compared > 360


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 140))
def test_columns_show_what_a_reader_sees_in_many_histories(seed: int) -> None:
    """The same for two hours each, with fleets of several sizes."""
    shape = FleetShape(nodes=2 + seed % 5, agents=1 + seed % 3)
    _play(seed, shape, 7200.0, 0.1)


@pytest.mark.parametrize(
    ("fault", "changed"),
    [
        ("crash node/eu-1", {"heartbeat_age_s", "infrastructure", "votes_dead"}),
        ("crash node/eu-1 silent=yes", {"heartbeat_age_s", "votes_dead", "dead_domains"}),
        ("partition node/eu-1 peer=store", {"heartbeat_age_s", "lease_age_s"}),
        ("partition node/eu-1 peer=controller", {"infrastructure"}),
        ("partition node/eu-1 peer=all", {"heartbeat_age_s", "infrastructure"}),
        ("partition region/eu peer=all", {"heartbeat_age_s", "votes_dead", "dead_outside"}),
        ("pause node/eu-1", {"heartbeat_age_s", "votes_dead"}),
    ],
)
def test_each_fault_shows_in_its_columns(fault: str, changed: set[str]) -> None:
    """The comparison above is not of columns that never change."""
    cluster = FailoverDrive(AUTO, FleetShape(nodes=4)).cluster
    sight = FleetSight(cluster, PRODUCTION, PRODUCTION_PROBING, own_max=256)
    nobody = np.zeros(0, dtype=np.intp)
    for _ in range(4):
        cluster.advance(5.0)
        before = sight.look(nobody)
    cluster.play(parse_fault_script(f"at 0 {fault}"))
    for _ in range(7):
        cluster.advance(5.0)
        after = sight.look(nobody)
    moved = {
        name
        for name in COLUMNS[2:]
        if not np.array_equal(getattr(before, name), getattr(after, name))
    }
    assert changed <= moved


def test_a_sight_is_of_a_fixed_set_of_nodes() -> None:
    """A node that is declared later is refused, instead of being overlooked."""
    cluster = dealt_fleet(4, 4)
    sight = FleetSight(cluster, PRODUCTION, PRODUCTION_PROBING, own_max=256)
    cluster.declare_nodes([NodeDeclaration("new", "eu-central-1", "eu-central-1a", 1000, 1 << 30)])
    with pytest.raises(InvalidInputError, match="make new columns"):
        sight.look(np.zeros(0, dtype=np.intp))


def test_a_sight_that_missed_history_says_so() -> None:
    """More has happened since the last look than the cluster keeps."""
    cluster = dealt_fleet(4, 4, events_kept=3)
    sight = FleetSight(cluster, PRODUCTION, PRODUCTION_PROBING, own_max=256)
    cluster.play(parse_fault_script("at 0 for 1 crash node/node-1\nat 2 for 1 crash node/node-2"))
    cluster.advance(5.0)
    with pytest.raises(NotFoundError, match="are kept"):
        sight.look(np.zeros(0, dtype=np.intp))
