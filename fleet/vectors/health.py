"""How the indexes of all networks stand, and the claims made of it.

Everything is judged from one look at the standings and the log of notes; what has to be read from
the store (ids, bytes) is handed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from fleet.inventory_checks import CheckVerdict, Offender, Severity, judge
from fleet.leases import is_lease_live
from fleet.ports.note_store import NoteBacklog
from fleet.vectors.declaration import NetworkVectors, VectorDeclaration
from fleet.vectors.refresh_due import DueVerdict, Waiting, decide_due, waiting_text
from fleet.vectors.standing import IndexFacts, RefreshResult, ScrubFacts

SIZE_DRIFT_MAX = 2.0
"""Bytes per row may change by so much between two kept generations of one type."""
SIZE_ROWS_MIN = 1000
"""Fewer rows than this are mostly headers: their bytes per row say nothing."""
SCRUB_AGE_MAX = timedelta(hours=50)
"""Scrubs are nightly: one missed night is an accident, two are none."""
COUNT_MAX = 100_000
"""Waiting notes are counted so far; a look must not read a log of millions."""
REASON_CHARS_MAX = 300


class IndexHealth(NamedTuple):
    """One network's index at one moment."""

    network_id: str
    waiting: int
    """Notes that it does not hold, counted up to a limit."""
    behind_s: float
    """Since the first of them was stored; 0 when it holds all."""
    behind_max_s: float
    """From which it counts as stale."""
    recall_target: float
    facts: IndexFacts | None
    """Of the generation that serves; None: there is none."""
    result: RefreshResult | None
    reason: str
    """Of that result."""
    results: Mapping[str, int]
    scrub: ScrubFacts | None
    is_building: bool

    def problems(self) -> list[str]:
        """What is wrong, in words; empty when nothing is."""
        found = []
        if self.behind_s > self.behind_max_s:
            found.append(f"{waiting_text(self.waiting)}, the first for {self.behind_s:.0f} s")
        if self.result in {RefreshResult.REFUSED, RefreshResult.FAILED}:
            found.append(f"the last refresh {self.result.value}: {self.reason[:REASON_CHARS_MAX]}")
        if _falls_short(self):
            assert self.facts is not None, "it has a recall"
            found.append(f"recall {self.facts.recall:.4f}, wanted {self.recall_target:g}")
        if self.scrub is not None and self.scrub.damaged:
            found.append(f"{self.scrub.damaged} damaged: {self.scrub.damages[0]}")
        return found


class IdDrift(NamedTuple):
    """Notes of a network compared with those inside its index."""

    network_id: str
    compared: int
    """Ids that were looked at on both sides together."""
    orphans: tuple[str, ...]
    """Inside, and no such note; the first of them."""
    orphan_count: int
    missing: tuple[str, ...]
    """Embedded by the standing's word, and not inside; the first of them."""
    missing_count: int


class GenerationSize(NamedTuple):
    """Size of a kept generation."""

    network_id: str
    generation: str
    factory: str
    rows: int
    size_bytes: int


def index_health(backlog: NoteBacklog, declared: NetworkVectors, now: datetime) -> IndexHealth:
    """How one network's index stands.

    Args:
        backlog: of the network.
        declared: its thresholds and policy.
        now: the moment of the look.
    """
    standing, builder = backlog.standing, backlog.builder
    behind_s = 0.0
    if backlog.oldest_at is not None:
        behind_s = max(0.0, (now - backlog.oldest_at).total_seconds())
    return IndexHealth(
        network_id=backlog.network_id,
        waiting=backlog.waiting,
        behind_s=behind_s,
        behind_max_s=declared.thresholds.behind_max_s,
        recall_target=declared.policy.recall_target,
        facts=standing.facts,
        result=standing.result,
        reason=standing.reason,
        results=standing.results,
        scrub=standing.scrub,
        is_building=builder is not None and is_lease_live(builder, now) and bool(builder.holder),
    )


def all_health(
    backlogs: Sequence[NoteBacklog], declaration: VectorDeclaration, now: datetime
) -> list[IndexHealth]:
    """Every declared network that ever had a note, by name; others are nobody's to index."""
    declared = {one.network_id: one for one in declaration.networks}
    return [
        index_health(backlog, declared[backlog.network_id], now)
        for backlog in backlogs
        if backlog.network_id in declared
    ]


def refresh_due(backlog: NoteBacklog, declared: NetworkVectors, now: datetime) -> DueVerdict:
    """Whether a network's index is to be refreshed now; never while a builder is at it."""
    standing, builder = backlog.standing, backlog.builder
    if builder is not None and builder.holder and is_lease_live(builder, now):
        return DueVerdict(False, f"{builder.holder} is at it")
    if standing.embedder and standing.embedder != declared.embedder_id:
        why = f"the embedder was {standing.embedder}, now it is {declared.embedder_id}"
        verdict = decide_due(
            Waiting(declared.thresholds.notes, now),
            0,
            declared.thresholds,
            now,
            failed_at=standing.failed_at,
        )
        return verdict._replace(reason=why if verdict.is_due else verdict.reason)
    live = 0 if standing.facts is None else standing.facts.live
    return decide_due(
        Waiting(backlog.waiting, backlog.oldest_at),
        live,
        declared.thresholds,
        now,
        failed_at=standing.failed_at,
    )


