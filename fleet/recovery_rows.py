"""What a disaster now would cost, joined from how far copies have come and what is proven."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from fleet.backup_tables import ProvenLevel, RecoveryObjective, Replica
from fleet.recovery_objectives import Drill, RecoveryFacts, RecoveryFigures, measure_recovery


class NetworkHistory(NamedTuple):
    """What the catalogue and the journal know of one network, wherever its copies lie."""

    first_snapshot_at: datetime | None = None
    journal_until: Mapping[str, datetime] = {}
    """Region -> moment up to which the journal segments that lie there reach."""


NO_HISTORY = NetworkHistory()


class CopyFacts(NamedTuple):
    """What is known of one region's copy of one network."""

    facts: RecoveryFacts
    home: RecoveryFacts
    """Snapshots of the same network where it is written."""
    snapshot_id: str
    first_snapshot_at: datetime
    """Oldest snapshot known: from then on evidence is due."""

    def figures(self, now: datetime) -> RecoveryFigures:
        """The figures at a moment; the lag compares snapshots with snapshots.

        A journal is minutes ahead of any snapshot: measured against it, every copy would lag.
        """
        figures = measure_recovery(self.facts, now)
        lag = measure_recovery(self.facts._replace(journal_at=None), now, self.home)
        missing = {**figures.missing}
        missing.pop("replica_lag_s", None)
        if "replica_lag_s" in lag.missing:
            missing["replica_lag_s"] = lag.missing["replica_lag_s"]
        return figures._replace(replica_lag_s=lag.replica_lag_s, missing=missing)


def gather_copies(
    replicas: Sequence[Replica],
    proven: Iterable[ProvenLevel],
    history: Mapping[str, NetworkHistory],
) -> list[CopyFacts]:
    """Facts of each copy that the home has a snapshot of, by region and network.

    Args:
        replicas: newest rows.
        proven: newest verification of each level.
        history: by network.
    """
    levels: dict[tuple[str, str], dict[str, ProvenLevel]] = {}
    for one in proven:
        levels.setdefault((one.region, one.network_id), {})[one.level] = one
    copies = []
    for row in sorted(replicas, key=lambda one: (one.region, one.network_id)):
        known = history.get(row.network_id, NO_HISTORY)
        first = known.first_snapshot_at or row.home_snapshot_at
        if first is not None:
            mine = levels.get((row.region, row.network_id), {})
            copies.append(_copy(row, mine, known, first))
    return copies


def _copy(
    row: Replica,
    levels: Mapping[str, ProvenLevel],
    history: NetworkHistory,
    first: datetime,
) -> CopyFacts:
    passed = {level: one.passed_at for level, one in levels.items() if one.passed_at is not None}
    facts = RecoveryFacts(
        network_id=row.network_id,
        region=row.region,
        snapshot_at=row.snapshot_at,
        journal_at=history.journal_until.get(row.region),
        verified_at=passed,
        drill=_drill(levels.get("V5")),
        home=row.is_home,
    )
    home = facts._replace(snapshot_at=row.home_snapshot_at, journal_at=None, home=True)
    return CopyFacts(facts, home, row.snapshot_id, first)


def _drill(found: ProvenLevel | None) -> Drill | None:
    if found is None:
        return None
    seconds = found.verifying_s if found.recovery_s is None else found.recovery_s
    failure = "" if found.passed else "; ".join(found.failures[:1]) or "it failed"
    return Drill(found.started_at + timedelta(seconds=found.verifying_s), seconds, failure)


def objective_rows(copies: Iterable[CopyFacts], now: datetime) -> list[RecoveryObjective]:
    """The table of a moment."""
    return [_row(copy, copy.figures(now)) for copy in copies]


def _row(copy: CopyFacts, figures: RecoveryFigures) -> RecoveryObjective:
    facts, age = copy.facts, figures.verified_age_s
    points = [at for at in (facts.snapshot_at, facts.journal_at) if at is not None]
    return RecoveryObjective(
        region=facts.region,
        network_id=facts.network_id,
        covered_until=max(points, default=None),
        rpo_s=figures.rpo_s,
        rto_s=figures.rto_s,
        snapshot_id=copy.snapshot_id,
        snapshot_at=facts.snapshot_at,
        backup_age_s=figures.backup_age_s,
        replica_lag_s=figures.replica_lag_s,
        verified_age_v1_s=age["V1"],
        verified_age_v2_s=age["V2"],
        verified_age_v3_s=age["V3"],
        verified_age_v4_s=age["V4"],
        verified_age_v5_s=age["V5"],
        missing=tuple(f"{name}: {why}" for name, why in figures.missing.items()),
        first_snapshot_at=copy.first_snapshot_at,
        looked_at=figures.at,
    )
