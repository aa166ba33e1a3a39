"""Opening restored artefacts as their applications do: one function for each kind of file.

Each takes the path of a restored artefact, reads all of it, changes nothing, and answers with
numbers that can be compared with those of the original. `CorruptObjectError` says that it does not
open or is not whole. Damaged files can crash the libraries that read them, so these functions run
in a process of their own: `resources.vault.verification.application_checks` starts it.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, cast

from fleet.errors import CorruptObjectError, StateroomError
from resources.vault.verification.postgres_checks import (
    check_cluster,
    check_pgbackrest,
    is_cluster,
)

Numbers = dict[str, Any]
"""What a check has counted; lists are answers to a probe."""

PROBE_SEED = 20261121
"""Of the vector that every FAISS index is asked for; any constant would do."""
PROBE_NEIGHBOURS = 10
_READ_BYTES = 1024 * 1024
_PROBLEMS_NAMED = 5
_LMDB_NAMED_MAX = 1024


def check_sqlite(path: Path) -> Numbers:
    """`PRAGMA integrity_check` and foreign keys; rows of each table."""
    with _sqlite(path) as connection:
        found = [row[0] for row in connection.execute("PRAGMA integrity_check(5)")]
        if found != ["ok"]:
            raise CorruptObjectError(f"integrity_check: {'; '.join(map(str, found))}")
        orphans = connection.execute("PRAGMA foreign_key_check").fetchone()
        if orphans is not None:
            raise CorruptObjectError(f"foreign_key_check: a row of {orphans[0]} has no parent")
        listed = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_%'"
            " ESCAPE '!' ORDER BY name"
        )
        tables = [row[0] for row in listed]
        return {f"rows.{name}": _count(connection, name) for name in tables}


def check_duckdb(path: Path) -> Numbers:
    """Opens read-only; every row of every table is read, so every block's checksum is compared."""
    import duckdb

    _demand_file(path)
    try:
        with closing(duckdb.connect(str(path), read_only=True)) as connection:
            tables = connection.execute(
                "SELECT schema_name, table_name FROM duckdb_tables() WHERE NOT internal"
                " AND database_name = current_database() ORDER BY ALL"
            ).fetchall()
            numbers: Numbers = {}
            for schema, table in tables:
                name = f"{_quoted(schema)}.{_quoted(table)}"
                # The hash of whole rows cannot be answered from metadata, as a bare count is.
                statement = f"SELECT count(*), bit_xor(hash(one)) FROM {name} AS one"  # noqa: S608 - quoted
                row = connection.execute(statement).fetchone()
                numbers[f"rows.{schema}.{table}"] = row[0] if row else 0
            return numbers
    except (duckdb.Error, RuntimeError, ValueError) as error:
        raise CorruptObjectError(f"DuckDB: {_first_line(error)}") from error


def check_faiss(path: Path) -> Numbers:
    """`read_index`, its size, and the neighbours of one constant vector."""
    import faiss
    import numpy as np

    _demand_file(path)
    try:
        index = faiss.read_index(str(path))
    except (RuntimeError, MemoryError, ValueError) as error:
        raise CorruptObjectError(f"FAISS: {_first_line(error)}") from error
    vector = np.random.default_rng(PROBE_SEED).standard_normal((1, index.d)).astype(np.float32)
    distances, ids = index.search(vector, PROBE_NEIGHBOURS)
    if index.ntotal and int(ids[0][0]) < 0:
        raise CorruptObjectError(f"FAISS: {index.ntotal} vectors, but no neighbour is found")
    return {
        "ntotal": int(index.ntotal),
        "dimensions": int(index.d),
        "probe_ids": [int(one) for one in ids[0]],
        "probe_distances": [float(one) for one in distances[0] if np.isfinite(one)],
    }


def measure_faiss(path: Path) -> Numbers:
    """Type, metric, speed and recall of an index that opens."""
    from resources.vectors.adopted_measure import measure_index

    _demand_file(path)
    try:
        return measure_index(path)
    except (RuntimeError, MemoryError, ValueError) as error:
        raise CorruptObjectError(f"FAISS: {_first_line(error)}") from error