def check_recall(found: Sequence[IndexHealth]) -> CheckVerdict:
    """Every index finds what its network demands; one that does not was not published."""
    offenders = []
    for one in found:
        if one.result is RefreshResult.REFUSED:
            offenders.append(Offender(one.network_id, "", f"not published: {one.reason}"))
        elif _falls_short(one):
            assert one.facts is not None, "it has a recall"
            detail = (
                f"published with recall {one.facts.recall:.4f}, now {one.recall_target:g} is wanted"
            )
            offenders.append(Offender(one.network_id, "", detail))
    recalls = [one.facts.recall for one in found if one.facts and one.facts.recall is not None]
    numbers = {"measured": float(len(recalls))}
    if recalls:
        numbers["recall_min"] = min(recalls)
    return judge(
        "{offenders} of {checked} indexes find too little", len(found), offenders, numbers=numbers
    )


def check_freshness(found: Sequence[IndexHealth]) -> CheckVerdict:
    """No note waits longer than its network allows."""
    offenders = []
    for one in found:
        if one.behind_s > one.behind_max_s:
            why = f"; {one.result.value}: {one.reason}" if one.result else "; never refreshed"
            told = f"{waiting_text(one.waiting)}, the first for {one.behind_s:.0f} s"
            offenders.append(Offender(one.network_id, "", told + why))
    behind = max((one.behind_s for one in found), default=0.0)
    return judge(
        "{offenders} of {checked} indexes are stale",
        len(found),
        offenders,
        numbers={"behind_max_s": behind, "waiting": float(sum(one.waiting for one in found))},
    )


def check_ids(found: Sequence[IdDrift]) -> CheckVerdict:
    """Indexes hold the notes that exist, and no others."""
    offenders = []
    for one in found:
        if one.orphan_count:
            detail = f"{one.orphan_count} inside are no notes: {', '.join(one.orphans)}"
            offenders.append(Offender(one.network_id, "", detail))
        if one.missing_count:
            detail = f"{one.missing_count} notes are missing: {', '.join(one.missing)}"
            offenders.append(Offender(one.network_id, "", detail))
    return judge(
        "{offenders} differences in {checked} indexes",
        len(found),
        offenders,
        numbers={"ids_compared": float(sum(one.compared for one in found))},
    )


def check_sizes(found: Sequence[GenerationSize]) -> CheckVerdict:
    """Bytes per row stay what they were, from one kept generation of a type to the next.

    Args:
        found: kept generations of all networks; of each network the oldest first.
    """
    offenders, compared = [], 0
    before: dict[tuple[str, str], GenerationSize] = {}
    for one in found:
        if one.rows < SIZE_ROWS_MIN:
            continue
        earlier = before.get((one.network_id, one.factory))
        before[one.network_id, one.factory] = one
        if earlier is None:
            continue
        compared += 1
        now, then = one.size_bytes / one.rows, earlier.size_bytes / earlier.rows
        if not 1 / SIZE_DRIFT_MAX <= now / then <= SIZE_DRIFT_MAX:
            detail = (
                f"{then:.0f} bytes per row in {earlier.generation}, {now:.0f} in {one.generation}"
            )
            offenders.append(Offender(one.network_id, "", detail))
    return judge(
        "{offenders} of {checked} generations changed their size per row",
        len(found),
        offenders,
        severity=Severity.WARN,
        numbers={
            "compared": float(compared),
            "size_bytes": float(sum(one.size_bytes for one in found)),
        },
    )


def check_scrubs(found: Sequence[IndexHealth], now: datetime) -> CheckVerdict:
    """Every stored byte was read lately and is what was published."""
    offenders = []
    for one in found:
        if one.facts is None:
            continue
        read_at = one.facts.built_at if one.scrub is None else one.scrub.at
        if now - read_at > SCRUB_AGE_MAX:
            offenders.append(Offender(one.network_id, "", f"not read since {read_at.isoformat()}"))
        elif one.scrub is not None and one.scrub.damaged:
            detail = f"{one.scrub.damaged} damaged: {'; '.join(one.scrub.damages[:3])}"
            offenders.append(Offender(one.network_id, "", detail))
    read = [one.scrub for one in found if one.scrub is not None]
    return judge(
        "{offenders} of {checked} indexes are damaged or unread",
        len(found),
        offenders,
        numbers={"bytes_read": float(sum(one.size_bytes for one in read))},
    )


def _falls_short(one: IndexHealth) -> bool:
    """Whether what serves was measured, and is below what is wanted now."""
    facts = one.facts
    return facts is not None and facts.recall is not None and facts.recall < one.recall_target
