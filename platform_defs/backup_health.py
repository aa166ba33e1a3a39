"""What `stateroom doctor` looks at of backups: vaults, their stores, their clocks, the keys.

Like the other checks these never repair; a store is tested with objects that are removed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.backup_declaration import BackupDeclaration, VaultLocation
from fleet.errors import NotFoundError, StateroomError
from fleet.snapshot_fitness import GuardPolicy
from platform_defs.declared_backup import declared_backup
from platform_defs.health_finding import Context, Finding

if TYPE_CHECKING:
    from resources.vault.region_vaults import RegionVaults

_OTHERS_MAY_READ = 0o077


def check_vaults(context: Context) -> Iterator[Finding]:
    """Every region's vault answers, passes the self-test of its store, and has the right time."""
    from resources.clock import SystemClock
    from resources.vault.region_vaults import RegionVaults

    declaration = declared_backup(context.settings)
    vaults = RegionVaults(declaration, SystemClock())
    for location in declaration.vaults:
        try:
            yield _vault_finding(vaults, declaration, location)
        except StateroomError as error:
            yield Finding("vault", "wrong", f"{location.region}, {location}: {error}", error.hint)


def _vault_finding(
    vaults: RegionVaults, declaration: BackupDeclaration, location: VaultLocation
) -> Finding:
    from resources.vault.keys.key_store import read_vault
    from resources.vault.retention.removal import store_time

    name = f"{location.region} at {location}"
    store = vaults.store(location.region)
    try:
        read_vault(store)
    except NotFoundError:
        if not any(Path(one.file).exists() for one in declaration.keys if one.file):
            return Finding("vault", "ok", f"{name} will be made by `stateroom up`")
        if location.region == declaration.home_region:
            return Finding("vault", "warn", f"none of {name}", "`stateroom up` makes it")
        remedy = "Copies follow the first snapshot, while `stateroom up` runs."
        return Finding("vault", "warn", f"no copy yet in {name}", remedy)
    faults = store.check()
    if faults:
        remedy = "Use a store with conditional PUT (If-None-Match) and consistent listing."
        return Finding("vault", "wrong", f"{name} fails its self-test: {'; '.join(faults)}", remedy)
    off_s = abs((store_time(store) - datetime.now(UTC)).total_seconds())
    if off_s > GuardPolicy().clock_off_max_s:
        said = f"the clock of {name} is {off_s:.0f} s off this machine's"
        return Finding("vault", "wrong", said, "Set the clocks; retention trusts neither.")
    return Finding("vault", "ok", f"{name} answers and passes its self-test")


def check_wrapping_keys(context: Context) -> Iterator[Finding]:
    """The keys that open the backups are at hand, private, and not all in one place."""
    from resources.vault.keys.wrapping_keys import read_wrapping_key

    declaration = declared_backup(context.settings)
    if all(one.file and not Path(one.file).exists() for one in declaration.keys):
        yield Finding("backup_keys", "ok", "will be made by `stateroom up`")
        return
    at_hand = []
    for source in declaration.keys:
        try:
            read_wrapping_key(source)
        except NotFoundError as error:
            # A recovery key that is kept elsewhere is where it belongs.
            verdict = "ok" if source.recovery else "warn"
            said = f"{source.kek_id} is not at hand: {error}"
            yield Finding("backup_keys", verdict, said, "" if source.recovery else error.hint)
        except StateroomError as error:
            yield Finding("backup_keys", "wrong", f"{source.kek_id}: {error}", error.hint)
        else:
            at_hand.append(source.kek_id)
    if not at_hand:
        remedy = "Put back one of the keys that [wrapping_keys] names; without any, nothing opens."
        yield Finding("backup_keys", "wrong", "no key opens the backups here", remedy)
        return
    yield Finding("backup_keys", "ok", f"at hand: {', '.join(at_hand)}")
    yield from _advice(declaration)


def _advice(declaration: BackupDeclaration) -> Iterator[Finding]:
    """What works and is not wise."""
    files = {one.kek_id: Path(one.file) for one in declaration.keys if one.file}
    there = {name: path for name, path in files.items() if path.exists()}
    for path in there.values():
        if path.stat().st_mode & _OTHERS_MAY_READ:
            said = f"others may read {path}, which opens every backup"
            yield Finding("backup_keys", "warn", said, f"chmod 600 {path}")
    recovery = {one.kek_id for one in declaration.keys if one.recovery} & there.keys()
    folders = {path.parent for name, path in there.items() if name not in recovery}
    for name in sorted(recovery):
        if there[name].parent in folders:
            said = f"the recovery key lies beside the region's key in {there[name].parent}"
            remedy = f"Copy {there[name]} to where a disaster here does not reach."
            yield Finding("backup_keys", "warn", said, remedy)
