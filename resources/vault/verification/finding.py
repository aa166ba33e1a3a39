"""What a verification looked at, and what it found wrong."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from fleet.manifest_openings import Opening

_NAMED = 20
"""Agents and snapshots that one failure spells out."""
_NONE: Mapping[str, Opening] = MappingProxyType({})


class Finding(NamedTuple):
    """Something wrong in a vault."""

    subject: str
    """Key of the object, or id of the snapshot."""
    problem: str
    snapshots: tuple[str, ...] = ()
    """Live snapshots that it concerns."""
    agents: tuple[str, ...] = ()
    """Agents that cannot be read because of it, where the level can tell."""

    def __str__(self) -> str:
        """As evidence says it."""
        parts = [f"{self.subject}: {self.problem}"]
        if self.snapshots:
            parts.append(f"snapshots {_listed(self.snapshots)}")
        if self.agents:
            parts.append(f"agents {_listed(self.agents)}")
        return "; ".join(parts)


class Verification(NamedTuple):
    """What was looked at, and what was found."""

    level: str
    items: int
    """V1: objects; V2: objects re-hashed; V3: states and files decrypted."""
    size_bytes: int
    seconds: float
    findings: tuple[Finding, ...]
    opened: Mapping[str, Opening] = _NONE
    """V1: snapshots whose manifests this look has opened, and of which all is there."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


def _listed(names: tuple[str, ...]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
