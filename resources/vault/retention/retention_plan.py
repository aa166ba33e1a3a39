"""Planning, storing, approving and applying retention on a vault.

A plan is stored before it is applied, and applied by ONE forget record that names it. Committed by
the creation of that record; killed before it, nothing is forgotten; killed behind it, applying the
same plan again finds it done.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from datetime import datetime
from typing import Any, NamedTuple

from fleet.approvals import Approval, decode_approval, encode_approval
from fleet.errors import NotFoundError, PermanentError, StoreUnavailableError
from fleet.retention import RetentionPolicy
from fleet.retention_guards import RetentionPlan, plan_guarded_retention, protect_from_sweep
from fleet.snapshot_fitness import GuardPolicy
from fleet.vault_keyspace import plan_key
from fleet.vault_log import EvidenceRecord, ForgetRecord, SnapshotRecord, refuse_forget
from fleet.vault_records import StoredRecord
from resources.vault.network import NetworkVault
from resources.vault.packs.manifest import arrow
from resources.vault.packs.packing import create_object
from resources.vault.retention.removal import append_next, store_time
from resources.vault.retention.snapshot_facts import gather_facts

_TRIES = 20


class VaultPlan(NamedTuple):
    """A retention plan with all that it was computed from, so that it can be computed again."""

    network_id: str
    region: str
    policy: RetentionPolicy
    guards: GuardPolicy
    decided_at: datetime
    """By the store's clock."""
    plan: RetentionPlan


class PlanOutcome(NamedTuple):
    """What became of a plan."""

    applied: bool
    """Whether all that the plan forgets is forgotten now."""
    decided: VaultPlan
    """The plan that was applied, or the one that would have to be."""
    sha256: str
    """Name of the stored plan; empty when there was nothing to forget."""
    reason: str


def plan_vault(
    vault: NetworkVault,
    region: str,
    policy: RetentionPolicy,
    guards: GuardPolicy,
    now: datetime | None = None,
) -> VaultPlan:
    """Compute the retention plan of a network at the log's head; changes nothing.

    Args:
        vault: the opened network, in the region's vault.
        region: whose verifications count.
        policy: the counts.
        guards: the numbers of the guards.
        now: the store's time; None asks the store by writing an empty object.
    """
    now = now or store_time(vault.store)
    facts = gather_facts(vault, region, now)
    plan = plan_guarded_retention(
        facts.snapshots,
        policy,
        guards,
        head=facts.state.head,
        now=now,
        thinned_seq=_newest_thinning(vault),
        approved=facts.approvals.forgets,
    )
    return VaultPlan(vault.network_id, region, policy, guards, now, plan)


def _newest_thinning(vault: NetworkVault) -> int | None:
    """Number of the newest forget record that carried a plan out."""
    for one in reversed(vault.log.records):
        if isinstance(one.record, ForgetRecord) and "plan" in one.extra:
            seq: int = one.position.seq
            return seq
    return None


def store_plan(vault: NetworkVault, decided: VaultPlan) -> str:
    """Store a plan with all its rows; its SHA-256, which is its name.

    Storing the same plan again changes nothing. The rows name snapshots and objects, no agent.
    """
    data = _encode(decided)
    sha256 = hashlib.sha256(data).hexdigest()
    create_object(vault.store, plan_key(vault.network_id, sha256), data)
    return sha256


def apply_plan(vault: NetworkVault, decided: VaultPlan) -> PlanOutcome:
    """Forget what a plan forgets, by one record right behind the head it was computed at.

    When the log has moved, the plan is computed anew, and applied only if it forgets the very
    same snapshots; else the new plan comes back unapplied, with what has changed.

    Raises:
        FencedError: another region writes this network now.
        PermanentError: the log itself forbids it (a held snapshot, or none would be left).
        StoreUnavailableError: the store does not answer; running again is safe.
    """
    first = decided
    for _ in range(_TRIES):
        state = vault.log.refresh()
        plan = decided.plan
        if first.plan.forget and set(first.plan.forget) <= state.forgotten.keys():
            return PlanOutcome(True, decided, store_plan(vault, decided), "forgotten already")
        if state.head != plan.head:
            decided = plan_vault(vault, first.region, first.policy, first.guards)
            if decided.plan.forget != first.plan.forget:
                moved = _what_moved(vault, first.plan, decided.plan)
                return PlanOutcome(False, decided, "", moved)
            continue
        if not plan.forget:
            return PlanOutcome(True, decided, "", "nothing to forget")
        sha256 = store_plan(vault, decided)
        if plan.refused is not None:
            return PlanOutcome(False, decided, sha256, plan.refused)
        ids = frozenset(plan.forget)
        if refused := refuse_forget(state, ids, decided.decided_at):
            raise PermanentError(f"cannot apply plan {sha256}: {refused}", hint="Plan again.")
        if _append(vault, ForgetRecord(ids), sha256):
            return PlanOutcome(True, decided, sha256, f"forgot {len(ids)} snapshots")
    raise StoreUnavailableError(
        f"network {vault.network_id}: the forget record could not be placed in {_TRIES} tries",
        hint="Run it again; whatever was committed is found in the log.",
    )


