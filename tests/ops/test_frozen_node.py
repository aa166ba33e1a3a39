"""A supervisor frozen inside a commit: the fleet comes back, and its agents run elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from fleet.errors import StoreUnavailableError
from fleet.failover.profiles import EMBEDDED
from fleet.failover_declaration import FailoverDeclaration
from fleet.incident_story import tell_incident
from fleet.incident_timeline import read_incident
from fleet.incidents import IncidentState
from fleet.inventory import AgentPhase
from fleet.ports.notifier import Alert
from fleet.probing import EMBEDDED_PROBING
from ops.failover import run_ports
from ops.failover_controller import FailoverController
from ops.failover_evidence import EvidenceReader, WatchPorts
from ops.failover_run import carry_out
from resources.clock import SystemClock
from resources.controller_prober import ControllerProber
from resources.leader_lease import LeaderLease
from resources.local.linux_processes import is_alive
from resources.local.local_infrastructure import LocalInfrastructure
from tests.resources.local.fleets import Fleet, open_fleet
from tests.resources.local.test_frozen_writer_watch import (
    LEASE_S,
    freeze_inside_a_commit,
    start_writing,
    watch_of,
)

PATIENT_S = 120.0


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """Real nodes under a temporary folder."""
    with open_fleet() as opened:
        yield opened


class _Nobody:
    """A notifier that nobody listens to."""

    def notify(self, alert: Alert) -> None:
        """Drop it: the incident is what is looked at."""


class Controlled:
    """A live controller on a real fleet, as the sensor's process has it."""

    def __init__(self, fleet: Fleet) -> None:
        """It has not looked yet."""
        self.fleet, clock = fleet, SystemClock()
        self.lease = LeaderLease(fleet.store, "controller")
        ports = WatchPorts(
            fleet.store,
            clock,
            self.lease,
            ControllerProber(EMBEDDED_PROBING),
            LocalInfrastructure(fleet.state_dir, clock),
        )
        # A busy test machine ticks late; only a dead process is to be judged here.
        policy = replace(
            EMBEDDED, lease_ttl_s=LEASE_S, tick_gap_intervals=30.0, suspect_cap_s=60.0,
            suspect_min_s=60.0,
        )  # fmt: skip
        declaration = FailoverDeclaration(policy=policy, targets={})
        reader = EvidenceReader(ports, policy, EMBEDDED_PROBING, "controller")
        self.controller = FailoverController(ports, reader, declaration, _Nobody())
        self.ports = run_ports(fleet.store, fleet.cluster, clock)
        self.refused = 0

    def look(self) -> None:
        """One tick, and what it orders; a store that takes no write is survived."""
        try:
            self.lease.campaign()
            for order in self.controller.tick().orders:
                carry_out(self.ports, order)
        except StoreUnavailableError:
            self.refused += 1


def agents_run_on(fleet: Fleet, node_id: str, count: int) -> bool:
    """Whether so many agents run, all of them there."""
    found = [(one.node_id, one.phase) for one in fleet.store.agents()]
    return found == [(node_id, AgentPhase.RUNNING)] * count


def test_the_agents_of_a_node_frozen_inside_a_commit_run_elsewhere(fleet: Fleet) -> None:
    """Nothing can be written meanwhile, not even by the leader; the other node is never restarted.

    No version that was acknowledged is lost.
    """
    start_writing(fleet)
    n1, n2 = fleet.run("n1"), fleet.run("n2")
    controlled, watch = Controlled(fleet), watch_of(fleet)
    for _ in range(3):
        controlled.look()
    watch.start()
    try:
        freeze_inside_a_commit(fleet, "n1")
        deadline_s = time.monotonic() + PATIENT_S
        while not agents_run_on(fleet, "n2", 8):
            controlled.look()
            assert time.monotonic() < deadline_s, fleet.store.agents()
            time.sleep(0.1)
        while fleet.store.incidents(open_only=True):
            controlled.look()
            assert time.monotonic() < deadline_s, fleet.store.incidents()
            time.sleep(0.1)
    finally:
        watch.close()
    assert not is_alive(n1.process)
    assert (is_alive(n2.process), fleet.run("n2").boot_id) == (True, n2.boot_id)
    moved = [one for one in fleet.store.placements() if one.epoch == 2]
    assert len(moved) == 4
    for one in moved:
        acknowledged = fleet.log(one.agent_id, "n1").count("acknowledged")
        loaded = fleet.log(one.agent_id, "n2").partition("loaded ")[2].split()[0]
        assert int(loaded) >= acknowledged
    [incident] = fleet.store.incidents()
    assert incident.state == IncidentState.ENDED
    told = "\n".join(
        tell_incident(
            read_incident(incident, fleet.store.journal(incident.incident_id)), SystemClock().now()
        )
    )
    assert "is stopped inside a transaction" in told
