"""The loop that follows a node's placements: it ends when it is told to, whatever comes with it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from resources.local.node_spec import NodeSpec
from resources.local.running_node import RunningNode
from tests.resources.local.fleets import node


@pytest.mark.parametrize("steps", range(6))
def test_a_node_that_is_told_to_end_as_its_lease_begins_ends(tmp_path: Path, steps: int) -> None:
    """However many turns of the loop lie between the two; else the node is killed as too late."""
    spec = NodeSpec(
        node=node("n1"),
        store_url="sqlite:///unused.db",
        lake_path=str(tmp_path),
        state_dir=str(tmp_path),
        socket_path=str(tmp_path / "n1.sock"),
        reconcile_interval_s=3600.0,
    )

    async def scenario() -> bool:
        # Without a store nothing is asked of lease, processes and zygote.
        nothing = cast("Any", None)
        running = RunningNode(spec, nothing, nothing, nothing, lambda *_: None)
        following = asyncio.create_task(running.follow_placements())
        for _ in range(20):  # it has asked in vain and waits
            await asyncio.sleep(0)
        running.begin_lease()
        for _ in range(steps):
            await asyncio.sleep(0)
        following.cancel()
        await asyncio.wait([following], timeout=2.0)
        ended = following.cancelled()
        following.cancel()
        return ended

    assert asyncio.run(scenario())
