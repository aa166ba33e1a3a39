"""How subcommands reach the lake: only one that exists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleet.errors import LakeUnavailableError
from platform_defs.settings import Settings

if TYPE_CHECKING:
    from resources.lake.parquet_lake import ParquetLake


def existing_lake(settings: Settings) -> ParquetLake:
    """The lake of these settings.

    Raises:
        LakeUnavailableError: there is none yet; an inspection must not make one.
    """
    if not settings.lake.path.is_dir():
        raise LakeUnavailableError(
            f"no lake at {settings.lake.path}", hint="Start the fleet with `stateroom up`."
        )
    from resources.lake.directory_store import DirectoryStore
    from resources.lake.parquet_lake import ParquetLake

    return ParquetLake(DirectoryStore(settings.lake.path))
