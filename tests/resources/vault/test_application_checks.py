"""Every application check passes on a whole artefact and fails on a damaged one."""

from __future__ import annotations

import io
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import faiss
import lmdb
import numpy as np
import pytest
import zstandard

import resources.vault.verification.application_checks as checks_module
from fleet.agents import StatePut
from fleet.errors import CorruptObjectError, InvalidInputError
from fleet.lake import object_key
from fleet.reports import AgentDeclaration, NodeDeclaration
from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from resources.vault.verification.application_checks import ApplicationCheck, check_artefact
from resources.vault.verification.artefact_checks import CHECKS, PROBE_NEIGHBOURS
from tests.resources.state_writer import placement
from tests.resources.vectors.text_world import TextWorld, declaration_at
from tests.servers.empty_stores import sqlite_url


def make_sqlite(folder: Path) -> Path:
    """Two tables, one with a foreign key, over many pages."""
    path = folder / "notes.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table parents (id integer primary key)")
        connection.execute("create table notes (id integer, text, parent references parents)")
        connection.execute('create table "odd ""name" (x)')
        connection.execute("insert into parents values (1)")
        rows = [(number, "a note " * 20, 1) for number in range(500)]
        connection.executemany("insert into notes values (?, ?, ?)", rows)
        connection.commit()
    return path


def make_duckdb(folder: Path) -> Path:
    """Two schemas."""
    path = folder / "facts.duckdb"
    with closing(duckdb.connect(str(path))) as connection:
        connection.execute("create table facts as select range id, hash(range) h from range(50000)")
        connection.execute("create schema other; create table other.empty (x int)")
    return path


def make_faiss(folder: Path) -> Path:
    """A flat index."""
    path = folder / "notes.faiss"
    index = faiss.IndexFlatL2(16)
    index.add(np.random.default_rng(1).standard_normal((300, 16)).astype(np.float32))
    faiss.write_index(index, str(path))
    return path


def make_lmdb(folder: Path) -> Path:
    """A folder with the unnamed database, one named one, and a plain entry."""
    path = folder / "cache.lmdb"
    with lmdb.open(str(path), max_dbs=4, map_size=1 << 24) as environment:
        named = environment.open_db(b"named")
        with environment.begin(write=True) as transaction:
            transaction.put(b"plain", b"entry")
            for number in range(2000):
                transaction.put(b"%06d" % number, b"value" * 20, db=named)
    return path


