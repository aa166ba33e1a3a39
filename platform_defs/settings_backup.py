"""Settings of backups: where the vaults lie, who opens them, what else is backed up, and when."""

from __future__ import annotations

from dataclasses import dataclass

from platform_defs import settings_kinds as kinds
from platform_defs.settings_keys import key

ARTEFACT_KINDS = ("auto", "files", "sqlite", "duckdb", "lmdb", "faiss")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupSettings:
    """When backups are taken, proven and thinned; every time of day is UTC."""

    enabled: bool = key(
        kinds.boolean(),
        "Whether schedules and sensors take backups; commands work either way.",
        default=True,
    )
    home_region: str = key(
        kinds.optional_name(),
        "Region whose vault is written; the others pull replicas. Empty takes the first region.",
        default="",
    )
    journal_interval_s: int = key(
        kinds.whole(5, 3600, "seconds"),
        "Time between two journal segments of state changes: the most that a disaster can cost.",
        default=60,
        unit="seconds",
        ci="5",
    )
    journal_keep_hours: int = key(
        kinds.whole(1, 24 * 366, "hours"),
        "How long any moment, and not only snapshots, can be restored.",
        default=48,
        unit="hours",
        ci="1",
    )
    snapshot_cron: str = key(
        kinds.cron(), "When a snapshot is taken of what has changed.", default="0 * * * *"
    )
    nightly_cron: str = key(
        kinds.cron(),
        "When a full snapshot is taken, every file read again.",
        default="0 2 * * *",
    )
    control_store_cron: str = key(
        kinds.cron(), "When the control store itself is backed up.", default="0 */6 * * *"
    )
    pgbackrest_stanza: str = key(
        kinds.optional_name(),
        "pgBackRest's stanza of the control store's PostgreSQL server: it keeps the data, the "
        "vault its label and LSN. Empty: `pg_basebackup` into the vault.",
        default="",
    )
    retention_cron: str = key(
        kinds.cron(),
        "When the retention plan is applied and garbage collected.",
        default="40 2 * * *",
    )
    structure_cron: str = key(
        kinds.cron(), "When every region's vault is verified to level V1.", default="20 * * * *"
    )
    scrub_cron: str = key(
        kinds.cron(),
        "When a seventh of the stored bytes is hashed (V2), a sample opened (V3), damage healed.",
        default="0 5 * * *",
    )
    restore_test_cron: str = key(
        kinds.cron(),
        "When backups are restored and opened by their applications (V4).",
        default="0 4 * * 0",
    )
    drill_cron: str = key(
        kinds.cron(),
        "When a region is restored from its own replica with the recovery key (V5).",
        default="0 6 1 * *",
    )
    rpo_max_s: int = key(
        kinds.whole(60, 31_536_000, "seconds"),
        "Recovery point objective: the most that may be lost.",
        default=3600,
        unit="seconds",
    )
    rto_max_s: int = key(
        kinds.whole(60, 31_536_000, "seconds"),
        "Recovery time objective: the longest that a region may be away.",
        default=14_400,
        unit="seconds",
    )
    restore_test_max_age_days: int = key(
        kinds.whole(1, 366, "days"),
        "Age at which the newest restore test (V4) no longer counts.",
        default=8,
        unit="days",
    )
    drill_max_age_days: int = key(
        kinds.whole(1, 3660, "days"),
        "Age at which the newest drill (V5) no longer counts.",
        default=35,
        unit="days",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionSettings:
    """How many snapshots of each kind are kept, and for how long (as restic counts); -1 is all."""

    last: int = key(kinds.whole(-1, 1_000_000), "Newest snapshots, whatever their age.", default=0)
    hourly: int = key(kinds.whole(-1, 1_000_000), "Hours that keep their newest.", default=48)
    daily: int = key(kinds.whole(-1, 1_000_000), "Days that keep their newest.", default=7)
    weekly: int = key(kinds.whole(-1, 1_000_000), "ISO weeks that keep their newest.", default=4)
    monthly: int = key(kinds.whole(-1, 1_000_000), "Months that keep their newest.", default=12)
    yearly: int = key(kinds.whole(-1, 1_000_000), "Years that keep their newest.", default=3)
    within: str = key(
        kinds.calendar_span(),
        "Every snapshot of this long before the newest; `10d`, `1y6m`. Empty: none for that.",
        default="",
    )
    within_hourly: str = key(kinds.calendar_span(), "Hours before it that keep theirs.", default="")
    within_daily: str = key(kinds.calendar_span(), "Days before it that keep theirs.", default="")
    within_weekly: str = key(kinds.calendar_span(), "Weeks before it that keep theirs.", default="")
    within_monthly: str = key(
        kinds.calendar_span(), "Months before it that keep theirs.", default=""
    )
    within_yearly: str = key(kinds.calendar_span(), "Years before it that keep theirs.", default="")


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultSettings:
    """Where the vault of the region of this name lies: a folder, or a bucket."""

    name: str
    path: str = key(
        kinds.optional_text(),
        "Folder of the vault. Empty, without a bucket: `{state_dir}/vaults/<region>`.",
        default="",
    )
    bucket: str = key(
        kinds.optional_text(),
        "S3 bucket of the vault; credentials come from the environment, as boto3 finds them.",
        default="",
    )
    prefix: str = key(
        kinds.optional_text(), "Put before each key in the bucket, ending in '/'.", default=""
    )
    endpoint_url: str = key(
        kinds.optional_text(), "S3 endpoint; empty takes that of AWS.", default=""
    )
    aws_region: str = key(
        kinds.optional_text(), "AWS region of the bucket; empty takes boto3's.", default=""
    )
    lock_days: int = key(
        kinds.whole(0, 36_500, "days"),
        "Object lock put on every stored object; 0 for none. The bucket must allow it.",
        default=0,
        unit="days",
        production="14",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappingKeySettings:
    """A key that wraps the networks' data keys; exactly one of `file`, `env` and `kms`."""

    name: str
    file: str = key(
        kinds.optional_text(),
        "File of 32 bytes or 64 hexadecimal digits; `stateroom up` makes one that is missing.",
        default="",
    )
    env: str = key(
        kinds.optional_text(), "Environment variable with 64 hexadecimal digits.", default=""
    )
    kms: str = key(kinds.optional_text(), "Id, ARN or alias of an AWS KMS key.", default="")
    recovery: bool = key(
        kinds.boolean(),
        "The key for disasters: drills open the vault with it alone; keep a copy elsewhere.",
        default=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtefactSettings:
    """Files of a service that are backed up with the fleet."""

    name: str
    path: str = key(
        kinds.text("a file or folder, absolute or relative to stateroom.toml"),
        "What is backed up.",
    )
    kind: str = key(
        kinds.choice(*ARTEFACT_KINDS),
        "How a consistent copy is made; `auto` looks at the file.",
        default="auto",
    )
    network: str = key(
        kinds.optional_name(), "Network that it belongs to; empty for the fleet's own.", default=""
    )
