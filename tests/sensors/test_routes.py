"""Routers follow the registry in a live code location: by the sensor, and by a failover's run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import dagster as dg
import pytest

from assets.routes import SERVICE_ROUTES
from fleet.agents import Placement
from fleet.failover_declaration import FailoverDeclaration
from fleet.leases import LEADER_LEASE
from fleet.probing import EMBEDDED_PROBING
from fleet.services import Endpoint, Removal
from ops.failover_jobs import FAILOVER_JOB, failover_config
from ops.failover_watch import FailoverWatch, LeaderStanding
from ops.route_keeping import RouteKeeper
from platform_defs.build import build_defs, deployment_of, traffic_of
from platform_defs.settings import load_settings
from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from resources.control_store.store import SqlControlStore
from sensors.routes import EVIDENCE_S, SENSOR, keep
from tests.fakes.clock import ManualClock
from tests.ops.failover_world import FailoverWorld
from tests.ops.kept_world import KeptWorld
from tests.ops.test_failover_controller import TARGETS, Told, WatchedWorld
from tests.platform_defs.settings_files import SMALL, write_settings
from tests.servers.balancers import Balancer, answering, running_haproxy
from tests.servers.empty_stores import sqlite_url

SERVICE = "cpu"


@pytest.fixture(scope="module")
def haproxy() -> Iterator[Balancer]:
    """A real HAProxy that knows the service, without servers."""
    with running_haproxy([SERVICE, "w"]) as balancer:
        yield balancer


class Location:
    """A code location made from settings, and the sensor in it, ticked as the daemon would."""

    def __init__(self, folder: Path, routers: str, instance: dg.DagsterInstance) -> None:
        """Nothing has run."""
        self.folder = folder
        text = f"{SMALL}[failover]\nenabled = false\n{routers}"
        deployment = deployment_of(load_settings(write_settings(folder, text), {}))
        (folder / "state").mkdir(exist_ok=True)
        made = sqlite_url(folder / "state")
        assert deployment.control_store_url == made
        self.clock, self.instance = ManualClock(), instance
        self.store: SqlControlStore = open_control_store(
            deployment.control_store_url, clock=SystemClock()
        )
        self.defs = build_defs(deployment, clock=self.clock)
        self.resources = self.defs.resources or {}
        self.keeper: RouteKeeper = self.resources["route_keeper"]
        self.keeper._wait_s = 30.0
        self.watch: FailoverWatch = self.resources["failover_watch"]
        self.sensor = self.defs.get_repository_def().get_sensor_def(SENSOR)
        self.cursor: str | None = None
        self.skipped = ""

    def register(self, port: int, epoch: int) -> None:
        """The agent answers at a port of loopback."""
        self.store.register_endpoints(
            [Endpoint(SERVICE, "a1", f"n{epoch}", "eu", "127.0.0.1", port, epoch)]
        )

    def tick(self) -> list[dg.AssetMaterialization]:
        """One tick after a minute; what it reports."""
        self.clock.advance(EVIDENCE_S)
        self.keeper._looked_s = float("-inf")  # its own clock is the real one
        wanted = ("clock", "control_store", "failover_watch", "route_keeper")
        with dg.build_sensor_context(
            instance=self.instance,
            definitions=self.defs,
            cursor=self.cursor,
            resources={name: self.resources[name] for name in wanted},
        ) as context:
            data = self.sensor.evaluate_tick(context)
        self.cursor = data.cursor or self.cursor
        self.skipped = data.skip_message or ""
        return [one for one in data.asset_events if isinstance(one, dg.AssetMaterialization)]

    def close(self) -> None:
        """Close what was opened."""
        self.keeper.close()
        self.store.close()
        if self.watch._store is not None:
            self.watch._store.close()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance in memory."""
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def located(folder: Path, routers: str, instance: dg.DagsterInstance) -> Iterator[Location]:
    """A location that is closed at the end."""
    found = Location(folder, routers, instance)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def live(tmp_path: Path, haproxy: Balancer, instance: dg.DagsterInstance) -> Iterator[Location]:
    """With HAProxy as the router that the settings name."""
    address = haproxy.folder / "admin.sock"
    routers = f"[routers.edge]\nkind = 'haproxy'\naddress = '{address}'\nservices = ['{SERVICE}']\n"
    yield from located(tmp_path, routers, instance)


@pytest.fixture
def embedded(tmp_path: Path, instance: dg.DagsterInstance) -> Iterator[Location]:
    """As `make up` has it: no router is named."""
    yield from located(tmp_path, "", instance)


def test_requests_follow_an_agent_through_a_real_haproxy(live: Location, haproxy: Balancer) -> None:
    """The sensor of the deployment's definitions switches them, without a failover."""
    with answering("old", "new") as ports:
        live.register(ports["old"], epoch=1)
        (event,) = live.tick()
        assert haproxy.ask(SERVICE) == "old"
        assert event.asset_key == dg.AssetKey(SERVICE_ROUTES)
        assert event.metadata["endpoints"].value == 1
        assert "router edge: 1 of 1 tables were new" in str(event.metadata["changes"].value)
        live.register(ports["new"], epoch=2)
        (event,) = live.tick()
        assert haproxy.ask(SERVICE) == "new"
        assert "1 moved (a1)" in str(event.metadata["changes"].value)
        live.store.remove_endpoints([Removal(SERVICE, "a1", 2, "stopped")])
        live.tick()
        assert haproxy.ask(SERVICE) == "503"


