"""A balanced fleet whose routers a keeper keeps; time passes as the test says."""

from __future__ import annotations

import threading
from pathlib import Path

from fleet.incidents import IncidentHeader
from fleet.leases import LEADER_LEASE
from fleet.routes import RouteTable
from fleet.routes_upkeep import UpkeepPolicy
from fleet.traffic_declaration import RouterDeclaration, RouterKind, TrafficDeclaration
from ops.failover_watch import LeaderStanding
from ops.route_keeping import Kept, RouteKeeper
from ops.router_incidents import KINDS
from resources.traffic.embedded import EmbeddedRouter
from tests.ops.balanced_world import BalancedWorld


class KeptWorld(BalancedWorld):
    """Two embedded routers, as settings declare them, and one keeper."""

    def __init__(self, folder: Path, policy: UpkeepPolicy | None = None) -> None:
        """Nothing has been looked at."""
        super().__init__(folder)
        self.folders = {name: folder / name for name in ("first", "second")}
        self.declaration = TrafficDeclaration(
            tuple(
                RouterDeclaration(name=name, kind=RouterKind.EMBEDDED, folder=str(place))
                for name, place in self.folders.items()
            )
        )
        self.keeper = self.new_keeper(policy)
        self.trusted = True

    def new_keeper(self, policy: UpkeepPolicy | None = None) -> RouteKeeper:
        """Of a process that has just begun."""
        return RouteKeeper(self.declaration, self.clock, policy, wait_s=30.0)

    @property
    def standing(self) -> LeaderStanding:
        """The controller of this process leads."""
        return LeaderStanding(self.leader.term, self.trusted)

    def look(self, seconds: float = 1.0) -> Kept:
        """Time passes, nodes beat and renew the lease, the keeper looks."""
        self.clock.advance(seconds)
        self.leader = self.store.renew_lease(self.leader)
        self.beat()
        return self.keeper.look(self.store, self.standing)

    def live(self, name: str = "first", service: str = "w") -> RouteTable:
        """What a router has in force."""
        table = EmbeddedRouter(self.folders[name]).table(service)
        assert table is not None
        return table

    def agents(self, name: str = "first") -> set[str]:
        """Whom a router sends requests to."""
        return {one.agent_id for one in self.live(name).backends}

    def break_router(self, name: str) -> None:
        """Its folder cannot be written: a file stands in its place."""
        place = self.folders[name]
        place.rename(place.with_name(f"{name}.away"))
        place.write_bytes(b"")

    def mend_router(self, name: str, *, with_files: bool = True) -> None:
        """It works again, with what it had or as a new one."""
        place = self.folders[name]
        place.unlink()
        if with_files:
            place.with_name(f"{name}.away").rename(place)

    def incidents(self) -> list[IncidentHeader]:
        """Of routers and registries, newest first."""
        return [one for one in self.store.incidents() if one.kind in KINDS]

    def lose_leadership(self) -> None:
        """Another controller leads from now on."""
        self.store.release_lease(self.leader)
        self.store.acquire_lease(LEADER_LEASE, "controller-2", 15.0)


class Gate:
    """Holds whoever passes until it is opened."""

    def __init__(self) -> None:
        """Closed."""
        self.opened = threading.Event()

    def pass_through(self) -> None:
        """Wait for a minute at most."""
        self.opened.wait(60.0)