def check_lmdb(path: Path) -> Numbers:
    """Opens read-only without a lock; every entry of every database is read."""
    import lmdb

    if not path.exists():
        raise CorruptObjectError(f"{path.name} is missing")
    try:
        with lmdb.open(
            str(path),
            subdir=path.is_dir(),
            readonly=True,
            lock=False,
            create=False,
            max_dbs=_LMDB_NAMED_MAX,
        ) as environment:
            names = _lmdb_names(environment)
            opened = {name: environment.open_db(name, create=False) for name in names}
            with environment.begin() as transaction:
                numbers = {"entries": transaction.stat()["entries"]}
                for name, database in opened.items():
                    counted = sum(1 for _ in transaction.cursor(database))
                    stored = transaction.stat(database)["entries"]
                    if counted != stored:
                        raise CorruptObjectError(f"LMDB: {counted} of {stored} entries can be read")
                    numbers[f"entries.{name.decode(errors='replace')}"] = counted
                return numbers
    except lmdb.Error as error:
        raise CorruptObjectError(f"LMDB: {_first_line(error)}") from error


def check_tar(path: Path) -> Numbers:
    """Lists every member and reads its bytes, and the archive to its very end.

    The end matters: a compressed archive keeps its checksum behind what `tar` itself reads.
    """
    import lzma
    import zlib

    import zstandard

    _demand_file(path)
    members = size_bytes = 0
    try:
        with _decompressed(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                members += 1
                if (content := archive.extractfile(member)) is not None:
                    found = sum(
                        len(piece) for piece in iter(lambda: content.read(_READ_BYTES), b"")
                    )
                    if found != member.size:
                        raise CorruptObjectError(f"tar: {member.name} ends after {found} bytes")
                    size_bytes += found
            _drain(stream)
    except (
        tarfile.TarError,
        OSError,
        EOFError,
        zlib.error,
        lzma.LZMAError,
        zstandard.ZstdError,
    ) as error:
        raise CorruptObjectError(f"tar: {_first_line(error)}") from error
    if not members:
        raise CorruptObjectError("tar: it holds no member")
    return {"members": members, "size_bytes": size_bytes}


def check_lake(path: Path) -> Numbers:
    """Every lake object below a folder matches the SHA-256 in its name."""
    from fleet.lake import parse_key

    root = path / "objects" if (path / "objects").is_dir() else path
    objects = size_bytes = rows = 0
    wrong: list[str] = []
    for file in sorted(root.rglob("*.parquet")):
        key = file.relative_to(root).as_posix()
        found = parse_key(key, file.stat().st_size)
        if found is None:
            continue
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        if digest != found.sha256:
            wrong.append(f"{key} is {digest[:12]}")
        objects, rows = objects + 1, rows + found.rows
        size_bytes += found.size_bytes
    if wrong:
        raise CorruptObjectError(f"lake: {_listed(wrong)}")
    if not objects:
        raise CorruptObjectError("lake: the folder holds no object")
    return {"objects": objects, "size_bytes": size_bytes, "rows": rows}


def check_vectors(path: Path) -> Numbers:
    """Every network's index opens as its manifest says; every batch of embeddings is whole."""
    from resources.vectors.restored_store import check_store

    if not path.is_dir():
        raise CorruptObjectError(f"{path.name} is no folder")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".copies-") as copies:
        return check_store(path, Path(copies))


