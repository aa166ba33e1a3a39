"""The bounded looks of schedules: what V1 to V3 read of a copy today, and how far that reaches.

The region's own evidence says what was read before; `fleet.scrub_plan` decides. Evidence that
cannot be read counts as none: then everything is looked at, and the reason says so.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any, NamedTuple

from fleet.backup_evidence import VerificationEvidence
from fleet.errors import CorruptObjectError
from fleet.manifest_openings import Opening, fold_openings
from fleet.scrub_plan import (
    SAMPLE_SHARE,
    SHARE_KEY,
    ContentLook,
    fold_readings,
    plan_content,
    plan_scrub,
)
from fleet.verification_sampling import SLICES, select_snapshots
from resources.vault.network import NetworkVault
from resources.vault.verification.evidence import read_evidence
from resources.vault.verification.finding import Finding, Verification
from resources.vault.verification.log_checks import verify_logs
from resources.vault.verification.verified import evidence_of, live_at, part_detail
from resources.vault.verification.verify import verify_bytes, verify_content, verify_structure


class _Known(NamedTuple):
    evidence: list[VerificationEvidence]
    doubt: str
    """Why it cannot be trusted; then everything is due."""


def roll(
    vault: NetworkVault, level: str, started_at: datetime, code_version: str
) -> VerificationEvidence:
    """Look at what is due of a level; the evidence says which part that was, and why.

    Args:
        vault: opened with its region.
        level: V1, V2 or V3.
        started_at: now; its day, UTC, chooses the part.
        code_version: of whoever looks.
    """
    known = _read_known(vault)
    looker = {"V1": _roll_structure, "V2": _roll_bytes}.get(level, _roll_content)
    return looker(vault, known, started_at)._replace(code_version=code_version)


def _read_known(vault: NetworkVault) -> _Known:
    try:
        return _Known(read_evidence(vault, vault.region), "")
    except CorruptObjectError as error:
        return _Known([], f"evidence cannot be read: {error}")


def _roll_structure(vault: NetworkVault, known: _Known, at: datetime) -> VerificationEvidence:
    doubt, openings = known.doubt, dict[str, Opening]()
    try:
        openings = fold_openings(known.evidence)
    except CorruptObjectError as error:
        doubt = str(error)
    found = verify_structure(vault, whole=False, known=openings)
    evidence = evidence_of(vault, found, at)
    said = (
        f"manifests of {len(found.opened)} of {len(evidence.detail['snapshots'])} snapshots "
        f"({doubt or 'new, changed, or opened a week ago'}); records behind checkpoints; "
        "the rest by listing"
    )
    return evidence._replace(detail={**evidence.detail, "part": said})


def _roll_bytes(vault: NetworkVault, known: _Known, at: datetime) -> VerificationEvidence:
    coverage = fold_readings(known.evidence)
    live = vault.log.refresh().live
    oldest = min((one.taken_at for one in live.values()), default=None)
    due = {one.part: one.reason for one in plan_scrub(coverage, _day(at), oldest)}
    if known.doubt:
        due = dict.fromkeys(range(SLICES), known.doubt)
    found = _joined(verify_bytes(vault, due.keys()), verify_logs(vault, due.keys()))
    evidence = evidence_of(vault, found, at, detail=part_detail(found.findings, due.keys()))
    coverage = fold_readings([*known.evidence, evidence])
    said = ", ".join(f"part {part} ({reason})" for part, reason in due.items())
    detail: dict[str, Any] = {
        **evidence.detail,
        "part": f"{len(due)}/{SLICES}: {said}; {coverage}",
        "oldest_read_at": _text(coverage.oldest_read_at),
        "proven_since": _text(coverage.proven_since),
    }
    return evidence._replace(detail=detail)


def _roll_content(vault: NetworkVault, known: _Known, at: datetime) -> VerificationEvidence:
    look = plan_content(known.evidence, _day(at))
    if known.doubt:
        look = ContentLook(1.0, look.seed, known.doubt)
    live = live_at(vault, at)
    chosen = list(select_snapshots(live, look.seed)) if look.is_whole else live[-1:]
    found = verify_content(vault, chosen, sample_share=look.share, seed=look.seed)
    share = "all" if look.is_whole else f"a sample of {SAMPLE_SHARE:.0%} (seed {look.seed})"
    detail: dict[str, Any] = {"part": f"{share} of {len(chosen)} snapshots: {look.reason}"}
    if not look.is_whole:
        detail[SHARE_KEY] = look.share
        detail["seed"] = look.seed
    newest_last = sorted(chosen, key=live.index)
    return evidence_of(vault, found, at, snapshots=newest_last, detail=detail)


def _joined(one: Verification, other: Verification) -> Verification:
    findings: tuple[Finding, ...] = (*one.findings, *other.findings)
    return Verification(
        one.level,
        one.items + other.items,
        one.size_bytes + other.size_bytes,
        one.seconds + other.seconds,
        findings,
    )


def _day(at: datetime) -> date:
    return at.astimezone(UTC).date()


def _text(at: datetime | None) -> str:
    return at.isoformat() if at is not None else ""
