"""What the settings declare of backups, as the record that vaults and ops take."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from fleet.backup import ArtefactDeclaration
from fleet.backup_declaration import (
    PLATFORM_NETWORK,
    BackupDeclaration,
    VaultLocation,
    WrappingKeySource,
)
from fleet.backup_schedule import BackupCrons
from fleet.retention import RetentionPolicy, parse_calendar_span
from platform_defs.settings import Settings
from platform_defs.settings_backup import RetentionSettings

REGION_KEY, RECOVERY_KEY = "region", "recovery"
"""Names of the two wrapping keys of a fleet whose settings name none."""

CONTROL_STORE, LAKE, VECTORS = "control-store", "lake", "vectors"
"""Names of the fleet's own artefacts."""

SQLITE_SCHEME = "sqlite:///"

WORKSPACE_PATH_MAX_BYTES = 56
"""The kernel takes 107 bytes for a socket's path; a drill's folders and names need the rest."""


def declared_backup(settings: Settings) -> BackupDeclaration:
    """Vaults, keys and policies; what is not set gets the defaults of one machine."""
    backup = settings.backup
    regions = [region.name for region in settings.regions]
    return BackupDeclaration(
        home_region=backup.home_region or regions[0],
        vaults=tuple(_location(settings, region) for region in regions),
        keys=_keys(settings),
        networks=tuple(network.name for network in settings.networks),
        enabled=backup.enabled,
        retention=_retention(settings.retention),
        journal_interval_s=backup.journal_interval_s,
        journal_keep_hours=backup.journal_keep_hours,
        rpo_max_s=backup.rpo_max_s,
        rto_max_s=backup.rto_max_s,
        restore_test_max_age_days=backup.restore_test_max_age_days,
        drill_max_age_days=backup.drill_max_age_days,
        workspace=workspace_of(settings.fleet.state_dir),
    )


def declared_artefacts(settings: Settings) -> tuple[ArtefactDeclaration, ...]:
    """What is backed up besides agent states: the fleet's own stores, and what is declared."""
    url = settings.control_store.url
    own = (
        ArtefactDeclaration(
            name=CONTROL_STORE,
            kind="control_store",
            path=url.removeprefix(SQLITE_SCHEME),
            stanza=settings.backup.pgbackrest_stanza,
        ),
        ArtefactDeclaration(name=LAKE, kind="lake", path=str(settings.lake.path)),
        _vectors(settings),
    )
    return (
        own
        + _adopted_indexes(settings)
        + tuple(
            ArtefactDeclaration(
                name=one.name,
                kind=one.kind,
                path=str(settings.path.parent / one.path),
                network_id=one.network or PLATFORM_NETWORK,
            )
            for one in settings.artefacts
        )
    )


def _vectors(settings: Settings) -> ArtefactDeclaration:
    """Embeddings and published indexes of all networks."""
    vectors = settings.vectors
    place = f"s3://{vectors.bucket}/{vectors.prefix}" if vectors.bucket else vectors.path
    return ArtefactDeclaration(
        name=VECTORS,
        kind="vectors",
        path=place,
        endpoint_url=vectors.endpoint_url,
        aws_region=vectors.aws_region,
    )


def _adopted_indexes(settings: Settings) -> tuple[ArtefactDeclaration, ...]:
    """FAISS files of services, but those that are declared as artefacts already."""
    declared = {one.name for one in settings.artefacts}
    return tuple(
        ArtefactDeclaration(
            name=one.name, kind="faiss", path=one.path, network_id=one.network or PLATFORM_NETWORK
        )
        for one in settings.indexes
        if one.name not in declared
    )


def backup_crons(settings: Settings) -> BackupCrons:
    """When each duty falls due."""
    backup = settings.backup
    return BackupCrons(
        snapshot=backup.snapshot_cron,
        nightly=backup.nightly_cron,
        control_store=backup.control_store_cron,
        retention=backup.retention_cron,
        structure=backup.structure_cron,
        scrub=backup.scrub_cron,
        restore_test=backup.restore_test_cron,
        drill=backup.drill_cron,
    )


def simple_backup(
    regions: Sequence[str], state_dir: str, networks: Sequence[str] = ()
) -> BackupDeclaration:
    """Vaults and two key files below a folder, as on one machine without settings of backups."""
    root = Path(state_dir)
    return BackupDeclaration(
        home_region=regions[0],
        vaults=tuple(VaultLocation(one, str(root / "vaults" / one)) for one in regions),
        keys=_key_files(root / "keys"),
        networks=tuple(networks),
        workspace=workspace_of(root),
    )


def workspace_of(state_dir: Path) -> str:
    """Where restore tests and drills work.

    In the state folder; where its path is too long for the sockets of their agents, in the folder
    for temporary files.
    """
    folder = state_dir / "work"
    if len(os.fsencode(folder)) <= WORKSPACE_PATH_MAX_BYTES:
        return str(folder)
    digest = hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:12]
    return str(Path(tempfile.gettempdir()) / f"stateroom-work-{os.getuid()}-{digest}")


def _retention(settings: RetentionSettings) -> RetentionPolicy:
    """The counts as they are, the spans read; one that is not set is no rule."""
    values = asdict(settings)
    for name, value in values.items():
        if isinstance(value, str):
            values[name] = parse_calendar_span(f"retention.{name}", value) if value else None
    return RetentionPolicy(**values)


def _location(settings: Settings, region: str) -> VaultLocation:
    for one in settings.vaults:
        if one.name == region and (one.path or one.bucket):
            return VaultLocation(
                region,
                one.path,
                one.bucket,
                one.prefix,
                one.endpoint_url,
                one.aws_region,
                one.lock_days,
            )
    return VaultLocation(region, str(settings.fleet.state_dir / "vaults" / region))


def _keys(settings: Settings) -> tuple[WrappingKeySource, ...]:
    if not settings.wrapping_keys:
        return _key_files(settings.fleet.state_dir / "keys")
    return tuple(
        WrappingKeySource(one.name, one.file, one.env, one.kms, one.recovery)
        for one in settings.wrapping_keys
    )


def _key_files(folder: Path) -> tuple[WrappingKeySource, ...]:
    """The two keys of a fleet whose settings name none."""
    return (
        WrappingKeySource(REGION_KEY, file=str(folder / f"{REGION_KEY}.key")),
        WrappingKeySource(RECOVERY_KEY, file=str(folder / f"{RECOVERY_KEY}.key"), recovery=True),
    )
