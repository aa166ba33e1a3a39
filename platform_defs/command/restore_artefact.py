"""`stateroom restore --artefact`: brings a file, folder or database back as it was."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from fleet.errors import NotFoundError, VersionConflictError
from platform_defs.command.action_journal import journaled
from platform_defs.command.moments import span_text, utc_text
from platform_defs.command.output import size_text, to_json
from platform_defs.command.progress_bar import watched
from platform_defs.command.store_access import fleet_store
from platform_defs.command.vault_access import Backups

if TYPE_CHECKING:
    from fleet.ports.progress import Progress
    from resources.vault.restores.restore_files import ArtefactRestoreResult


class WantedArtefact(NamedTuple):
    """What is to be restored, and where it goes."""

    network_id: str
    region: str
    name: str
    target: Path
    at: datetime | None
    snapshot_id: str | None
    force: bool


class ArtefactPreview(NamedTuple):
    """What a restore of an artefact would do."""

    artefact: str
    snapshot_id: str
    taken_at: datetime
    items: int
    """Files, folders and links."""
    logical_bytes: int
    stored_bytes: int
    target: Path
    exists: bool
    """Whether something is there already."""


def restore_artefact_command(
    backups: Backups, wanted: WantedArtefact, *, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Say what would be restored, ask, restore, report."""
    preview = _preview(backups, wanted)
    if not as_json:
        click.echo(_preview_text(wanted, preview))
    result = None
    if preview.exists and not wanted.force:
        raise VersionConflictError(
            f"something is at {wanted.target} already",
            hint="Choose another path, or replace all of it (--force); nothing was written.",
        )
    if not dry_run:
        if not yes:
            click.confirm(f"Restore {wanted.name} into {wanted.target}?", abort=True)
        with watched() as progress:
            result = _restore(backups, progress, wanted, preview)
    if as_json:
        document = {"preview": preview._asdict(), "result": result and result._asdict()}
        click.echo(to_json(document))
    elif result:
        click.echo(_result_text(result))


def _preview(backups: Backups, wanted: WantedArtefact) -> ArtefactPreview:
    from resources.vault.packs.contents import rows_of_artefact
    from resources.vault.restores.restore import find_manifest

    vault = backups.open(wanted.network_id, wanted.region)
    found, manifest = find_manifest(vault, wanted.at, wanted.snapshot_id, states=False)
    table = rows_of_artefact(manifest, wanted.name).table
    if not len(table):
        held = {one.partition("/")[0] for one in manifest.table["item_id"].unique().to_pylist()}
        said = f"it holds {', '.join(sorted(held))}" if held else "it holds none"
        raise NotFoundError(
            f"snapshot {found.snapshot_id} of {wanted.network_id} holds no artefact "
            f"{wanted.name!r}; {said}",
            hint="Artefacts stand in stateroom.toml; the fleet's own are those of `platform`.",
        )
    return ArtefactPreview(
        wanted.name,
        found.snapshot_id,
        found.taken_at,
        len(table["item_id"].unique()),
        sum(table["plain_length"].to_pylist()),
        sum(table["length"].to_pylist()),
        wanted.target,
        wanted.target.exists() or wanted.target.is_symlink(),
    )


def _restore(
    backups: Backups, progress: Progress, wanted: WantedArtefact, preview: ArtefactPreview
) -> ArtefactRestoreResult:
    """Restore; replacing something is an action in the journal, filling an empty place is not."""
    if not preview.exists:
        return _write(backups, progress, wanted, preview)
    said = f"{wanted.name} of snapshot {preview.snapshot_id} over {wanted.target}"
    with (
        fleet_store(backups.settings) as store,
        journaled(store, "restore", wanted.network_id, said) as detail,
    ):
        done = _write(backups, progress, wanted, preview)
        detail |= {"files": done.files, "bytes": done.bytes_logical}
    return done


def _write(
    backups: Backups, progress: Progress, wanted: WantedArtefact, preview: ArtefactPreview
) -> ArtefactRestoreResult:
    from platform_defs.command.metered_vaults import MeteredVaults
    from resources.vault.restores.restore_files import restore_artefact

    vaults = MeteredVaults(backups.declaration, backups.vaults.clock, progress)
    vaults.store(wanted.region).expect(preview.stored_bytes)
    options: dict[str, Any] = {"snapshot_id": preview.snapshot_id, "overwrite": wanted.force}
    vault = vaults.network(wanted.region, wanted.network_id)
    return restore_artefact(vault, wanted.name, wanted.target, **options)


def _preview_text(wanted: WantedArtefact, found: ArtefactPreview) -> str:
    replaced = "\n  ! what is there is REPLACED" if found.exists and wanted.force else ""
    return (
        f"artefact  {found.artefact} of {wanted.network_id}, from the copy in {wanted.region}\n"
        f"source    snapshot {found.snapshot_id} of {utc_text(found.taken_at)}\n"
        f"holds     {found.items} files and folders, {size_text(found.logical_bytes)}\n"
        f"into      {found.target}{replaced}"
    )


def _result_text(done: ArtefactRestoreResult) -> str:
    what = f"{done.files} files and folders ({size_text(done.bytes_logical)})"
    as_of = utc_text(done.taken_at)
    took = span_text(done.seconds)
    lines = [f"restored {done.artefact}: {what} in {took}, as of {as_of}, read back and compared"]
    lines += [f"  ! left over from an earlier restore: {one}" for one in done.leftovers]
    return "\n".join(lines)
