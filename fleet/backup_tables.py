"""What the lake holds of backups: one record a row, one table for each asset of the group.

Moments, not ages: a row stays true while it grows old, and whoever judges it brings the time.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

SNAPSHOTS, JOURNAL = "backup_snapshots", "state_journal"
CATALOG, PLAN = "backup_catalog", "retention_plan"
REPLICAS, VERIFICATIONS = "backup_replicas", "backup_verifications"
OBJECTIVES = "recovery_objectives"
"""Tables of the lake; the assets have the same names."""

ITEMS = "backup_items"
"""Second table of `backup_catalog`: which snapshots hold which version of which item. It has no
history, because each of its states can be built from the vault."""

SHREDDED = "shredded_networks"
"""Written by whatever job of a network finds it shredded; checks read it."""

NETWORK_TABLES = (SNAPSHOTS, JOURNAL, CATALOG, PLAN)
"""One partition for each network of a vault."""
REGION_TABLES = (REPLICAS, VERIFICATIONS, OBJECTIVES)
"""One partition for each region."""


class ShreddedNetwork(NamedTuple):
    """A network whose keys were destroyed: it can be neither backed up nor brought back."""

    network_id: str
    shredded_at: datetime
    by: str
    """Person or process that ordered it."""
    reason: str


class TakenSnapshot(NamedTuple):
    """One snapshot, as the run that took it saw it."""

    network_id: str
    snapshot_id: str
    seq: int
    """Number of its record in the vault's log."""
    taken_at: datetime
    """Moment of the cut: what was written before it is in the snapshot."""
    base_id: str
    """Snapshot that it was compared with; empty for none."""
    manifest: str
    """`full`, `delta`, or `same` when nothing had changed."""
    agents: int
    changed: int
    """Agents whose state was stored anew."""
    removed: int
    """Agents of the base that have no state any more."""
    damaged: tuple[str, ...]
    """Agents whose live state does not match its digest; their last good version is kept."""
    logical_bytes: int
    """Of the states stored anew, before compression."""
    stored_bytes: int
    """That this snapshot added to the vault."""
    taking_s: float
    """How long it took."""
    base_fault: str
    """Why the newest snapshot could not serve as base; empty when it could."""
    reason: str
    """Why it was taken."""
    scheduled: bool
    """Whether a schedule or sensor asked for it; one that a person asked for waits for approval
    before retention counts on it."""
    run_id: str
    """Dagster run that took it; the same stands in the vault's log."""
    full: bool = False
    """Whether every file was read again, whatever its times say."""
    artefacts: tuple[str, ...] = ()
    """Artefacts that were looked at."""
    items: int = 0
    """Files, folders and links that the snapshot holds of them."""
    incomplete: tuple[str, ...] = ()
    """Artefacts that are not as they were at the cut, with the error; their last good content is
    kept, and retention does not count on such a snapshot."""


class CataloguedSnapshot(NamedTuple):
    """One snapshot that the log of the home region knows, as `build_catalog` lists it."""

    snapshot_id: str
    network_id: str
    epoch: int
    seq: int
    """Number of its record in the log."""
    taken_at: datetime
    """Moment of the cut."""
    written_at: datetime
    """Of the record."""
    state: str
    """`live`, `forgotten` (an undelete brings it back) or `condemned` (nothing does)."""
    agents: int | None
    changed: int | None
    removed: int | None
    bytes_logical: int | None
    bytes_stored: int | None
    """That it added to the vault when it was taken."""
    packs: int | None
    """Packs and manifests that a restore reads."""
    manifest: str | None
    """`full`, `delta`, or `same` when it wrote none."""
    verified_level: str | None
    """Highest level that it passed in the home region."""
    verified_at: datetime | None
    failed_level: str | None
    failed_at: datetime | None
    hold: str | None
    """Reason of a hold in force."""
    fate: str | None
    """By the newest retention plan."""
    reason: str | None
    """Of its fate."""
    run_id: str | None
    """Dagster run that took it."""
    code_version: str | None


