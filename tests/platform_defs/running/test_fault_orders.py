"""Fault orders reach the simulator's process through files, once each, with an answer."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet.errors import NodeUnavailableError, PermanentError
from fleet.inventory import NodePhase
from fleet.reports import NodeDeclaration
from platform_defs.fault_orders import FaultOrder, FaultOrders
from resources.simulated.clock import VirtualClock
from resources.simulated.cluster import SimulatedCluster


@pytest.fixture
def cluster() -> SimulatedCluster:
    """One simulated node."""
    clock = VirtualClock(datetime(2026, 1, 1, tzinfo=UTC))
    return SimulatedCluster([NodeDeclaration("n1", "r", "z", 1000, 2**30)], clock=clock)


def send(orders: FaultOrders, cluster: SimulatedCluster, order: FaultOrder) -> str:
    """Send from one thread while this one obeys, as two processes would."""
    outcome: list[str | Exception] = []

    def author() -> None:
        try:
            outcome.extend(orders.send([order]))
        except PermanentError as error:
            outcome.append(error)

    thread = threading.Thread(target=author)
    thread.start()
    while thread.is_alive():
        orders.obey(cluster)
        thread.join(0.01)
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def test_an_order_is_obeyed_once_and_answered(tmp_path: Path, cluster: SimulatedCluster) -> None:
    """The node is down, the answer says so, and no file is left."""
    orders = FaultOrders(tmp_path)
    assert "n1" in send(orders, cluster, FaultOrder("kill_node", "n1"))
    assert [n.phase for n in cluster.snapshot("r").nodes] != [NodePhase.RUNNING]
    assert "n1" in send(orders, cluster, FaultOrder("start_node", "n1"))
    assert orders.obey(cluster) == 0
    assert list((tmp_path / "run" / "faults").iterdir()) == []


def test_a_refusal_comes_back_as_an_error(tmp_path: Path, cluster: SimulatedCluster) -> None:
    """The author learns why."""
    with pytest.raises(PermanentError, match="n9"):
        send(FaultOrders(tmp_path), cluster, FaultOrder("kill_node", "n9"))


def test_an_order_that_nobody_takes_is_withdrawn(tmp_path: Path) -> None:
    """A simulator that starts later must not find old orders."""
    with pytest.raises(NodeUnavailableError, match="has not taken the order"):
        FaultOrders(tmp_path).send([FaultOrder("kill_node", "n1")], timeout_s=0.1)
    assert list((tmp_path / "run" / "faults").iterdir()) == []