def check_control_store(path: Path) -> Numbers:
    """A copy of it opens as its server or library does, and every state matches its digest.

    In SQLite under this version's schema; of PostgreSQL, see `postgres_checks`.
    """
    from resources.clock import SystemClock
    from resources.control_store.opening import open_control_store

    if is_cluster(path):
        return check_cluster(path)
    if _first_byte(path) == b"{":
        return check_pgbackrest(path)
    before = check_sqlite(path)
    # Opening migrates: the restored file must stay as it is, so a copy is opened.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".check-") as folder:
        copy = Path(folder) / "control.db"
        shutil.copyfile(path, copy)
        try:
            store = open_control_store(f"sqlite:///{copy}", clock=SystemClock())
        except StateroomError as error:
            raise CorruptObjectError(f"control store: {error}") from error
        with closing(store):
            numbers = {"agents": len(store.agents()), "nodes": len(store.nodes())}
        states, damaged = _damaged_states(copy)
    if damaged:
        raise CorruptObjectError(f"control store: states of {_listed(damaged)} are damaged")
    kept = before.get("rows.agent_states", states)
    if states != kept:
        raise CorruptObjectError(f"control store: {states} of {kept} states outlived the migration")
    return {**numbers, "states": states}


CHECKS: Mapping[str, Callable[[Path], Numbers]] = MappingProxyType(
    {
        "sqlite": check_sqlite,
        "duckdb": check_duckdb,
        "faiss": check_faiss,
        "faiss_measured": measure_faiss,
        "lmdb": check_lmdb,
        "tar": check_tar,
        "lake": check_lake,
        "vectors": check_vectors,
        "control_store": check_control_store,
    }
)
"""The one registry: kind of artefact -> its check."""


@contextmanager
def _sqlite(path: Path) -> Iterator[sqlite3.Connection]:
    """A database opened so that nothing is written beside it, unless a log lies there already."""
    _demand_file(path)
    has_log = path.with_name(f"{path.name}-wal").exists()
    mode = "mode=ro" if has_log else "mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise CorruptObjectError(f"SQLite: {_first_line(error)}") from error


def _first_byte(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(1)


def _drain(stream: IO[bytes]) -> int:
    """Read a stream to its end; its length."""
    size_bytes = 0
    while piece := stream.read(_READ_BYTES):
        size_bytes += len(piece)
    return size_bytes


def _decompressed(path: Path) -> IO[bytes]:
    """A file opened through the decompressor that its first bytes name."""
    import bz2
    import gzip
    import lzma

    import zstandard

    with path.open("rb") as file:
        start = file.read(6)
    if start.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.open(path))
    if start.startswith(b"BZh"):
        return cast("IO[bytes]", bz2.open(path))
    if start == b"\xfd7zXZ\x00":
        return cast("IO[bytes]", lzma.open(path))
    if start.startswith(b"\x28\xb5\x2f\xfd"):
        return cast("IO[bytes]", zstandard.open(path, "rb"))
    return path.open("rb")


def _count(connection: sqlite3.Connection, table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {_quoted(table)}").fetchone()[0])  # noqa: S608 - quoted


def _damaged_states(path: Path) -> tuple[int, list[str]]:
    """How many states a control store holds, and whose do not match their digests."""
    with _sqlite(path) as connection:
        rows = connection.execute("SELECT agent_id, digest, body FROM agent_states")
        states, damaged = 0, []
        for agent_id, digest, body in rows:
            states += 1
            if hashlib.sha256(body).hexdigest() != digest:
                damaged.append(agent_id)
    return states, damaged


def _lmdb_names(environment: Any) -> list[bytes]:
    """Names of the databases inside an environment; entries that are plain data are none."""
    import lmdb

    names = []
    with environment.begin() as transaction:
        keys = [bytes(key) for key, _ in transaction.cursor()]
    for key in keys[:_LMDB_NAMED_MAX]:
        try:
            environment.open_db(key, create=False)
        except lmdb.IncompatibleError:
            continue
        names.append(key)
    return names


def _demand_file(path: Path) -> None:
    if not path.is_file():
        raise CorruptObjectError(f"{path.name} is missing or no file")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _listed(names: list[str]) -> str:
    more = len(names) - _PROBLEMS_NAMED
    return ", ".join(names[:_PROBLEMS_NAMED]) + (f" and {more} more" if more > 0 else "")
