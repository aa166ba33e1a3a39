"""What a controller watches the fleet by, and observers tell each other through, in the store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from fleet.node_beats import NodeBeat, WorkSeen
from fleet.probe_reports import NodeContact, ProbeReport, ProbeReportResult, Roster


class ObserverStore(Protocol):
    """Probe reports, light reads of the signs of life, and the leader's term."""

    def report_probes(self, report: ProbeReport) -> None:
        """Replace the observer's report, unless one of a later round of this boot is stored.

        Raises:
            LeaseLostError: this boot of the observer holds no live lease: it was replaced, or slept
                past its time, and what it saw is worth nothing. Nothing was stored.
        """
        ...

    def report_probes_of_many(self, reports: Sequence[ProbeReport]) -> list[ProbeReportResult]:
        """`report_probes` for many observers in one transaction; a refused one stops no other.

        Returns:
            One result for each report, in the same order.
        """
        ...

    def probe_reports(self, since: datetime | None = None) -> list[ProbeReport]:
        """Reports that were stored at or after `since` by the store's clock; None: all of them.

        Returns:
            Ordered by observer_id, with `received_at`.
        """
        ...

    def node_beats(self) -> list[NodeBeat]:
        """Report and lease of every declared node, ordered by node_id; reads no report's body."""
        ...

    def work_seen(self, after: int = 0) -> WorkSeen:
        """Newest work per node: states stored after the cursor, and activities of the last minute.

        An activity dated more than a minute from the store's now does not count: its node's clock
        cannot be believed. Of very many states since the cursor, the newest 50,000 are looked at.
        """
        ...

    def roster_version(self) -> int:
        """Changes (rises) with every declaration or retirement of nodes; one row is read."""
        ...

    def roster(self) -> Roster:
        """All declared nodes with their failure domains, and the version they have."""
        ...

    def node_contacts(self, node_ids: Sequence[str]) -> list[NodeContact]:
        """Addresses of those of these nodes that are declared and have reported, by node_id."""
        ...

    def stale_copies(self, node_ids: Sequence[str]) -> dict[str, int]:
        """How many copies of their last report must not run there (`fleet.reports.count_stale`).

        Reads the reports' bodies: for the few nodes that have come back.

        Returns:
            One count for each of these nodes that is declared and has reported.
        """
        ...

    def demand_leader_term(self, term: int) -> None:
        """Return when `term` leads now: nobody else does, and the lease runs by the store's clock.

        True at the moment of the look only; `place_agents(..., leader_term=term)` looks inside its
        own transaction.

        Raises:
            LeaseLostError: another term leads, or the lease has run out or was released.
        """
        ...

    def fence_nodes(self, node_ids: Sequence[str], leader_term: int) -> list[str]:
        """End the leases of nodes that have run out, so that a holder which wakes up is refused.

        The term of each rises by one and nobody holds it: the first write of the old boot fails
        with `LeaseLostError`, it stops its agents, and takes a new lease as anybody would.

        Returns:
            The nodes that are fenced now (also those that were), sorted. A node whose lease still
            runs, or that never had one, is left alone and left out.

        Raises:
            LeaseLostError: `leader_term` does not lead; nothing was changed.
        """
        ...
