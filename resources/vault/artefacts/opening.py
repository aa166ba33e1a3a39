"""From a declaration to an opened source: resolving `auto`, choosing the adapter."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from fleet.backup import HEAD_BYTES, ArtefactDeclaration, classify_head
from fleet.errors import NotFoundError, StoreUnavailableError
from resources.vault.artefacts.duckdb import DuckdbSource
from resources.vault.artefacts.files import FilesSource, LakeSource
from resources.vault.artefacts.lmdb import LmdbSource
from resources.vault.artefacts.port import ArtefactSource
from resources.vault.artefacts.postgres import PgBackRestSource, PgBaseBackupSource
from resources.vault.artefacts.sqlite import SqliteSource
from resources.vault.artefacts.staged import StagedSource, first_bytes
from resources.vault.artefacts.vectors import open_vectors

_STAGED: dict[str, type[StagedSource]] = {
    "sqlite": SqliteSource,
    "duckdb": DuckdbSource,
    "lmdb": LmdbSource,
}

_STORES: dict[str, Callable[[ArtefactDeclaration, int], ArtefactSource]] = {
    "lake": LakeSource,
    "vectors": open_vectors,
}


def open_source(
    declared: ArtefactDeclaration, seen_ns: int, staging: Path | None = None
) -> ArtefactSource:
    """The source of an artefact; nothing of it has been copied yet.

    Args:
        declared: what to back up.
        seen_ns: moment before it is looked at, in nanoseconds of the epoch.
        staging: folder for consistent copies; None for the system's.

    Raises:
        NotFoundError: its path does not exist.
        StoreUnavailableError: it cannot be looked at.
    """
    kind = resolve_kind(declared)
    if kind == "control_store":
        if declared.stanza:
            return PgBackRestSource(declared.stanza)
        if "://" in declared.path:
            return PgBaseBackupSource(declared.path, seen_ns, staging)
        return SqliteSource(os.path.realpath(declared.path), seen_ns, staging)
    if kind in _STORES:
        return _STORES[kind](declared, seen_ns)
    if kind in _STAGED:
        return _STAGED[kind](os.path.realpath(declared.path), seen_ns, staging)
    return FilesSource(declared, kind, seen_ns)


def resolve_kind(declared: ArtefactDeclaration) -> str:
    """The kind as declared, or what the first bytes at its path speak of.

    A folder is an LMDB environment when it holds `data.mdb` with LMDB's magic; else files.

    Raises:
        NotFoundError: there is nothing at its path.
    """
    if declared.kind != "auto":
        return declared.kind
    path = Path(os.path.realpath(declared.path))
    if path.is_dir():
        data = path / "data.mdb"
        is_lmdb = data.is_file() and classify_head(first_bytes(str(data), HEAD_BYTES)) == "lmdb"
        return "lmdb" if is_lmdb else "files"
    if not os.path.lexists(path):
        raise NotFoundError(
            f"{declared.path} does not exist",
            hint="Correct the artefact's path, or retire it; its last good copy is kept.",
        )
    if not path.is_file():
        raise StoreUnavailableError(f"{declared.path} is neither file nor folder")
    return classify_head(first_bytes(str(path), HEAD_BYTES))
