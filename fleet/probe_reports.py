"""What observers say of the nodes that they probe: one report per observer, replaced as a whole.

A report carries no verdict, only what happened: whether the node itself answered, whether a helper
reached it, whether nobody did, or whether the observer cannot tell because it is the slow or cut
off one. `fleet.probe_votes` makes votes of them, by the receiver's clock.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from fleet.errors import LeaseLostError


class ProbeOutcome(StrEnum):
    """What became of one probe."""

    ANSWERED = "answered"
    """The node itself answered us."""
    RELAYED = "relayed"
    """It did not answer us, but a helper: the path is broken, not the node."""
    SILENT = "silent"
    """Neither we nor any helper that answered could reach it."""
    UNSURE = "unsure"
    """It did not answer, but we cannot hold that against it: no helper answered us either, we were
    late ourselves, or something answered that is not a node."""


class Probe(NamedTuple):
    """What one observer last saw of one node."""

    node_id: str
    outcome: ProbeOutcome
    boot_id: str
    """Of the boot that answered; empty when none did."""
    failures: int
    """Rounds that ended SILENT since it was last reached; UNSURE ones are not counted."""
    latency_ms: float | None
    """Of the answer; None without one."""
    detail: str
    """Why it is not ANSWERED, in words; empty when it is."""


class ProbeReport(NamedTuple):
    """Everything that one observer last saw."""

    observer_id: str
    """A node's name; controllers keep their own probes to themselves."""
    boot_id: str
    """Holder of the observer's lease: reports of any other boot are refused."""
    round: int
    """Rises with each report of this boot: a report of a lower round never replaces a higher."""
    reported_at: datetime
    """By the observer's clock; judges nothing."""
    probes: tuple[Probe, ...]
    """One per target, ordered by node_id."""
    received_at: datetime | None = None
    """By the store's clock; None before it was stored."""


class ProbeReportResult(NamedTuple):
    """Outcome of one report of a batch."""

    observer_id: str
    error: LeaseLostError | None
    """Why it was refused; None when it was stored, or when a later round is stored already."""


class RosterMember(NamedTuple):
    """A declared node as far as probing concerns it."""

    node_id: str
    region: str
    zone: str


class Roster(NamedTuple):
    """All declared nodes under a version that changes whenever they may have changed."""

    version: int
    members: tuple[RosterMember, ...]
    """Ordered by node_id."""


class NodeContact(NamedTuple):
    """Where a node said that it can be reached."""

    node_id: str
    address: str
    """host:port of its endpoints."""
    boot_id: str
    """Of the boot that said so."""