def make_tar(folder: Path, mode: str = "w:gz") -> Path:
    """A folder and two files."""
    path = folder / "bundle.tar.gz"
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        archive.addfile(tarfile.TarInfo("folder/"))
        for name in ("a", "b"):
            data = np.random.default_rng(2).bytes(20_000)
            member = tarfile.TarInfo(f"folder/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def make_plain_tar(folder: Path) -> Path:
    """Without compression, so without a checksum of the contents."""
    return make_tar(folder, "w")


def make_lake(folder: Path) -> Path:
    """Two objects, a file that is none, and one in quarantine, which does not count."""
    import hashlib

    path = folder / "lake"
    for number in range(2):
        data = b"parquet" * (number + 1)
        at = datetime(2026, 11, 20, number, tzinfo=UTC)
        key = object_key("nodes", "eu", at, 3, hashlib.sha256(data).hexdigest())
        place = path / "objects" / key
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    (path / "objects" / "nodes" / "strange.parquet").write_bytes(b"x")
    return path


def make_control_store(folder: Path) -> Path:
    """Two agents, one with a state, on one node."""
    with closing(open_control_store(sqlite_url(folder), clock=SystemClock())) as store:
        store.declare_nodes([NodeDeclaration("n", "eu", "eu-a", 1, 1)])
        store.declare_agents([AgentDeclaration(one, "net", "w", "eu", 1, 1) for one in "ab"])
        store.place_agents([placement(one, 0) for one in "ab"])
        store.put_states([StatePut("a", 1, 0, b"state")])
    return folder / "control.db"


def make_vectors(folder: Path) -> Path:
    """One network's embeddings, in two batches, and their index."""
    world = TextWorld(declaration_at(folder, ("watch",)))
    world.remember("watch")
    world.remember("watch", ["The disk is idle."])
    world.build("watch")
    return Path(world.declaration.path)


MAKERS: dict[str, Callable[[Path], Path]] = {
    "sqlite": make_sqlite,
    "duckdb": make_duckdb,
    "faiss": make_faiss,
    "faiss_measured": make_faiss,
    "lmdb": make_lmdb,
    "tar": make_tar,
    "lake": make_lake,
    "vectors": make_vectors,
    "control_store": make_control_store,
}

NUMBERS: dict[str, dict[str, Any]] = {
    "sqlite": {"rows.notes": 500, "rows.parents": 1, 'rows.odd "name': 0},
    "duckdb": {"rows.main.facts": 50_000, "rows.other.empty": 0},
    "faiss": {"ntotal": 300, "dimensions": 16},
    "faiss_measured": {"kind": "IndexFlatL2", "metric": "l2", "recall": 1.0},
    "lmdb": {"entries": 2, "entries.named": 2000},
    "tar": {"members": 3, "size_bytes": 40_000},
    "lake": {"objects": 2, "rows": 6, "size_bytes": 21},
    "vectors": {"networks": 1, "indexes": 1, "notes": 5, "batches": 2},
    "control_store": {"agents": 2, "nodes": 1, "states": 1},
}


HARMLESS = {"sqlite", "tar", "lake"}
"""Kinds whose readers raise and never crash: their damage tests need no process of their own."""


def names_below(folder: Path) -> list[Path]:
    """Everything there is."""
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize("kind", sorted(CHECKS))
def test_a_whole_artefact_passes_is_counted_and_stays_as_it_is(kind: str, tmp_path: Path) -> None:
    """Also against the numbers of its original, and nothing is left beside it."""
    path = MAKERS[kind](tmp_path)
    before = {one: one.read_bytes() for one in names_below(tmp_path) if one.is_file()}
    first = check_artefact(kind, path, name="notes")
    assert (first.passed, first.name) == (True, f"{kind} notes"), first.reason
    assert {key: first.numbers[key] for key in NUMBERS[kind]} == NUMBERS[kind]
    # how fast it is differs from time to time
    recorded = NUMBERS[kind] if kind == "faiss_measured" else first.numbers
    again = check_artefact(kind, path, recorded=recorded)
    assert again.passed, again.reason
    assert {one: one.read_bytes() for one in names_below(tmp_path) if one.is_file()} == before


def flip(path: Path, at: float, length: int = 1) -> None:
    """Invert bytes at a share of a file."""
    data = bytearray(path.read_bytes())
    start = min(int(len(data) * at), len(data) - length)
    data[start : start + length] = bytes(255 - one for one in data[start : start + length])
    path.write_bytes(data)


def truncate(path: Path, share: float) -> None:
    """Keep a share of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def one_of(path: Path) -> Path:
    """The file itself, or the largest one below a folder that is no lock."""
    if path.is_file():
        return path
    files = [one for one in path.rglob("*") if one.is_file() and one.name != "lock.mdb"]
    return max(files, key=lambda one: one.stat().st_size)


def statement(text: str) -> Callable[[Path], None]:
    """Damage that is valid SQL."""

    def damage(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(text)
            connection.commit()

    return damage


DAMAGES: list[tuple[str, str, Callable[[Path], None]]] = [
    ("sqlite", "a flipped page", lambda path: flip(path, 0.5, 4096)),
    ("sqlite", "a flipped header", lambda path: flip(path, 0, 16)),
    ("sqlite", "half of it", lambda path: truncate(path, 0.5)),
    ("sqlite", "nothing of it", lambda path: path.unlink()),
    ("sqlite", "an orphan", statement("insert into notes values (9, '', 77)")),
    ("duckdb", "a flipped header", lambda path: flip(path, 0, 32)),
    ("duckdb", "one flipped byte of data", lambda path: flip(path, 0.5)),
    ("duckdb", "half of it", lambda path: truncate(path, 0.5)),
    ("duckdb", "nothing of it", lambda path: path.unlink()),
    ("faiss", "half of it", lambda path: truncate(path, 0.5)),
    ("faiss", "all but a byte", lambda path: truncate(path, 0.9999)),
    ("faiss", "a flipped header", lambda path: flip(path, 0, 4)),
    ("faiss", "an absurd length", lambda path: flip(path, 0.001, 40)),
    ("faiss", "nothing of it", lambda path: path.unlink()),
    ("lmdb", "half of it", lambda path: truncate(path / "data.mdb", 0.5)),
    ("lmdb", "flipped meta pages", lambda path: flip(path / "data.mdb", 0, 8192)),
    ("lmdb", "flipped pages", lambda path: flip(path / "data.mdb", 0.3, 65536)),
    ("lmdb", "nothing of it", lambda path: (path / "data.mdb").unlink()),
    ("tar", "half of it", lambda path: truncate(path, 0.5)),
    ("tar", "one flipped byte", lambda path: flip(path, 0.5)),
    ("tar", "nothing in it", lambda path: path.write_bytes(b"")),
    ("vectors", "one flipped byte", lambda path: flip(one_of(path), 0.5)),
    ("vectors", "no embeddings", lambda path: shutil.rmtree(path / "embeddings")),
    ("lake", "one flipped byte", lambda path: flip(one_of(path), 0.5)),
    ("lake", "nothing of it", lambda path: path.rename(path.with_name("away"))),
    ("control_store", "a flipped page", lambda path: flip(path, 0.5, 4096)),
    (
        "control_store",
        "a damaged state",
        statement("update agent_states set body = x'00'"),
    ),
    (
        "control_store",
        "a schema of the future",
        statement("update alembic_version set version_num = '9999'"),
    ),
    ("control_store", "a missing table", statement("drop table nodes")),
]


@pytest.mark.parametrize(
    ("kind", "damage"),
    [pytest.param(kind, work, id=f"{kind}-{name}") for kind, name, work in DAMAGES],
)
def test_a_damaged_artefact_fails_with_a_reason(
    kind: str, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    """Whatever the library does about it: error, crash, endless allocation."""
    path = MAKERS[kind](tmp_path)
    damage(path)
    if kind in HARMLESS:
        with pytest.raises(CorruptObjectError):
            CHECKS[kind](path)
        return
    found = check_artefact(kind, path)
    assert not found.passed
    assert found.reason
    # A defect of the check itself must not pass for a finding.
    assert "the check ended with code" not in found.reason
    assert found.numbers == {}


def test_a_plain_tar_that_was_cut_short_fails(tmp_path: Path) -> None:
    """In the middle of a member; its contents have no checksum of their own."""
    path = make_plain_tar(tmp_path)
    truncate(path, 0.6)
    with pytest.raises(CorruptObjectError, match="tar:"):
        CHECKS["tar"](path)


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz", "zst"])
def test_tarballs_of_every_compression_are_read_to_their_end(
    compression: str, tmp_path: Path
) -> None:
    """Whole they pass; one flipped byte of the compressed contents fails wherever it stands."""
    path = make_tar(tmp_path, f"w:{compression}" if compression in {"gz", "bz2", "xz"} else "w")
    if compression == "zst":
        compressor = zstandard.ZstdCompressor(write_checksum=True)
        path.write_bytes(compressor.compress(path.read_bytes()))
    found = check_artefact("tar", path)
    assert found.passed, found.reason
    assert (found.numbers["members"], found.numbers["size_bytes"]) == (3, 40_000)
    whole = path.read_bytes()
    for at in (0.3, 0.6) if compression else ():
        path.write_bytes(whole)
        flip(path, at)
        with pytest.raises(CorruptObjectError):
            CHECKS["tar"](path)


RECORDED: list[tuple[str, str, Any]] = [
    ("sqlite", "rows.notes", 501),
    ("sqlite", "rows.gone", 1),
    ("faiss", "probe_ids", list(range(PROBE_NEIGHBOURS))),
    ("faiss", "probe_distances", [0.5] * PROBE_NEIGHBOURS),
    ("faiss", "probe_distances", [1.0]),
    ("tar", "members", 4),
]


@pytest.mark.parametrize(("kind", "number", "value"), RECORDED)
def test_numbers_that_differ_from_the_originals_fail(
    kind: str, number: str, value: Any, tmp_path: Path
) -> None:
    """A whole file that is not the one which was backed up; the numbers found are shown."""
    found = check_artefact(kind, MAKERS[kind](tmp_path), recorded={number: value})
    assert not found.passed
    assert found.reason.startswith(f"{number} is ")
    assert found.numbers


def test_the_last_bits_of_a_distance_do_not_matter(tmp_path: Path) -> None:
    """Another processor adds in another order; another index differs by more."""
    path = make_faiss(tmp_path)
    distances = check_artefact("faiss", path).numbers["probe_distances"]
    near = [one * (1 + 1e-6) for one in distances]
    far = [one * (1 + 1e-3) for one in distances]
    assert check_artefact("faiss", path, recorded={"probe_distances": near}).passed
    assert not check_artefact("faiss", path, recorded={"probe_distances": far}).passed


def test_a_check_that_hangs_is_killed(tmp_path: Path) -> None:
    """And counts as failed."""
    path = make_sqlite(tmp_path)
    found = check_artefact("sqlite", path, timeout_s=0.001)
    assert not found.passed
    assert "took longer than 0.001 s" in found.reason


def test_a_check_that_crashes_or_says_nothing_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that dies by a signal, and one that cannot even begin."""
    crash = "import ctypes; ctypes.string_at(0)"
    for code, said in ((crash, "SIGSEGV"), ("raise SystemExit('no such module')", "code 1")):
        program = tmp_path / "python"
        program.write_text(f'#!/bin/sh\nexec {checks_module.sys.executable} -c "{code}"\n')
        program.chmod(0o700)
        with monkeypatch.context() as patch:
            patch.setattr(checks_module.sys, "executable", str(program))
            found: ApplicationCheck = check_artefact("sqlite", tmp_path / "x")
        assert not found.passed
        assert said in found.reason


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    """The message lists the known ones."""
    with pytest.raises(InvalidInputError, match="control_store, duckdb, faiss"):
        check_artefact("word document", tmp_path)