def test_without_routers_in_the_settings_the_embedded_table_is_kept(embedded: Location) -> None:
    """Below the state folder, by default; what did not change is not reported."""
    embedded.register(8000, epoch=1)
    (event,) = embedded.tick()
    assert event.metadata["services"].value == 1
    assert (embedded.folder / "state" / "routes" / "cpu.json").exists()
    assert embedded.tick() == []
    assert embedded.skipped == "1 services with 1 endpoints, 0 withheld; 0 tables were new"


def test_changes_within_a_minute_are_reported_together(embedded: Location) -> None:
    """However busy the fleet is, the event log grows by one entry a minute."""
    embedded.register(8000, epoch=1)
    assert len(embedded.tick()) == 1
    embedded.register(8001, epoch=2)
    embedded.cursor = f"{embedded.clock.now().timestamp() + EVIDENCE_S - 1.0:.3f}"
    assert embedded.tick() == []
    embedded.register(8002, epoch=3)
    (event,) = embedded.tick()
    assert str(event.metadata["changes"].value).count("1 moved (a1)") == 2


def test_a_fleet_that_fails_over_keeps_routes_under_its_controllers_term() -> None:
    """The keeper asks nobody for leadership: the failover's lease is its own."""
    world = WatchedWorld()
    world.lease.resign()
    watch = FailoverWatch(
        lambda: world.store,
        FailoverDeclaration(targets=TARGETS),
        EMBEDDED_PROBING,
        world.clock,
        Told([]),
    )
    assert watch.standing().term is None
    watch.look((), None)
    standing = watch.standing()
    lease = world.store.lease(LEADER_LEASE)
    assert lease is not None
    assert standing.term == lease.term
    world.clock.advance(30.0)
    assert not watch.standing().trusted


def test_one_tick_looks_several_times(tmp_path: Path) -> None:
    """A change in the middle of it does not wait for the next."""
    world = KeptWorld(tmp_path)
    looked: list[int] = []

    def beat() -> None:
        world.leader = world.store.renew_lease(world.leader)
        world.beat()
        looked.append(len(world.agents()))
        endpoint = Endpoint("w", f"new{len(looked)}", "eu-1", "eu", "10.0.0.9", 8000, 1)
        world.store.register_endpoints([endpoint])

    class Leading:
        """A controller that leads."""

        def standing(self) -> object:
            return world.standing

    world.clock.on_pause = beat
    keep(world.store, Leading(), world.keeper, world.clock)  # type: ignore[arg-type]
    assert looked[0] == 16
    assert looked[-1] > 16


class Followers:
    """`PlacementFollower` of a world: nodes obey at once."""

    def __init__(self, world: FailoverWorld) -> None:
        """Of this world."""
        self._reader, self._world = world.ports().cluster, world

    def __getattr__(self, name: str) -> object:
        """Reads as the world's reader."""
        return getattr(self._reader, name)

    def apply_placements(self, placements: Sequence[Placement]) -> None:
        """They start, and register."""
        self._world.beat()

    def evict(self, agent_id: str, epoch: int, grace_s: float) -> None:
        """It stops."""
        self._world.stopped.add((agent_id, epoch))


class LoopbackWorld(FailoverWorld):
    """A world each of whose nodes answers at a port of loopback, also when it is dead."""

    def __init__(self, ports: Mapping[str, int]) -> None:
        """Everything runs and is registered."""
        self.answer_at = ports
        super().__init__()

    def beat(self) -> None:
        """Nodes that work register what they run."""
        super().beat()
        for node_id, port in self.answer_at.items():
            if node_id in self.dead:
                continue
            self.store.register_endpoints(
                [
                    Endpoint("w", one.agent_id, node_id, one.region, "127.0.0.1", port, one.epoch)
                    for one in self.store.placements(node_id)
                ]
            )


def asked(balancer: Balancer) -> set[str]:
    """Who answers a number of requests that goes round all servers."""
    return {balancer.ask("w") for _ in range(40)}


def test_a_failover_run_switches_a_real_haproxy_to_the_new_nodes(
    tmp_path: Path, haproxy: Balancer, instance: dg.DagsterInstance
) -> None:
    """The job of the deployment, run by Dagster; the lost node's copy would still answer."""
    address = haproxy.folder / "admin.sock"
    text = f"{SMALL}[routers.edge]\nkind = 'haproxy'\naddress = '{address}'\n"
    deployment = deployment_of(load_settings(write_settings(tmp_path, text), {}))
    nodes = ("eu-1", "eu-2", "us-1", "us-2")
    with answering(*nodes) as ports:
        world = LoopbackWorld(ports)
        keeper = RouteKeeper(traffic_of(deployment), world.clock, wait_s=30.0)
        kept = keeper.look(world.store, LeaderStanding(world.leader.term, trusted=True))
        assert kept.outcomes["edge"].problem == ""
        assert asked(haproxy) == set(nodes)
        world.kill("eu-1", terminated=True)
        defs = build_defs(
            deployment,
            control_store=world.store,
            cluster=Followers(world),
            clock=world.clock,
            region_vaults=object(),
        )
        run = defs.resolve_job_def(FAILOVER_JOB).execute_in_process(
            instance=instance, run_config=failover_config(world.order("eu-1"))
        )
        assert run.success
        assert asked(haproxy) == set(nodes) - {"eu-1"}
        keeper.close()
