"""Agents that are of use only together: all of a gang is placed, or nothing of it.

A gang is what a network calls so in one region; its members may be of several workloads and sizes
(a leader and its workers). Members that run already are not counted again: those that wait join
them together or not at all.
"""

from __future__ import annotations

from typing import NamedTuple

from fleet.placement.requests import PlacementRequest


class GangKey(NamedTuple):
    """Which gang a request belongs to."""

    network_id: str
    region: str
    gang: str


def gang_of(request: PlacementRequest) -> GangKey | None:
    """The gang of a request; None when its agents are of use singly."""
    if not request.rules.gang:
        return None
    return GangKey(request.network_id, request.region, request.rules.gang)


def gang_refusal(gang: GangKey, wanted: int, member: str, why: str) -> str:
    """Why nothing of a gang is placed: the first member that lacks something, and what."""
    return f"gang {gang.gang} needs all {wanted} of its agents at once; {member}: {why}"
