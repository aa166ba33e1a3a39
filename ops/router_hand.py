"""One router as the keeper of routes holds it: what is in force there, and the call under way.

Each application runs in a thread of its own, so that a router that hangs holds up neither the other
routers nor whoever asks. There is one call at a time; while it lasts the router is given nothing
else. The thread touches the router only; what it came to is taken in by the keeper's own thread.
"""

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from fleet.errors import CircuitOpenError, NotFoundError, StaleEpochError, StateroomError
from fleet.ports.traffic import ConfiguredRouter, RouteResult
from fleet.routes import RouteTable
from fleet.routes_upkeep import (
    AppliedTable,
    RouteChange,
    RoutePlan,
    RouterStanding,
    UpkeepPolicy,
    note_router,
    plan_route_changes,
    steady_table,
)
from fleet.service_health import ServiceView
from ops.service_routes import judge_results, plan_tables

BUSY_S = 15.0
"""A call that lasts so long counts as a failure with each look: three time limits of HAProxy."""

_TOLD_MAX = 3
"""Services whose reasons one look spells out."""


class Outcome(NamedTuple):
    """What one call came to."""

    given: int
    """Tables that were given."""
    changed: int
    """Of them those that differed from what was there."""
    problem: str
    """Why the router does not have all of its tables; '' when it has."""
    is_open: bool = False
    """Its circuit is open: it was not asked."""
    told: str = ""
    """What was new, in words."""


class _Call:
    """One application under way."""

    def __init__(
        self, router: ConfiguredRouter, changes: Sequence[RouteChange], began_s: float
    ) -> None:
        """Start it."""
        self.changes, self.began_s = changes, began_s
        self.results: list[RouteResult] = []
        self.error: BaseException | None = None
        self.done = threading.Event()
        tables = [one.table for one in changes]
        threading.Thread(
            target=self._run,
            args=(lambda: router.router.apply_routes(tables),),
            name=f"routes-{router.name}",
            daemon=True,  # a router that hangs for ever does not hold the end of the process up
        ).start()

    def _run(self, apply: Callable[[], list[RouteResult]]) -> None:
        try:
            self.results = apply()
        except BaseException as error:  # noqa: BLE001 - raised again where it is taken in
            self.error = error
        finally:
            self.done.set()


class RouterHand:
    """The keeper's hold on one router; for one thread.

    Args:
        router: as configured.
        policy: how much is written.
    """

    def __init__(self, router: ConfiguredRouter, policy: UpkeepPolicy) -> None:
        """Nothing is known to be in force."""
        self.router, self._policy = router, policy
        self.applied: dict[str, AppliedTable] = {}
        self.standing = RouterStanding()
        self._call: _Call | None = None

    @property
    def name(self) -> str:
        """Of its settings."""
        return self.router.name

    def forget(self) -> None:
        """Believe nothing to be in force: another controller may have led meanwhile."""
        self.applied.clear()

    def begin(self, views: Sequence[ServiceView], term: int, now_s: float) -> RoutePlan | None:
        """Give the router what differs; None while its last call is under way."""
        if self._call is not None:
            return None
        weights = {
            service: {one.agent_id: one.weight for one in known.table.backends}
            for service, known in self.applied.items()
        }
        wanted = [
            steady_table(table, self.applied.get(table.service), self._policy.weight_step)
            for table in plan_tables(self.router, views, term, weights)
        ]
        plan = plan_route_changes(wanted, self.applied, now_s, self._policy)
        if plan.changes:
            self._call = _Call(self.router, plan.changes, now_s)
        return plan

    def wait(self, timeout_s: float) -> None:
        """Wait for the call under way, for so long."""
        if self._call is not None:
            self._call.done.wait(timeout_s)

    def collect(self, now_s: float) -> Outcome | None:
        """Take in a call that has ended, or that lasts too long; None when there is nothing new.

        Raises:
            Exception: a defect of the adapter, as it was raised there.
        """
        call = self._call
        if call is None:
            return None
        if not call.done.is_set():
            lasted_s = now_s - call.began_s
            if lasted_s < BUSY_S:
                return None
            return self._note(Outcome(0, 0, f"it has not answered for {lasted_s:.0f} s"))
        self._call = None
        if call.error is not None:
            self.applied.clear()  # it may have been started anew: everything is given again
            if not isinstance(call.error, StateroomError):
                raise call.error
            is_open = isinstance(call.error, CircuitOpenError)
            return self._note(Outcome(len(call.changes), 0, str(call.error), is_open))
        return self._note(self._take_in(call, now_s))

    def _take_in(self, call: _Call, now_s: float) -> Outcome:
        news = []
        overtaken = ""
        for change, result in zip(call.changes, call.results, strict=True):
            if self._holds(result):
                self.applied[result.service] = AppliedTable(change.table, now_s)
            else:
                self.applied.pop(result.service, None)
            if isinstance(result.error, StaleEpochError):
                overtaken = overtaken or str(result.error)
            if result.changed:
                news.append(_told(change))
        problem = overtaken
        try:
            judge_results(self.router, call.results)
        except StateroomError as error:
            problem = str(error)
        more = f"; and {len(news) - _TOLD_MAX} more" if len(news) > _TOLD_MAX else ""
        told = "; ".join(news[:_TOLD_MAX]) + more
        return Outcome(len(call.changes), len(news), problem, told=told)

    def _holds(self, result: RouteResult) -> bool:
        """In force, or none of its services, which is asked again with the next verification."""
        foreign = isinstance(result.error, NotFoundError) and not self.router.services
        return result.error is None or foreign

    def _note(self, outcome: Outcome) -> Outcome:
        self.standing = note_router(self.standing, outcome.problem)
        return outcome


def _told(change: RouteChange) -> str:
    table: RouteTable = change.table
    why = change.reason if change.is_news else f"the router had another table ({change.reason})"
    return f"{table.service} with {len(table.backends)} backends: {why}"
