"""A small fleet whose nodes register what they run, and routers that may be down."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fleet.errors import TrafficUnavailableError
from fleet.ports.traffic import ConfiguredRouter, RouteResult, TrafficRouter
from fleet.routes import LiveRoutes, RouteTable
from fleet.service_health import EMBEDDED_SERVICES
from fleet.services import Endpoint
from ops.failover_ports import FailoverPorts, TrafficPorts
from resources.circuit_breakers import CircuitBreakers, GuardedRouter
from resources.traffic.embedded import EmbeddedRouter
from tests.ops.failover_world import BackupOf, CrashingCalls, FailoverWorld


class FailingRouter:
    """An embedded router that does not answer while it is down."""

    name = "failing"

    def __init__(self, folder: Path) -> None:
        """It works."""
        self.table = EmbeddedRouter(folder)
        self.is_down = False

    def apply_routes(self, tables: Sequence[RouteTable]) -> list[RouteResult]:
        """As the embedded one, unless it is down."""
        if self.is_down:
            raise TrafficUnavailableError("the balancer does not answer")
        return self.table.apply_routes(tables)

    def live_routes(self, service: str) -> LiveRoutes | None:
        """As the embedded one."""
        return self.table.live_routes(service)


class CrashingRouter:
    """A router whose application may be the call that kills the process."""

    def __init__(self, router: TrafficRouter, calls: CrashingCalls) -> None:
        """Counted together with the store's writes."""
        self._router, self._calls = router, calls
        self.name = router.name

    def apply_routes(self, tables: Sequence[RouteTable]) -> list[RouteResult]:
        """As the router, or the end."""
        found: list[RouteResult] = self._calls.counted(self._router.apply_routes)(tables)
        return found

    def live_routes(self, service: str) -> LiveRoutes | None:
        """As the router."""
        return self._router.live_routes(service)


class BalancedWorld(FailoverWorld):
    """Nodes have one address each; what runs is registered with each beat."""

    def __init__(self, folder: Path) -> None:
        """Everything is registered and routed."""
        self.silent_registrars: set[str] = set()
        """Nodes that register nothing."""
        self.first = EmbeddedRouter(folder / "first")
        self.second = FailingRouter(folder / "second")
        super().__init__()
        self.breakers = CircuitBreakers(self.clock)

    @property
    def routers(self) -> tuple[ConfiguredRouter, ...]:
        """Both."""
        return tuple(
            ConfiguredRouter(name, GuardedRouter(router, self.breakers, name))
            for name, router in (("first", self.first), ("second", self.second))
        )

    def beat(self) -> None:
        """Every node that works reports, and registers what it runs."""
        super().beat()
        for number, node in enumerate(self.nodes):
            if node.node_id in self.dead | self.silent_registrars:
                continue
            self.store.register_endpoints(
                [
                    Endpoint(
                        one.workload,
                        one.agent_id,
                        node.node_id,
                        node.region,
                        f"10.0.0.{number + 1}",
                        8000,
                        one.epoch,
                    )
                    for one in self.store.placements(node.node_id)
                    if one.desired == "running" and one.agent_id not in self.holding
                ]
            )

    def address_of(self, node_id: str) -> str:
        """Where its agents answer."""
        names = [node.node_id for node in self.nodes]
        return f"10.0.0.{names.index(node_id) + 1}"

    def ports(self, store: Any = None, rescue: BackupOf | None = None) -> FailoverPorts:
        """With traffic; the registry is the store, so that it crashes with it."""
        ports = super().ports(store, rescue)
        routers = self.routers
        if isinstance(store, CrashingCalls):
            routers = tuple(
                one._replace(router=CrashingRouter(one.router, store)) for one in routers
            )
        traffic = TrafficPorts(ports.store, routers, EMBEDDED_SERVICES)
        return ports._replace(traffic=traffic)
