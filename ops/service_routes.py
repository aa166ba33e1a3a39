"""Views of services brought into force by one router."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fleet.errors import NotFoundError, StaleEpochError, TrafficUnavailableError
from fleet.ports.traffic import ConfiguredRouter, RouteResult
from fleet.routes import RouteTable, plan_routes
from fleet.service_health import ServiceView
from fleet.service_weights import capacity_weights, least_connections_weights

_NAMED = 3


class RoutesApplied(NamedTuple):
    """What one router has made of the tables of some services."""

    in_force: int
    """Tables that are in force now."""
    changed: int
    """Of them those that differed from what was there."""
    newer: int
    """Services for which a newer table is in force already."""
    foreign: int
    """Services that the router does not balance."""

    def in_words(self) -> str:
        """As a sentence without full stop."""
        told = [f"{self.in_force} tables are in force, {self.changed} of them new"]
        if self.newer:
            told.append(f"{self.newer} had been overtaken by newer ones")
        if self.foreign:
            told.append(f"{self.foreign} services are none of its")
        return "; ".join(told)


def plan_tables(
    configured: ConfiguredRouter,
    views: Sequence[ServiceView],
    term: int,
    before: Mapping[str, Mapping[str, int]] | None = None,
) -> list[RouteTable]:
    """The tables that a router is to have, of the services that it balances.

    Args:
        configured: the router.
        views: whom readers are given.
        term: of the controller that will apply them.
        before: service to the weights in force by agent_id, where they are known; weights that
            follow connections go half of the way from them.
    """
    tables = []
    for view in views:
        if configured.services and view.service not in configured.services:
            continue
        if configured.counts_connections:
            weights = capacity_weights(view.served)
        else:
            weights = least_connections_weights(view.served, (before or {}).get(view.service))
        tables.append(plan_routes(view, term, weights))
    return tables


def apply_tables(configured: ConfiguredRouter, tables: Sequence[RouteTable]) -> RoutesApplied:
    """Bring tables into force.

    Raises:
        TransientError: the router does not answer, or was not asked because it had not.
        TrafficUnavailableError: it refused tables, or does not know a service that its settings
            name; the other tables are in force.
    """
    return judge_results(configured, configured.router.apply_routes(tables))


def judge_results(configured: ConfiguredRouter, results: Sequence[RouteResult]) -> RoutesApplied:
    """What became of tables, counted.

    Raises:
        TrafficUnavailableError: as `apply_tables`.
    """
    newer = sum(isinstance(one.error, StaleEpochError) for one in results)
    unknown = [one for one in results if isinstance(one.error, NotFoundError)]
    bad = [one for one in results if one.error is not None and _is_fault(configured, one)]
    if bad:
        said = "; ".join(f"{one.service}: {one.error}" for one in bad[:_NAMED])
        raise TrafficUnavailableError(
            f"{len(bad)} of {len(results)} tables were refused: {said}",
            hint=f"Check [routers.{configured.name}] and the router itself.",
        )
    done = [one for one in results if one.error is None]
    return RoutesApplied(
        len(done),
        sum(one.changed for one in done),
        newer,
        0 if configured.services else len(unknown),
    )


def _is_fault(configured: ConfiguredRouter, result: RouteResult) -> bool:
    """A newer table is no fault, and an unknown service only where the settings name it."""
    if isinstance(result.error, NotFoundError):
        return bool(configured.services)
    return not isinstance(result.error, StaleEpochError)
