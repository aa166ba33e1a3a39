"""Why an agent is parked, and what ends its waiting.

A parked agent has a placement on no node with the reason in words, which an operator reads in its
row. The reason also decides who may try again: room and quotas come back by themselves, a crash
loop or a damaged state does not.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from fleet.agents import Placement

NO_NODE = ""
"""node_id of a placement that is parked because no node can take the agent."""

_NO_ROOM = re.compile(r"parked: (no node of .* has room|.*has no node|it is not declared any more)")
"""As `fleet.placement` and `fleet.relocation` say it."""

_NO_LEAVE = re.compile(r"parked: (quota of network |limits of network |gang )")
"""As `fleet.placement.planning` says it."""


def lacks_room(parked: Placement) -> bool:
    """Whether a parked agent waits for room, and for nothing else."""
    return _NO_ROOM.search(parked.reason) is not None


def may_be_tried_again(parked: Placement) -> bool:
    """Whether a parked agent waits for what a later plan may find: room, quota, the whole gang."""
    return lacks_room(parked) or _NO_LEAVE.search(parked.reason) is not None


def waits(placed: Placement, known_nodes: Collection[str]) -> bool:
    """Whether a placed agent waits for a node: parked for what may come, or its node is no more.

    Who was stopped on purpose waits for nothing.
    """
    if placed.desired == "parked":
        return may_be_tried_again(placed)
    return placed.desired == "running" and placed.node_id not in known_nodes
