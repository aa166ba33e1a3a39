"""A change of scale on the control store: who is asked to end, and when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from fleet.agents import Placement
from fleet.errors import LeaseLostError
from fleet.leases import RESCALING_LEASE
from fleet.ports.cluster import ScaleWish
from fleet.rescaling.observation import AutoscalerState
from resources.store_scaling import rescale_in_store
from tests.ops.scaling_world import ScalingWorld


class Asked:
    """A world in which two agents run and who is asked to end is written down."""

    def __init__(self) -> None:
        """The rescaling lease is held."""
        self.world = ScalingWorld()
        self.term = self.world.store.acquire_lease(RESCALING_LEASE, "me", 30.0).term
        self.asked: list[tuple[str, int, int]] = []
        self.meanwhile: Any = lambda: None

    def let_go(self, placements: Sequence[Placement]) -> None:
        """Write down who is asked, under which epoch, and which epoch counts at that moment."""
        stored = {one.agent_id: one.epoch for one in self.world.store.placements()}
        self.asked += [(one.agent_id, one.epoch, stored[one.agent_id]) for one in placements]
        self.meanwhile()

    def rescale(self, replicas: int, scales: int = 0, term: int | None = None) -> bool:
        """Whether the change was made."""
        world = self.world
        wish = ScaleWish("chat", "eu", replicas, scales, AutoscalerState(), "a test")
        (result,) = rescale_in_store(
            world.store, world.clock, [wish], {}, world.store.nodes, term or self.term, self.let_go
        )
        return result.made

    def desired(self) -> dict[str, tuple[str, int]]:
        """Wish and epoch of each agent."""
        return {one.agent_id: (one.desired, one.epoch) for one in self.world.store.placements()}


def test_who_is_to_go_is_asked_while_its_epoch_counts() -> None:
    """So that the store still takes its last state; it comes back on its node."""
    asked = Asked()
    assert asked.rescale(1)
    assert asked.asked == [("eu-chat-2", 1, 1)]
    assert asked.desired() == {"eu-chat-1": ("running", 1), "eu-chat-2": ("stopped", 2)}
    assert asked.rescale(2, scales=1)
    assert asked.desired()["eu-chat-2"] == ("running", 3)
    assert len(asked.asked) == 1


def test_whose_end_is_called_off_runs_again() -> None:
    """Another change was made between the plan and the commit."""
    asked = Asked()
    store = asked.world.store

    def overtake() -> None:
        asked.meanwhile = lambda: None
        wish = ScaleWish("chat", "eu", 3, 0, AutoscalerState(), "faster")
        rescale_in_store(store, asked.world.clock, [wish], {}, store.nodes, asked.term)

    asked.meanwhile = overtake
    assert not asked.rescale(1)
    assert asked.desired()["eu-chat-2"] == ("running", 2), "placed anew, so that its node starts it"
    assert len(asked.world.wanted()) == 3


def test_nobody_is_asked_by_who_does_not_lead() -> None:
    """The term is looked at before the first agent ends."""
    asked = Asked()
    with pytest.raises(LeaseLostError):
        asked.rescale(1, term=asked.term + 1)
    assert asked.asked == []


def test_on_a_node_that_is_gone_an_agent_comes_back_elsewhere() -> None:
    """It was stopped there; there is no need to wait for the node."""
    asked = Asked()
    world = asked.world
    assert asked.rescale(1)
    world.dead.add("eu-2")
    world.clock.advance(25)
    world.beat()
    world.store.acquire_lease(RESCALING_LEASE, "me", 30.0)
    assert asked.rescale(2, scales=1, term=world.store.lease(RESCALING_LEASE).term)  # type: ignore[union-attr]
    placed = {one.agent_id: one for one in world.store.placements()}
    assert (placed["eu-chat-2"].node_id, placed["eu-chat-2"].desired) == ("eu-1", "running")
