"""What must be exact about rescaling: what controllers remember, what people order, what was made.

One controller writes: whoever holds the lease `fleet.leases.RESCALING_LEASE`. Its term is checked
inside each transaction, and a change of scale is one transaction with all that belongs to it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol, TypeAlias

from fleet.rescaling.damaged_standing import DamagedStanding
from fleet.rescaling.standing import (
    LoggedDecision,
    ScaleChange,
    ScaledAgent,
    ScaleResult,
    ScalingOrder,
    ScalingStanding,
)
from fleet.rescaling.state_json import PackedStanding

ScalingKey: TypeAlias = tuple[str, str]
"""Workload and region."""


class ScalingStore(Protocol):
    """Standings, orders of people, the log of decisions, and the change itself."""

    def scaled_agents(self, workloads: Collection[str]) -> list[ScaledAgent]:
        """Agents of these workloads in all regions, by agent_id; one consistent look.

        Reads nothing of nodes that host none of them.
        """
        ...

    def scaling_standings(self) -> list[ScalingStanding | DamagedStanding]:
        """All standings, by workload and region; one that cannot be read hides no other."""
        ...

    def packed_standings(self) -> list[PackedStanding | DamagedStanding]:
        """The same, their texts unread: for who has written them and knows what they say.

        Only those are damaged here whose columns say so; a text may turn out to be none when it is
        read (`fleet.rescaling.state_json.read_standing`).
        """
        ...

    def forget_scaling(self, keys: Collection[ScalingKey], by: str, why: str) -> list[ScalingKey]:
        """Let autoscalers begin anew, whatever stands there; one transaction with its journal.

        What is remembered and pending is gone from the row, and stands in the journal as it was.
        The number of changes is raised above all that were journaled: a plan made before is
        refused, and a look that began before keeps nothing.

        Returns:
            Those that had a standing, sorted.

        Raises:
            InvalidInputError: `by` is no name, or `why` says nothing; nothing was forgotten.
        """
        ...

    def keep_scaling(
        self,
        standings: Sequence[ScalingStanding | PackedStanding],
        decisions: Sequence[LoggedDecision],
        *,
        term: int,
    ) -> list[int]:
        """Keep what a look has decided; one transaction, committed when this returns.

        A standing whose `scales` is not the stored number is left alone: a change was made since
        the look, and what it remembers must not be forgotten. A decision with an id replaces its
        row, one without gets a row of its own.

        Returns:
            The id of each decision, in the given order.

        Raises:
            LeaseLostError: `term` does not hold the rescaling lease (any more); nothing was kept.
        """
        ...

    def apply_scales(self, changes: Sequence[ScaleChange], *, term: int) -> list[ScaleResult]:
        """Make changes of scale: one transaction, committed when this returns.

        For each, new agents are declared (those that exist stay as they are), placements are
        swapped as `place_agents` does, its `scales` is raised by one and its pending change is
        gone. One whose `scales` is not the stored number is refused alone, and so is one whose
        standing is damaged: it stays as it is.

        Returns:
            One result for each change, in the given order.

        Raises:
            LeaseLostError: `term` does not hold the rescaling lease (any more); nothing was made.
        """
        ...

    def demand_scaling_term(self, term: int) -> None:
        """Return when `term` holds the rescaling lease now; true at the moment of the look only.

        Raises:
            LeaseLostError: another term does, or the lease has run out or was released.
        """
        ...

    def order_scaling(self, orders: Sequence[ScalingOrder]) -> None:
        """Keep people's orders and journal them, in one transaction; each replaces its kind's last.

        Raises:
            InvalidInputError: an order that makes no sense; nothing was kept.
        """
        ...

    def lift_scaling(self, keys: Collection[ScalingKey], kind: str, by: str, why: str) -> int:
        """Remove orders of a kind and journal it; returns how many there were."""
        ...

    def scaling_orders(self) -> list[ScalingOrder]:
        """All orders, also those whose time is over, by workload, region and kind."""
        ...

    def scaling_decisions(
        self, workload: str | None = None, region: str | None = None, limit: int = 100
    ) -> list[LoggedDecision]:
        """The log, newest first."""
        ...

    def scaling_decisions_since(
        self, last_at: datetime, after_id: int, limit: int
    ) -> list[LoggedDecision]:
        """Rows whose (last look, id) is above the given pair, in that order, at most `limit`."""
        ...

    def trim_scaling_decisions(self, before: datetime) -> int:
        """Remove rows whose last look was before; returns how many there were."""
        ...
