"""The log of a backup vault: what its records mean together, and what each writer may append next.

The log of a network is the only place where anything becomes true: a snapshot exists because its
record does. Every decision below is computed at a log head and is worth something only if its own
record becomes the very next one; else the log is read again and the decision made anew. That, and
create-only records, is the whole concurrency control: no lock, no lease, no clock.

Invariants, attacked by `tests/fleet/test_vault_protocol.py`:

* every live snapshot finds every pack that it references;
* there is never no live snapshot once there was one;
* no snapshot is committed twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import singledispatchmethod
from typing import NamedTuple


class SnapshotRecord(NamedTuple):
    """A snapshot came into being."""

    snapshot_id: str
    taken_at: datetime
    """Moment of the cut."""
    packs: frozenset[str]
    """Every pack that a restore of this snapshot reads, manifests included."""


class ForgetRecord(NamedTuple):
    """Snapshots are no longer live; an undelete undoes it until a gc condemns their packs."""

    snapshot_ids: frozenset[str]


class UndeleteRecord(NamedTuple):
    """A forgotten snapshot is live again."""

    snapshot_id: str


class HoldRecord(NamedTuple):
    """Snapshots must not be forgotten while the hold lasts."""

    hold_id: str
    snapshot_ids: frozenset[str]
    expires_at: datetime | None
    reason: str


class ReleaseRecord(NamedTuple):
    """A hold ends."""

    hold_id: str


class GcRecord(NamedTuple):
    """From here on nobody may reference these packs or commit these snapshots."""

    condemned: frozenset[str]
    aborted: frozenset[str]


class MapRecord(NamedTuple):
    """Snapshots committed before this record read `new` where they named `old`."""

    old: str
    new: str
    owner: str
    """Id of the repack run that wrote the new pack."""


class EvidenceRecord(NamedTuple):
    """A verification, promotion or note: true, but without effect on what is live."""

    kind: str
    detail: str


LogRecord = (
    SnapshotRecord
    | ForgetRecord
    | UndeleteRecord
    | HoldRecord
    | ReleaseRecord
    | GcRecord
    | MapRecord
    | EvidenceRecord
)


@dataclass(frozen=True, slots=True)
class VaultState:
    """What all records up to a head mean together."""

    head: int = 0
    """Number of records; the next one to be created has this number + 1."""
    live: Mapping[str, SnapshotRecord] = field(default_factory=dict)
    """By snapshot id, in the order of commit."""
    forgotten: Mapping[str, SnapshotRecord] = field(default_factory=dict)
    committed: frozenset[str] = frozenset()
    """Every id that ever owned a committed pack: snapshots and repack runs."""
    condemned: frozenset[str] = frozenset()
    aborted: frozenset[str] = frozenset()
    holds: Mapping[str, HoldRecord] = field(default_factory=dict)


class ListedPack(NamedTuple):
    """A pack as the store lists it."""

    pack: str
    owner: str
    """Snapshot id (or repack run) in its key."""
    age_s: float
    """By the store's own clock."""


class GcPlan(NamedTuple):
    """What a gc record would condemn, with the reason for each pack."""

    record: GcRecord
    reasons: Mapping[str, str]


class CommitVerdict(NamedTuple):
    """Whether a snapshot may be committed as the next record."""

    action: str
    """`commit`, `rescue` (store the packs' blobs again first) or `abort`."""
    packs: frozenset[str]
    """For `rescue`: packs that a gc record condemned in the meantime."""
    reason: str


def replay(records: Iterable[LogRecord], state: VaultState | None = None) -> VaultState:
    """Fold records into the state that they mean together.

    Args:
        records: in the order of the log, beginning after `state.head`.
        state: the state to go on from; None for the beginning of the log.
    """
    fold = _Fold(state or VaultState())
    for record in records:
        fold.head += 1
        fold.add(record)
    return VaultState(
        fold.head,
        fold.live,
        fold.forgotten,
        frozenset(fold.committed),
        frozenset(fold.condemned),
        frozenset(fold.aborted),
        fold.holds,
    )


class _Fold:
    """Working copy of a state, so that a log of n records costs n steps."""

    def __init__(self, state: VaultState) -> None:
        self.head = state.head
        self.live = dict(state.live)
        self.forgotten = dict(state.forgotten)
        self.committed = set(state.committed)
        self.condemned = set(state.condemned)
        self.aborted = set(state.aborted)
        self.holds = dict(state.holds)

    @singledispatchmethod
    def add(self, record: LogRecord) -> None:
        """Evidence changes nothing of what is live."""

    @add.register
    def _(self, record: SnapshotRecord) -> None:
        self.live[record.snapshot_id] = record
        self.committed.add(record.snapshot_id)

    @add.register
    def _(self, record: ForgetRecord) -> None:
        for one in record.snapshot_ids & self.live.keys():
            self.forgotten[one] = self.live.pop(one)

    @add.register
    def _(self, record: UndeleteRecord) -> None:
        if record.snapshot_id in self.forgotten:
            self.live[record.snapshot_id] = self.forgotten.pop(record.snapshot_id)

    @add.register
    def _(self, record: HoldRecord) -> None:
        self.holds[record.hold_id] = record

    @add.register
    def _(self, record: ReleaseRecord) -> None:
        self.holds.pop(record.hold_id, None)

    @add.register
    def _(self, record: GcRecord) -> None:
        self.condemned |= record.condemned
        self.aborted |= record.aborted

    @add.register
    def _(self, record: MapRecord) -> None:
        self.committed.add(record.owner)
        for snapshots in (self.live, self.forgotten):
            for key, one in snapshots.items():
                if record.old in one.packs:
                    snapshots[key] = one._replace(packs=one.packs - {record.old} | {record.new})