class PlannedSnapshot(NamedTuple):
    """What becomes of one live snapshot, and why."""

    network_id: str
    snapshot_id: str
    seq: int
    taken_at: datetime
    fate: str
    """`keep`, `held`, `pending`, `ineligible` or `forget`; all but the last leave it there."""
    reason: str
    """One sentence."""
    rules: tuple[str, ...]
    """Rules that keep it."""
    guards: tuple[str, ...]
    """Guards that apply to it, G1 to G8 (docs/formats/backup.md)."""
    alarms: tuple[str, ...]
    """What a person must look at; those of the plan as a whole stand with the newest snapshot."""


class JournalReach(NamedTuple):
    """How far the journal of one network reaches in one region, between its snapshots."""

    network_id: str
    region: str
    covered_until: datetime | None
    """Any moment up to this one can be restored there; None while there is no snapshot to begin
    at."""
    segments: int
    """Written (at the home) or copied since the last row."""
    agents: int
    """Agents whose state was stored since the last row."""
    stored_bytes: int
    damaged: tuple[str, ...]
    """Agents whose live state does not match its digest."""
    gap: str
    """Why not every moment can be restored; empty when each can."""
    fault: str
    """What kept this region's journal from being written or copied; empty for nothing."""
    looked_at: datetime


class Replica(NamedTuple):
    """One region's copy of one network."""

    region: str
    network_id: str
    is_home: bool
    """Whether this copy is written, and the others are pulled from it."""
    records: int
    """Of its log."""
    records_behind: int
    """That the home had more of, at that look."""
    snapshot_id: str
    """Newest live snapshot of this copy; empty for none."""
    snapshot_at: datetime | None
    """Moment of its cut: what this region alone can bring back."""
    home_snapshot_at: datetime | None
    """The same of the home's copy."""
    copied_records: int
    copied_objects: int
    copied_bytes: int
    copying_s: float
    looked_at: datetime


class ProvenLevel(NamedTuple):
    """The newest verification of one level of one region's copy of one network."""

    region: str
    network_id: str
    level: str
    """`V0` to `V5`; docs/formats/backup.md says what each looks at."""
    snapshot_id: str
    started_at: datetime
    verifying_s: float
    items: int
    checked_bytes: int
    passed: bool
    failures: tuple[str, ...]
    """In words, each naming its object."""
    code_version: str
    passed_at: datetime | None
    """Since when everything that the level looks at is proven: the newest verification that found
    nothing wrong; where it is read in parts, the oldest of their newest readings; samples do not
    count. None when never."""
    recovery_s: float | None = None
    """Of a drill: from its declaration until all agents ran."""
    part: str = ""
    """Which part of the copy this look has read, and why; empty for all of it."""
    oldest_read_at: datetime | None = None
    """Of a look in parts: when the part that was read longest ago was read; None while one never
    was."""


class RecoveryObjective(NamedTuple):
    """What a disaster now would cost one network in one region, and since when that is proven."""

    region: str
    network_id: str
    covered_until: datetime | None
    """Moment up to which this region can bring states back; None: nothing can be brought back."""
    rpo_s: float | None
    """Age of that moment at this look: what would be lost."""
    rto_s: float | None
    """Measured by the newest drill (V5), from its declaration until all agents ran; None: none."""
    snapshot_id: str
    snapshot_at: datetime | None
    backup_age_s: float | None
    replica_lag_s: float | None
    """How much newer the home's newest snapshot is; None for the home itself."""
    verified_age_v1_s: float | None
    verified_age_v2_s: float | None
    verified_age_v3_s: float | None
    verified_age_v4_s: float | None
    verified_age_v5_s: float | None
    """Since a verification of the level passed; None: never."""
    missing: tuple[str, ...]
    """Why a figure is empty."""
    first_snapshot_at: datetime
    """Oldest snapshot known: from then on evidence is due."""
    looked_at: datetime
