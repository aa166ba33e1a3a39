"""Rescaling as plain dictionaries; mixed into the fake control store."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from threading import RLock
from typing import TYPE_CHECKING, Any

from fleet.agents import Placement
from fleet.errors import LeaseLostError
from fleet.incidents import validate_person, validate_words
from fleet.inventory import Agent
from fleet.journal import JournalEntry
from fleet.leases import RESCALING_LEASE, Lease, is_lease_live
from fleet.moments import microseconds
from fleet.ports.clock import Clock
from fleet.ports.scaling_store import ScalingKey
from fleet.reports import AgentDeclaration
from fleet.rescaling.damaged_standing import DamagedStanding
from fleet.rescaling.standing import (
    LoggedDecision,
    ScaleChange,
    ScaledAgent,
    ScaleResult,
    ScalingOrder,
    ScalingStanding,
    forgotten_step,
    scaled_step,
    scales_journaled,
    scaling_subject,
    validate_order,
)
from fleet.rescaling.state_json import (
    PackedStanding,
    emptied_standing,
    pack_standing,
    read_standing,
    standing_of_row,
)

_SCALES = PackedStanding._fields.index("scales")


def _columns(one: PackedStanding) -> tuple[Any, ...]:
    at_us = None if one.decided_at is None else microseconds(one.decided_at)
    return tuple(one._replace(decided_at=at_us))  # type: ignore[arg-type]


class InMemoryScaling:
    """`fleet.ports.scaling_store.ScalingStore`; needs what the fake store holds beside it."""

    _lock: RLock
    clock: Clock
    _agents: dict[str, AgentDeclaration]
    _placements: dict[str, Placement]
    _leases: dict[str, Lease]

    def __init__(self) -> None:
        """Nothing is kept."""
        self._standings: dict[ScalingKey, tuple[Any, ...]] = {}
        """Columns, as a database keeps them: also those that somebody has damaged."""
        self._orders: dict[tuple[str, str, str], ScalingOrder] = {}
        self._decisions: dict[int, LoggedDecision] = {}
        self._decision_id = 0

    if TYPE_CHECKING:  # of the fake store

        def agents(self, region: str | None = None) -> list[Agent]: ...  # noqa: D102

        def journal(self, action_id: str) -> list[JournalEntry]: ...  # noqa: D102

        def append_journal(self, entries: Sequence[JournalEntry]) -> list[bool]: ...  # noqa: D102

        def place_agents(  # noqa: D102
            self, placements: Sequence[Placement], *, leader_term: int | None = None
        ) -> list[Placement]: ...

    def scaled_agents(self, workloads: Collection[str]) -> list[ScaledAgent]:
        """Looked at one by one."""
        with self._lock:
            return [
                ScaledAgent(
                    one,
                    self._placements.get(one.agent_id),
                    self._agents[one.agent_id].region,
                )
                for one in self.agents()
                if one.workload in workloads
            ]

    def scaling_standings(self) -> list[ScalingStanding | DamagedStanding]:
        """By workload and region."""
        return [read_standing(one) for one in self.packed_standings()]

    def packed_standings(self) -> list[PackedStanding | DamagedStanding]:
        """By workload and region."""
        with self._lock:
            return [standing_of_row(self._standings[key]) for key in sorted(self._standings)]

    def damage_standing(self, key: ScalingKey, **columns: object) -> None:
        """Replace columns, as somebody does behind the store's back."""
        fields = dict(zip(PackedStanding._fields, self._standings[key], strict=True))
        self._standings[key] = tuple({**fields, **columns}.values())

    def forget_scaling(self, keys: Collection[ScalingKey], by: str, why: str) -> list[ScalingKey]:
        """One after another."""
        validate_person("forgotten_by", by)
        validate_words("reason", why)
        with self._lock:
            found = sorted(set(keys) & self._standings.keys())
            for key in found:
                row = dict(zip(PackedStanding._fields, self._standings[key], strict=True))
                told = [one.step for one in self.journal(scaling_subject(*key))]
                emptied = emptied_standing(key, row["scales"], scales_journaled(told))
                self._standings[key] = _columns(emptied)
                self.append_journal([forgotten_step(key, row, by, why, self.clock.now())])
            return found

    def keep_scaling(
        self,
        standings: Sequence[ScalingStanding | PackedStanding],
        decisions: Sequence[LoggedDecision],
        *,
        term: int,
    ) -> list[int]:
        """One after another."""
        with self._lock:
            self.demand_scaling_term(term)
            for given in standings:
                one = given if isinstance(given, PackedStanding) else pack_standing(given)
                before = self._standings.get(one.key)
                if before is None or before[_SCALES] == one.scales:
                    self._standings[one.key] = _columns(one)
            ids = []
            for decided in decisions:
                if not decided.decision_id:
                    self._decision_id += 1
                    decided = decided._replace(decision_id=self._decision_id)  # noqa: PLW2901
                self._decisions[decided.decision_id] = decided
                ids.append(decided.decision_id)
            return ids

    def apply_scales(self, changes: Sequence[ScaleChange], *, term: int) -> list[ScaleResult]:
        """One after another."""
        results = []
        with self._lock:
            if changes:
                self.demand_scaling_term(term)
            for one in changes:
                key = (one.workload, one.region)
                before = self._standings.get(key)
                damaged = before is not None and isinstance(
                    read_standing(standing_of_row(before)), DamagedStanding
                )
                if damaged or (before[_SCALES] if before else 0) != one.scales:
                    results.append(ScaleResult(*key, made=False))
                    continue
                for agent in one.declared:
                    self._agents.setdefault(agent.agent_id, agent)
                made = ScalingStanding(
                    *key, one.state, one.scales + 1, None, self.clock.now(), term
                )
                self._standings[key] = _columns(pack_standing(made))
                self.append_journal([scaled_step(one, self.clock.now())])
                placed = self.place_agents(one.placements)
                results.append(ScaleResult(*key, made=True, placed=tuple(placed)))
        return results

    def demand_scaling_term(self, term: int) -> None:
        """Judged by the fake's clock."""
        with self._lock:
            lease = self._leases.get(RESCALING_LEASE)
            live = lease and lease.holder and is_lease_live(lease, self.clock.now())
            if lease is None or not live or lease.term != term:
                raise LeaseLostError(f"rescaling term {term} leads no more")

    def order_scaling(self, orders: Sequence[ScalingOrder]) -> None:
        """Keep and journal."""
        for one in orders:
            validate_person("ordered_by", one.ordered_by)
            validate_words("reason", one.reason)
            validate_order(one)
        with self._lock:
            for one in orders:
                self._orders[one.workload, one.region, one.kind] = one
                self._tell(one.key, f"{one.kind}/{one.ordered_at.timestamp()}", one.reason)

    def lift_scaling(self, keys: Collection[ScalingKey], kind: str, by: str, why: str) -> int:
        """Remove and journal."""
        validate_person("lifted_by", by)
        validate_words("reason", why)
        with self._lock:
            lifted = [key for key in sorted(set(keys)) if (*key, kind) in self._orders]
            for key in lifted:
                del self._orders[*key, kind]
                self._tell(key, f"lifted-{kind}/{self.clock.now().timestamp()}", f"{by}: {why}")
            return len(lifted)

    def _tell(self, key: ScalingKey, step: str, words: str) -> None:
        subject = scaling_subject(*key)
        self.append_journal([JournalEntry(subject, step, "done", subject, words, self.clock.now())])

    def scaling_orders(self) -> list[ScalingOrder]:
        """By workload, region and kind."""
        with self._lock:
            return [self._orders[key] for key in sorted(self._orders)]

    def scaling_decisions(
        self, workload: str | None = None, region: str | None = None, limit: int = 100
    ) -> list[LoggedDecision]:
        """Newest first."""
        with self._lock:
            found = [
                one
                for _, one in sorted(self._decisions.items(), reverse=True)
                if workload in {None, one.workload} and region in {None, one.region}
            ]
            return found[:limit]

    def scaling_decisions_since(
        self, last_at: datetime, after_id: int, limit: int
    ) -> list[LoggedDecision]:
        """By (last look, id)."""
        with self._lock:
            ordered = sorted(self._decisions.values(), key=lambda d: (d.last_at, d.decision_id))
            above = [d for d in ordered if (d.last_at, d.decision_id) > (last_at, after_id)]
            return above[:limit]

    def trim_scaling_decisions(self, before: datetime) -> int:
        """Looked at one by one."""
        with self._lock:
            old = [key for key, one in self._decisions.items() if one.last_at < before]
            for key in old:
                del self._decisions[key]
            return len(old)
