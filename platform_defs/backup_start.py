"""What `stateroom up` does for backups: all that they need exists before the first snapshot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fleet.errors import StateroomError, StoreUnavailableError
from platform_defs.declared_backup import declared_backup
from platform_defs.settings import Settings


def prepare_backups(settings: Settings, say: Callable[[str], None]) -> str:
    """Make the keys and the vault that are missing; what is wrong, or nothing.

    A vault that cannot be prepared does not keep the fleet from starting: its agents are worth more
    running and not backed up than not running.

    Args:
        settings: of the fleet.
        say: takes one line for the operator, only when keys were made.
    """
    from resources.clock import SystemClock
    from resources.vault.region_vaults import RegionVaults

    declaration = declared_backup(settings)
    try:
        _prepare_vectors(settings)
        made = RegionVaults(declaration, SystemClock()).prepare()
    except StateroomError as error:
        problem = f"not everything can be backed up: {error}. {error.hint}".strip()
        say(problem)
        return problem
    recovery = [one.file for one in declaration.recovery_keys() if one.file]
    for path in made:
        if str(path) in recovery:
            say(f"recovery key of the backups made: {path}")
            say("keep a copy of it where no disaster here reaches: without a key no backup opens")
    return ""


def _prepare_vectors(settings: Settings) -> None:
    """Make the folder of the vector store: a backup takes a missing one for a disk that is gone.

    Raises:
        StoreUnavailableError: it cannot be made.
    """
    if settings.vectors.bucket:
        return
    folder = Path(settings.vectors.path)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreUnavailableError(
            f"vectors.path {folder} cannot be made: {error.strerror}",
            hint="Choose another folder in stateroom.toml, or fix its permissions.",
        ) from error