def approve(vault: NetworkVault, subject: str | VaultPlan, by: str, reason: str) -> Approval:
    """Record that a person believes a snapshot, or lets a plan forget as many as it does.

    Args:
        vault: the opened network, in the vault that is written.
        subject: id of a live snapshot, or the plan.
        by: who.
        reason: why; both are read by whoever asks later.

    Raises:
        NotFoundError: there is no such live snapshot.
        InvalidInputError: nobody, or no reason, is named.
    """
    if isinstance(subject, VaultPlan):
        approval = Approval(subject.plan.digest, subject.plan.forget, by, reason)
    else:
        approval = Approval(subject, (), by, reason)
    record = encode_approval(approval)

    def decide(state: Any) -> EvidenceRecord | None:
        if not isinstance(subject, VaultPlan) and subject not in state.live:
            raise NotFoundError(
                f"network {vault.network_id} has no live snapshot {subject}",
                hint="`stateroom backups list` names them.",
            )
        known = (decode_approval(one.record) for one in vault.log.records)
        return None if approval in known else record

    append_next(vault, decide)
    return approval


def protected_from_sweep(
    vault: NetworkVault,
    region: str,
    doomed: frozenset[str],
    policy: RetentionPolicy,
    guards: GuardPolicy,
    now: datetime | None = None,
) -> dict[str, str]:
    """Forgotten snapshots whose bytes a replica must not sweep, with reasons (guard G10).

    Args:
        vault: the replica's.
        region: of the replica, whose evidence counts.
        doomed: forgotten snapshots whose packs are about to go.
        policy: the counts.
        guards: the numbers of the guards.
        now: the store's time; None asks the store.
    """
    now = now or store_time(vault.store)
    facts = gather_facts(vault, region, now)
    return protect_from_sweep(
        facts.snapshots, doomed, policy, guards, now=now, approved=facts.approvals.forgets
    )


def _append(vault: NetworkVault, record: ForgetRecord, sha256: str) -> bool:
    """Append; an unanswered one counts as not done, and the next look at the log finds out."""
    try:
        return vault.log.append(record, vault.clock.now(), {"plan": sha256})
    except StoreUnavailableError:
        return False


def _what_moved(vault: NetworkVault, before: RetentionPlan, after: RetentionPlan) -> str:
    """Why a plan no longer holds, in words."""
    fresh = [one for one in vault.log.records if one.position.seq > before.head]
    said = ", ".join(_said(one) for one in fresh[:5]) + (", ..." if len(fresh) > 5 else "")
    spared = sorted(set(before.forget) - set(after.forget))
    added = sorted(set(after.forget) - set(before.forget))
    changes = [f"no longer forgets {', '.join(spared)}"] if spared else []
    changes += [f"forgets {', '.join(added)} as well"] if added else []
    return (
        f"the log moved from {before.head} to {after.head} ({said}); "
        f"the new plan {' and '.join(changes)}"
    )


def _said(stored: StoredRecord) -> str:
    record = stored.record
    what = type(record).__name__.removesuffix("Record").lower()
    if isinstance(record, SnapshotRecord):
        return f"{what} {record.snapshot_id}"
    return f"{record.kind}" if isinstance(record, EvidenceRecord) else what


def _encode(decided: VaultPlan) -> bytes:
    import pyarrow.parquet as pq

    pa = arrow()
    rows = decided.plan.rows
    columns = {
        "snapshot_id": pa.array([one.snapshot_id for one in rows], pa.string()),
        "seq": pa.array([one.seq for one in rows], pa.int64()),
        "taken_at": pa.array([one.taken_at for one in rows], pa.timestamp("us", "UTC")),
        "fate": pa.array([str(one.fate) for one in rows], pa.string()),
        "rules": pa.array([list(one.rules) for one in rows], pa.list_(pa.string())),
        "guards": pa.array([list(map(str, r.guards)) for r in rows], pa.list_(pa.string())),
        "reason": pa.array([one.reason for one in rows], pa.string()),
    }
    about = {
        "format": 1,
        "network_id": decided.network_id,
        "region": decided.region,
        "head": decided.plan.head,
        "decided_at": decided.decided_at.isoformat(),
        "digest": decided.plan.digest,
        "refused": decided.plan.refused,
        "policy": {name: _plain(value) for name, value in asdict(decided.policy).items()},
        "guards": asdict(decided.guards),
    }
    table = pa.table(columns).replace_schema_metadata(
        {b"stateroom": json.dumps(about, sort_keys=True).encode()}
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _plain(value: object) -> object:
    """A count as it is, a calendar span as it is written in settings."""
    return value if isinstance(value, int) or value is None else str(value)
