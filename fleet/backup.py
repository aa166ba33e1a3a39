"""What is backed up besides agent states: declarations, scopes, and how each file is cut.

An artefact is anything with a path: a database, an index, a folder. Its kind says how a consistent
copy of it is made; its rows in a manifest carry the row kind of `ROW_KINDS`. Agent states need no
declaration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from fleet.backup_declaration import PLATFORM_NETWORK
from fleet.errors import InvalidInputError
from fleet.names import validate_name

__all__ = [
    "ARTEFACT_KINDS",
    "PLATFORM_NETWORK",
    "ROW_KINDS",
    "STATE_KIND",
    "ArtefactDeclaration",
    "ArtefactOutcome",
    "BackupScope",
    "choose_chunker",
    "classify_head",
]

STATE_KIND = "state"
"""Row kind of agent states."""
ROW_KINDS: Mapping[str, str] = {
    "files": "file",
    "sqlite": "store",
    "duckdb": "store",
    "lmdb": "store",
    "control_store": "store",
    "faiss": "index",
    "lake": "lake",
    "vectors": "index",
}
"""Row kind in a manifest, by the kind of an artefact."""
ARTEFACT_KINDS = ("auto", *ROW_KINDS)
CHUNKERS = ("auto", "fixed-64KiB", "duckdb-256KiB", "fastcdc-256KiB")
HEAD_BYTES = 64
"""So many first bytes of a file tell its kind."""
PAGE_BYTES = 4096
"""A file whose size is a multiple of it, and that says nothing else, is taken for a page file:
databases, disk images and hash tables are; of all others only one in 4096."""

_SQLITE_MAGIC = b"SQLite format 3\x00"
_DUCKDB_MAGIC = b"DUCK"
_DUCKDB_AT = 8
_LMDB_MAGIC = (0xBEEFC0DE).to_bytes(4, "little")
_LMDB_AT = 16
_FAISS_MAGICS = frozenset(
    tag.encode()
    for tag in [
        "IxFI",
        "IxF2",
        "IxFl",
        "IwFl",
        "IwPQ",
        "IwQR",
        "IwSq",
        "IxPq",
        "IxPo",
        "IxPT",
        "IxMp",
        "IxM2",
        "IHNf",
        "IHNp",
        "IHNs",
        "IHN2",
        "IxSQ",
        "IxRF",
        "IxHE",
        "IBxF",
    ]
)
"""First four bytes that `faiss.write_index` writes (faiss `index_write.cpp`, 1.15)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtefactDeclaration:
    """A file, folder or database that is backed up with a network.

    Raises:
        InvalidInputError: a name, kind, chunker or path that cannot be.
    """

    name: str
    kind: str = "auto"
    """One of `ARTEFACT_KINDS`; `auto` looks at the first bytes of the file."""
    path: str
    """File or folder; of a `control_store` also the URL of a PostgreSQL database, of `vectors` also
    `s3://bucket/prefix`."""
    network_id: str = PLATFORM_NETWORK
    chunker: str = "auto"
    """One of `CHUNKERS`, for every file of the artefact; `auto` decides by magic and size."""
    exclude: tuple[str, ...] = ()
    """Paths below the artefact's folder that are left out, with all that is in them."""
    endpoint_url: str = ""
    """S3 endpoint of `vectors` in a bucket; empty: that of AWS."""
    aws_region: str = ""
    """AWS region of that bucket; empty: boto3's own."""
    stanza: str = ""
    """pgBackRest's stanza, where it backs this PostgreSQL up; we record its label then."""

    def __post_init__(self) -> None:
        """Refuse what no backup could be taken of."""
        validate_name("artefact", self.name)
        validate_name("network_id", self.network_id)
        if self.kind not in ARTEFACT_KINDS:
            raise InvalidInputError(f"{self.name}.kind", self.kind, ", ".join(ARTEFACT_KINDS))
        if self.chunker not in CHUNKERS:
            raise InvalidInputError(f"{self.name}.chunker", self.chunker, ", ".join(CHUNKERS))
        if not self.path or "\x00" in self.path:
            raise InvalidInputError(f"{self.name}.path", self.path, "a file, folder or URL")


class BackupScope(NamedTuple):
    """What one snapshot looks at; everything else is carried over from its base unchanged."""

    kinds: frozenset[str] | None = None
    """Row kinds (`state` and the values of `ROW_KINDS`); None for all."""
    artefacts: frozenset[str] | None = None
    """Names of artefacts; None for all that are handed in."""
    retired: frozenset[str] = frozenset()
    """Artefacts that exist no more: their rows end with this snapshot; older ones keep them."""

    @property
    def has_states(self) -> bool:
        """Whether agent states are looked at."""
        return self.kinds is None or STATE_KIND in self.kinds

    def covers(self, artefact: ArtefactDeclaration) -> bool:
        """Whether an artefact is looked at; of kind `auto` it always is when it is named."""
        named = self.artefacts is None or artefact.name in self.artefacts
        row_kind = ROW_KINDS.get(artefact.kind)
        return named and (self.kinds is None or row_kind is None or row_kind in self.kinds)


class ArtefactOutcome(NamedTuple):
    """What a backup did with one artefact."""

    name: str
    kind: str
    """Resolved: never `auto`, unless it could not be looked at."""
    items: int = 0
    """Files, folders and links that the snapshot holds of it."""
    changed: int = 0
    """New, or of other content or attributes."""
    removed: int = 0
    files_read: int = 0
    bytes_read: int = 0
    skipped: tuple[tuple[str, str], ...] = ()
    """Paths left out with the reason: sockets, pipes, devices."""
    failed: tuple[tuple[str, str], ...] = ()
    """Paths that could not be read, with the error: their last good content is kept."""
    error: str = ""
    """Why it is incomplete; empty when it is not."""
    about: Mapping[str, Any] = {}
    """What its consistency is: pages, build, LSN; goes into the cut."""


def classify_head(head: bytes) -> str:
    """The kind of artefact that a file's first bytes speak of; `files` when of none.

    Source:
        SQLite file format 1.3; DuckDB `MainHeader` (magic at 8); LMDB `mdb.c` `MDB_meta` (magic
        behind a 16-byte page header, little endian); faiss `index_write.cpp`.
    """
    if head.startswith(_SQLITE_MAGIC):
        return "sqlite"
    if head[_DUCKDB_AT : _DUCKDB_AT + 4] == _DUCKDB_MAGIC:
        return "duckdb"
    if head[_LMDB_AT : _LMDB_AT + 4] == _LMDB_MAGIC:
        return "lmdb"
    return "faiss" if head[:4] in _FAISS_MAGICS else "files"


def choose_chunker(head: bytes, size_bytes: int, declared: str, before: str) -> str:
    """How a file is cut into blobs: along its own pages where it has some, else by content.

    Fixed blocks find an edit in place again and lose everything behind an insertion; FastCDC the
    other way round (measured: docs/formats/backup.md).

    Args:
        head: its first `HEAD_BYTES`.
        size_bytes: of the whole file.
        declared: by the artefact; `auto` for none.
        before: chunker of the last backup, kept while nothing speaks against it; empty for none.
    """
    if declared != "auto":
        return declared
    kind = classify_head(head)
    if kind == "duckdb":
        return "duckdb-256KiB"
    if kind in {"sqlite", "lmdb"}:
        return "fixed-64KiB"
    if before:
        return before
    return "fixed-64KiB" if size_bytes % PAGE_BYTES == 0 else "fastcdc-256KiB"
