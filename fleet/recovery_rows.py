"""What a disaster now would cost, joined from how far copies have come and what is proven."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from fleet.backup_checks import lag_of
from fleet.backup_tables import ProvenLevel, RecoveryObjective, Replica


class NetworkHistory(NamedTuple):
    """What the catalogue and the journal know of one network, wherever its copies lie."""

    first_snapshot_at: datetime | None
    journal_until: datetime | None
    """Moment up to which sealed journal segments reach; None without a journal."""


NO_HISTORY = NetworkHistory(None, None)


def join_objectives(
    replicas: Sequence[Replica],
    proven: Iterable[ProvenLevel],
    history: Mapping[str, NetworkHistory],
    measured_s: Mapping[str, float],
    now: datetime,
) -> list[RecoveryObjective]:
    """One row for each network of a region.

    Args:
        replicas: of the region.
        proven: newest verification of each level, of the region.
        history: by network.
        measured_s: network -> recovery time that the newest drill of the region measured.
        now: the moment of the look.
    """
    passed: dict[str, dict[str, datetime]] = {}
    for one in proven:
        if one.passed_at is not None:
            passed.setdefault(one.network_id, {})[one.level] = one.passed_at
    return [
        _join(
            replica,
            passed.get(replica.network_id, {}),
            history.get(replica.network_id, NO_HISTORY),
            measured_s.get(replica.network_id),
            now,
        )
        for replica in sorted(replicas, key=lambda one: one.network_id)
    ]


def _join(
    replica: Replica,
    passed: Mapping[str, datetime],
    history: NetworkHistory,
    measured_s: float | None,
    now: datetime,
) -> RecoveryObjective:
    covered = replica.snapshot_at
    # A journal lies in the home's vault until it is replicated: it covers no other region.
    if covered and history.journal_until and replica.is_home:
        covered = max(covered, history.journal_until)
    first = history.first_snapshot_at or replica.home_snapshot_at
    return RecoveryObjective(
        region=replica.region,
        network_id=replica.network_id,
        covered_until=covered,
        rpo_s=_age_s(covered, now),
        rto_s=measured_s,
        snapshot_id=replica.snapshot_id,
        snapshot_at=replica.snapshot_at,
        backup_age_s=_age_s(replica.snapshot_at, now),
        replica_lag_s=lag_of(replica),
        first_snapshot_at=first,
        v1_at=passed.get("V1"),
        v2_at=passed.get("V2"),
        v3_at=passed.get("V3"),
        v4_at=passed.get("V4"),
        v5_at=passed.get("V5"),
        looked_at=now,
    )


def _age_s(moment: datetime | None, now: datetime) -> float | None:
    return None if moment is None else max((now - moment).total_seconds(), 0.0)
