"""The sensors launch what the controller orders, once, each its own kind, and keep its memory."""

from __future__ import annotations

from fleet.failover.state_json import decode_state
from fleet.failover_declaration import FailoverDeclaration
from fleet.failover_order import OrderKind, decode_order
from fleet.probing import EMBEDDED_PROBING
from ops.failover_jobs import FAILOVER_JOB, INCIDENT, REGION_FAILOVER_JOB, failover_request
from ops.failover_watch import FailoverWatch
from sensors.failover import watch
from tests.ops.test_failover_controller import TARGETS, Told, WatchedWorld, _ProcessTable


def watched(world: WatchedWorld) -> FailoverWatch:
    """A controller of a process of its own."""
    world.lease.resign()
    found = FailoverWatch(
        lambda: world.store,
        FailoverDeclaration(targets=TARGETS),
        EMBEDDED_PROBING,
        world.clock,
        Told([]),
        _ProcessTable(world),
    )
    world.clock.on_pause = world.beat
    for _ in range(3):
        assert watch(found, world.clock, (OrderKind.NODE,), None, str)[0] == ()
    return found


def test_an_order_is_launched_by_the_sensor_of_its_kind_alone() -> None:
    """The other one, asked first, leaves it."""
    world = WatchedWorld()
    found = watched(world)
    world.kill("eu-1", terminated=True)
    regions, _ = watch(found, world.clock, (OrderKind.REGION,), None, str)
    assert regions == ()
    (order,), kept = watch(found, world.clock, (OrderKind.NODE,), None, str)
    assert order.subject == "eu-1"
    assert watch(found, world.clock, (OrderKind.NODE,), None, str)[0] == ()
    request = failover_request(order)
    assert request.job_name == FAILOVER_JOB
    assert request.tags[INCIDENT] == order.incident_id
    assert decode_order(request.run_config["ops"]["recheck_op"]["config"]["order"]) == order
    assert "eu-1" in decode_state(kept.state).nodes


def test_a_region_is_launched_as_a_region() -> None:
    """By the job that switches a region."""
    world = WatchedWorld()
    found = watched(world)
    world.kill("eu-1", "eu-2", terminated=True)
    orders = ()
    for _ in range(5):
        orders = orders or watch(found, world.clock, (OrderKind.REGION,), None, str)[0]
    assert failover_request(orders[0]).job_name == REGION_FAILOVER_JOB


def test_a_new_process_goes_on_from_what_the_last_one_kept() -> None:
    """It remembers what was moved; it believes no age that it did not see."""
    world = WatchedWorld()
    found = watched(world)
    world.kill("eu-1", terminated=True)
    (order,), kept = watch(found, world.clock, (OrderKind.NODE,), None, str)
    world.store.release_lease(world.store.lease("controller"))  # type: ignore[arg-type]
    after = FailoverWatch(
        lambda: world.store,
        FailoverDeclaration(targets=TARGETS),
        EMBEDDED_PROBING,
        world.clock,
        Told([]),
        _ProcessTable(world),
    )
    orders, _ = watch(after, world.clock, (OrderKind.NODE,), kept.state, str)
    assert [one.attempt for one in orders] in ([], [2])
    assert [one.incident_id for one in world.store.incidents()] == [order.incident_id]