def held_snapshots(state: VaultState, now: datetime) -> frozenset[str]:
    """Ids under a hold that has not expired."""
    lasting = (h for h in state.holds.values() if h.expires_at is None or now < h.expires_at)
    return frozenset[str]().union(*(hold.snapshot_ids for hold in lasting))


def decide_commit(state: VaultState, snapshot_id: str, reused: frozenset[str]) -> CommitVerdict:
    """Say whether a snapshot that references `reused` packs may become the next record.

    A writer that was away for a week arrives here with an old view; whatever a gc did meanwhile is
    in the log that it must read before it can create the next record.
    """
    if snapshot_id in state.live or snapshot_id in state.forgotten:
        return CommitVerdict("abort", frozenset(), f"{snapshot_id} is committed already")
    if snapshot_id in state.aborted:
        reason = f"a gc gave {snapshot_id} up and may have deleted its packs; begin a new snapshot"
        return CommitVerdict("abort", frozenset(), reason)
    lost = reused & state.condemned
    if lost:
        reason = f"a gc condemned {len(lost)} packs of the base; their blobs are stored again"
        return CommitVerdict("rescue", lost, reason)
    return CommitVerdict("commit", frozenset(), "nothing it references is condemned")


def refuse_forget(state: VaultState, snapshot_ids: frozenset[str], now: datetime) -> str | None:
    """The reason why these snapshots must not be forgotten together, or None."""
    unknown = snapshot_ids - state.live.keys()
    if unknown:
        return f"not live: {', '.join(sorted(unknown))}"
    held = snapshot_ids & held_snapshots(state, now)
    if held:
        return f"held: {', '.join(sorted(held))}"
    if len(snapshot_ids) == len(state.live):
        return "it would leave no live snapshot"
    return None


def refuse_undelete(state: VaultState, snapshot_id: str) -> str | None:
    """The reason why a forgotten snapshot cannot come back, or None."""
    snapshot = state.forgotten.get(snapshot_id)
    if snapshot is None:
        return f"{snapshot_id} is not a forgotten snapshot"
    lost = snapshot.packs & state.condemned
    if lost:
        return f"a gc has condemned {len(lost)} of its packs"
    return None


def refuse_map(state: VaultState, moved: MapRecord) -> str | None:
    """The reason why a repacked pack must not take the place of the old one, or None."""
    if moved.owner in state.aborted:
        return f"a gc gave up the repack run {moved.owner}"
    for pack in (moved.old, moved.new):
        # A condemned old pack would come back to snapshots that must not be undeleted any more;
        # a condemned new one is about to be deleted.
        if pack in state.condemned:
            return f"a gc has condemned pack {pack}"
    return None


def restorable_snapshots(state: VaultState) -> dict[str, SnapshotRecord]:
    """Every snapshot that is live, or that an undelete or a hold may still ask for."""
    kept = {
        one: record
        for one, record in state.forgotten.items()
        if refuse_undelete(state, one) is None or _is_held(state, record)
    }
    return {**state.live, **kept}


def plan_gc(state: VaultState, listed: Iterable[ListedPack], grace: timedelta) -> GcPlan:
    """Say which packs nobody needs any more.

    Args:
        state: the log, read AFTER the packs were listed.
        listed: every pack of the network.
        grace: how long a pack without a committed owner is left alone. Courtesy to slow writers;
            safety does not depend on it.

    Returns:
        The record to append at `state.head + 1`, with a reason for each pack.
    """
    keepers = (*state.live.values(), *(s for s in state.forgotten.values() if _is_held(state, s)))
    needed = frozenset[str]().union(*(one.packs for one in keepers))
    condemned: set[str] = set()
    aborted: set[str] = set()
    reasons: dict[str, str] = {}
    for pack in listed:
        if pack.pack in needed or pack.pack in state.condemned:
            continue
        if pack.owner in state.committed:
            condemned.add(pack.pack)
            reasons[pack.pack] = "no live or held snapshot references it"
        elif pack.age_s >= grace.total_seconds():
            aborted.add(pack.owner)
            reasons[pack.pack] = f"{pack.owner} never committed in {pack.age_s:.0f} s"
    return GcPlan(GcRecord(frozenset(condemned), frozenset(aborted)), reasons)


def _is_held(state: VaultState, snapshot: SnapshotRecord) -> bool:
    return any(snapshot.snapshot_id in hold.snapshot_ids for hold in state.holds.values())
