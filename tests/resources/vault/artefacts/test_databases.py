"""Databases: a copy is one transaction's view, whatever real writers do meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import lmdb
import numpy as np
import pytest

from fleet.agents import StatePut
from fleet.errors import StoreUnavailableError
from fleet.reports import AgentDeclaration
from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from resources.vault.artefacts import postgres
from resources.vault.verification import postgres_checks
from resources.vault.verification.application_checks import check_artefact
from tests.fakes.artefact_vault import ArtefactVault, outcome, tree
from tests.resources.state_writer import placement
from tests.resources.vault.artefacts.conftest import Running
from tests.servers.postgres import postgres_bin_dir, running_postgres

TRANSFERS = """
import random, sqlite3, sys
live = sqlite3.connect({path!r}, timeout=60, isolation_level=None)
live.execute("PRAGMA synchronous=OFF")
for number in range(10**9):
    amount = random.randrange(1, 50)
    live.execute("BEGIN IMMEDIATE")
    live.execute("UPDATE here SET amount = amount - ? WHERE id = ?", (amount, number % 500))
    live.execute("UPDATE there SET amount = amount + ? WHERE id = ?", (amount, number % 500))
    live.execute("COMMIT")
    if number == 5:
        print("ready", flush=True)
"""


def make_accounts(path: Path, mode: str) -> int:
    """Two tables whose sum never changes; that sum."""
    with closing(sqlite3.connect(path, isolation_level=None)) as live:
        live.execute(f"PRAGMA journal_mode={mode}")
        for name in ("here", "there"):
            live.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, amount INTEGER, pad TEXT)")
            rows = ((number, 1000, "x" * 300) for number in range(500))
            live.executemany(f"INSERT INTO {name} VALUES (?, ?, ?)", rows)
    return 1_000_000


def total_of(path: Path) -> int:
    """The sum, once the database has proven itself whole."""
    with closing(sqlite3.connect(path)) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        query = "SELECT (SELECT sum(amount) FROM here) + (SELECT sum(amount) FROM there)"
        return int(copy.execute(query).fetchone()[0])


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_sqlite_copy_under_a_hammering_writer_is_one_transaction(
    vault: ArtefactVault, running: Running, mode: str
) -> None:
    """Five backups while money moves between two tables: no restore shows any on the way."""
    path = vault.root / "facts.db"
    expected = make_accounts(path, mode)
    vault.declare("facts", path)
    with running(TRANSFERS.format(path=str(path))):
        results = [vault.back_up() for _ in range(5)]
    assert [one.incomplete for one in results] == [()] * 5
    for one in results:
        assert outcome(one, "facts").about["journal_mode"] == mode
        assert total_of(vault.restore("facts", one.snapshot_id)) == expected
    assert list(vault.staging.iterdir()) == []


def test_what_stands_in_the_wal_only_is_in_the_copy_and_the_live_files_stay(
    vault: ArtefactVault,
) -> None:
    """Neither is the WAL checkpointed, nor any byte of the database changed."""
    path = vault.root / "facts.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as live:
        live.execute("PRAGMA journal_mode=wal")
        live.execute("CREATE TABLE t (a)")
        live.executemany("INSERT INTO t VALUES (?)", ((n,) for n in range(100)))
        before = {name: Path(f"{path}{name}").read_bytes() for name in ("", "-wal")}
        assert len(before["-wal"]) > len(before[""])
        vault.declare("facts", path)
        vault.back_up()
        assert {name: Path(f"{path}{name}").read_bytes() for name in before} == before
        with closing(sqlite3.connect(vault.restore("facts"))) as copy:
            assert copy.execute("SELECT count(*) FROM t").fetchone() == (100,)


def test_an_unchanged_sqlite_database_is_not_copied(vault: ArtefactVault) -> None:
    """Also while another connection holds its WAL; one more commit is found."""
    path = vault.root / "facts.db"
    make_accounts(path, "wal")
    vault.declare("facts", path)
    with closing(sqlite3.connect(path)) as live:
        live.execute("SELECT * FROM here").fetchall()
        first = vault.back_up()
        assert outcome(vault.back_up(), "facts").files_read == 0
        live.execute("DELETE FROM here WHERE id = 7")
        live.commit()
        last = vault.back_up()
    assert outcome(last, "facts").files_read == 1
    cut = vault.vault()
    cut.log.refresh()
    entry = cut.snapshot(last.snapshot_id).extra["cut"]["artefacts"]["facts"]
    assert entry["about"]["page_size"] == 4096
    assert total_of(vault.restore("facts", first.snapshot_id)) == 1_000_000
    assert total_of(vault.restore("facts")) == 999_000


def test_a_sqlite_database_that_stays_locked_is_named_in_time(
    vault: ArtefactVault, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held exclusively by another process: an error, not a wait for ever."""
    monkeypatch.setattr("resources.vault.artefacts.sqlite._BUSY_TIMEOUT_S", 0.1)
    monkeypatch.setattr("resources.vault.artefacts.sqlite._STEP_S", 0.1)
    path = vault.root / "facts.db"
    make_accounts(path, "delete")
    vault.declare("facts", path)
    vault.back_up()
    script = f"""
import sqlite3, time
live = sqlite3.connect({str(path)!r}, isolation_level=None)
live.execute("BEGIN EXCLUSIVE")
print("ready", flush=True)
time.sleep(600)
"""
    with running(script):
        error = dict(vault.back_up(full=True).incomplete)["facts"]
    assert "locked" in error
    assert str(path) in error
    assert total_of(vault.restore("facts")) == 1_000_000


@pytest.mark.parametrize("kind", ["auto", "sqlite"])
def test_a_backup_keeps_the_locks_that_this_process_holds(vault: ArtefactVault, kind: str) -> None:
    """Another process still cannot write: no handle of the database was closed by plain `close`."""
    path = vault.root / "facts.db"
    make_accounts(path, "wal")
    vault.declare("facts", path, kind)
    with closing(sqlite3.connect(path, isolation_level=None)) as live:
        live.execute("BEGIN IMMEDIATE")
        assert vault.back_up().incomplete == ()
        script = f"import sqlite3; sqlite3.connect({str(path)!r}, 0).execute('BEGIN IMMEDIATE')"
        tried = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
        assert b"database is locked" in tried.stderr
        live.execute("ROLLBACK")


def test_a_damaged_database_is_named_and_its_last_good_copy_stays(vault: ArtefactVault) -> None:
    """Overwritten by garbage; the restore gives what was good."""
    path = vault.root / "facts.db"
    make_accounts(path, "delete")
    vault.declare("facts", path, "sqlite")
    vault.back_up()
    path.write_bytes(b"garbage" * 5000)
    ((name, error),) = vault.back_up().incomplete
    assert name == "facts"
    assert "not a database" in error
    assert total_of(vault.restore("facts")) == 1_000_000


def test_a_restore_over_a_live_database_takes_its_wal_away(vault: ArtefactVault) -> None:
    """A WAL of the old database would be replayed into the new one."""
    path = vault.root / "facts.db"
    expected = make_accounts(path, "wal")
    vault.declare("facts", path)
    vault.back_up()
    script = f"""
import os, sqlite3
live = sqlite3.connect({str(path)!r}, isolation_level=None)
live.execute("UPDATE here SET amount = 0")
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert Path(f"{path}-wal").stat().st_size > 0
    vault.restore_over("facts", path)
    assert total_of(path) == expected
    assert [one.name for one in path.parent.iterdir() if "restore" in one.name] == []


def make_duckdb(path: Path, rows: int = 200_000) -> None:
    """A table of so many rows."""
    with duckdb.connect(str(path)) as live:
        live.execute(f"CREATE TABLE t AS SELECT range AS a, random() AS b FROM range({rows})")


def sum_of(path: Path) -> Any:
    """What a DuckDB file holds."""
    with duckdb.connect(str(path), read_only=True) as copy:
        return copy.execute("SELECT count(*), sum(a) FROM t").fetchall()[0]


def test_a_duckdb_file_comes_back_and_opens(vault: ArtefactVault) -> None:
    """Cut along its own blocks, so that an update stores little."""
    path = vault.root / "patterns.db"
    make_duckdb(path, 1_000_000)
    vault.declare("patterns", path)
    first = vault.back_up()
    assert outcome(first, "patterns").kind == "duckdb"
    assert outcome(vault.back_up(), "patterns").files_read == 0
    with duckdb.connect(str(path)) as live:
        live.execute("UPDATE t SET b = 0 WHERE a < 1000")
    second = vault.back_up()
    assert first.bytes_stored > 5_000_000
    assert second.bytes_stored < first.bytes_stored / 2
    assert sum_of(vault.restore("patterns")) == sum_of(path)


def test_what_a_killed_duckdb_writer_left_in_the_wal_is_in_the_copy(vault: ArtefactVault) -> None:
    """Committed, not yet checkpointed: folded into the copy; the live files stay as they are."""
    path = vault.root / "patterns.db"
    make_duckdb(path)
    script = f"""
import duckdb, os
live = duckdb.connect({str(path)!r})
live.execute("INSERT INTO t VALUES (1000000, 0)")
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    before = path.read_bytes(), Path(f"{path}.wal").read_bytes()
    vault.declare("patterns", path)
    assert outcome(vault.back_up(), "patterns").about["wal_folded"]
    assert (path.read_bytes(), Path(f"{path}.wal").read_bytes()) == before
    assert sum_of(vault.restore("patterns"))[0] == 200_001


def test_a_duckdb_file_that_another_process_writes_is_named_with_the_next_step(
    vault: ArtefactVault, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last good copy stays; when the writer is gone it is backed up again."""
    monkeypatch.setattr("resources.vault.artefacts.duckdb._PAUSE_S", 0.01)
    path = vault.root / "patterns.db"
    make_duckdb(path)
    vault.declare("patterns", path)
    vault.back_up()
    script = f"""
import duckdb, time
live = duckdb.connect({str(path)!r})
live.execute("INSERT INTO t VALUES (1000000, 0)")
print("ready", flush=True)
time.sleep(600)
"""
    with running(script):
        ((name, error),) = vault.back_up().incomplete
    assert name == "patterns"
    assert str(path) in error
    assert "another process" in error
    assert sum_of(vault.restore("patterns"))[0] == 200_000
    assert vault.back_up().incomplete == ()
    assert sum_of(vault.restore("patterns"))[0] == 200_001


def test_a_duckdb_file_that_this_process_writes_is_copied_in_a_transaction(
    vault: ArtefactVault,
) -> None:
    """And goes on being locked by this process."""
    path = vault.root / "patterns.db"
    with duckdb.connect(str(path)) as live:
        live.execute("CREATE TABLE t AS SELECT range AS a FROM range(1000)")
        vault.declare("patterns", path)
        result = vault.back_up()
        assert outcome(result, "patterns").about["by"] == "COPY FROM DATABASE"
        script = f"import duckdb; duckdb.connect({str(path)!r}, read_only=True)"
        tried = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
        assert b"lock" in tried.stderr
        live.execute("INSERT INTO t VALUES (5)")
    assert sum_of(vault.restore("patterns"))[0] == 1000


LMDB_TRANSFERS = """
import lmdb, random
env = lmdb.open({path!r}, map_size=1 << 28, sync=False)
for number in range(10**9):
    with env.begin(write=True) as change:
        amount = random.randrange(1, 50)
        for side, sign in ((b"here", -1), (b"there", 1)):
            key = side + b"%d" % (number % 500)
            change.put(key, b"%d" % (int(change.get(key, b"1000")) + sign * amount))
    if number == 600:
        print("ready", flush=True)
"""


def test_an_lmdb_copy_under_a_hammering_writer_is_one_transaction(
    vault: ArtefactVault, running: Running
) -> None:
    """Three backups of a folder that a real process writes to."""
    path = vault.root / "embeddings"
    vault.declare("embeddings", path)
    with running(LMDB_TRANSFERS.format(path=str(path))):
        results = [vault.back_up() for _ in range(3)]
    txnids = [outcome(one, "embeddings").about["txnid"] for one in results]
    assert txnids == sorted(set(txnids))
    for one in results:
        assert outcome(one, "embeddings").kind == "lmdb"
        copy = vault.restore("embeddings", one.snapshot_id)
        with lmdb.open(str(copy)) as env, env.begin() as view:
            amounts = [int(value) for _, value in view.cursor()]
        assert len(amounts) == 1000
        assert sum(amounts) == 1_000_000


def test_an_lmdb_environment_that_this_process_holds_open_is_copied(vault: ArtefactVault) -> None:
    """As one file; unchanged it is not copied again, and one commit is found."""
    path = vault.root / "vectors.lmdb"
    vault.declare("vectors", path)
    with lmdb.open(str(path), subdir=False, map_size=1 << 20) as env:
        with env.begin(write=True) as change:
            change.put(b"a", b"1")
        vault.back_up()
        assert outcome(vault.back_up(), "vectors").files_read == 0
        with env.begin(write=True) as change:
            change.put(b"b", b"2")
        assert outcome(vault.back_up(), "vectors").files_read == 1
    with lmdb.open(str(vault.restore("vectors")), subdir=False) as copy, copy.begin() as view:
        assert dict(view.cursor()) == {b"a": b"1", b"b": b"2"}


def test_an_index_is_read_by_faiss_again(vault: ArtefactVault) -> None:
    """With the answers that it gave before; recognised by its first bytes."""
    import faiss

    vectors = np.random.default_rng(1).random((3000, 64), dtype=np.float32)
    index = faiss.IndexFlatL2(64)
    index.add(vectors)
    path = vault.root / "build-7.faiss"
    faiss.write_index(index, str(path))
    vault.declare("index", path)
    result = vault.back_up()
    assert (outcome(result, "index").kind, outcome(result, "index").about) == (
        "faiss",
        {"build": "build-7.faiss"},
    )
    copy = faiss.read_index(str(vault.restore("index")))
    assert copy.ntotal == 3000
    assert (copy.search(vectors[:5], 3)[1] == index.search(vectors[:5], 3)[1]).all()


def test_a_control_store_in_sqlite_is_copied_like_any_other(vault: ArtefactVault) -> None:
    """By the kind that the platform declares for it."""
    path = vault.root / "control.db"
    expected = make_accounts(path, "wal")
    vault.declare("control", path, "control_store")
    vault.back_up()
    assert total_of(vault.restore("control")) == expected


@pytest.fixture
def stored_states(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a control store with two states on a server of its own, its programs at hand."""
    bin_dir = postgres_bin_dir()
    if bin_dir is None or not (bin_dir / "pg_basebackup").exists():
        pytest.skip("no PostgreSQL with pg_basebackup")
    monkeypatch.setenv("PATH", f"{bin_dir}:{os.environ['PATH']}")
    with running_postgres() as server:
        url = server.create_database("to_back_up")
        with closing(open_control_store(url, clock=SystemClock())) as store:
            names = ("a", "b")
            store.declare_agents([AgentDeclaration(one, "net", "w", "eu", 1, 1) for one in names])
            store.place_agents([placement(one, 0) for one in names])
            puts = store.put_states([StatePut(one, 1, 0, one.encode() * 9_000) for one in names])
            assert [one.error for one in puts] == [None, None]
        yield url


@pytest.mark.postgres
def test_a_control_store_in_postgresql_is_copied_by_its_own_tool_and_recovers(
    vault: ArtefactVault, stored_states: str
) -> None:
    """Label, LSN and timeline stand in the cut; the restored cluster opens, with every state."""
    vault.declare("control", stored_states, "control_store")
    result = vault.back_up()
    assert result.incomplete == ()
    about = outcome(result, "control").about
    assert about["by"] == "pg_basebackup"
    assert about["timeline"] == "1"
    assert "/" in about["lsn"]
    restored = vault.restore("control")
    assert list(vault.staging.iterdir()) == []
    before = tree(restored)
    found = check_artefact("control_store", restored)
    assert found.passed, found.reason
    assert [found.numbers[name] for name in ("databases", "agents", "states")] == [1, 2, 2]
    assert found.numbers.get("indexes", 1000) > 100
    assert tree(restored) == before


@pytest.mark.long
@pytest.mark.postgres
def test_a_restored_cluster_that_is_damaged_fails_its_check(
    vault: ArtefactVault, stored_states: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bit of a file; a file that is gone; a state that was damaged while it was live."""
    import psycopg2

    vault.declare("control", stored_states, "control_store")
    vault.back_up()
    restored = vault.restore("control")
    (restored / "backup_manifest").unlink()
    (restored / "global" / "pg_control").unlink()
    assert "pg_control" in check_artefact("control_store", restored).reason
    restored = vault.restore("control")
    largest = max(restored.glob("base/*/*"), key=lambda one: one.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    found = check_artefact("control_store", restored)
    assert (found.passed, largest.name in found.reason) == (False, True), found.reason
    with closing(psycopg2.connect(stored_states)) as live, live, live.cursor() as cursor:
        cursor.execute("UPDATE agent_states SET body = 'x' WHERE agent_id = 'a'")
    vault.back_up()
    restored = vault.restore("control")
    reason = check_artefact("control_store", restored).reason
    assert reason == "control store: 1 of 2 states in to_back_up are damaged"
    monkeypatch.setenv("PATH", "/nowhere")
    (restored / "PG_VERSION").write_text("9\n")
    assert "PostgreSQL 9 is not installed here" in check_artefact("control_store", restored).reason


def test_without_its_tools_postgresql_is_named_with_both(
    vault: ArtefactVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other artefacts are stored."""
    (vault.root / "file").write_bytes(b"x")
    vault.declare("file", vault.root / "file", "files")
    vault.declare("control", "postgresql://u:secret@127.0.0.1:1/db", "control_store")
    monkeypatch.setenv("PATH", "")
    ((name, error),) = vault.back_up().incomplete
    assert name == "control"
    assert "pgbackrest" in error
    assert "pg_basebackup" in error
    assert (vault.restore("file")).read_bytes() == b"x"


def test_tablespaces_are_refused_as_their_files_lie_outside_of_the_copy(
    vault: ArtefactVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the backup, and by the check of a restored cluster, which would follow the links."""
    tools, outside = vault.root / "tools", vault.root / "outside"
    tools.mkdir()
    outside.mkdir()
    program = tools / "pg_basebackup"
    program.write_text(
        f'#!/bin/sh\nfor last; do :; done\nmkdir -p "$last/pg_tblspc"\n'
        f'ln -s {outside} "$last/pg_tblspc/16385"\necho 15 > "$last/PG_VERSION"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    vault.declare("control", "postgresql://u@127.0.0.1:1/db", "control_store")
    with pytest.raises(StoreUnavailableError, match=r"tablespaces \(16385\)"):
        vault.back_up()
    subprocess.run([program, vault.root / "restored"], check=True)
    reason = check_artefact("control_store", vault.root / "restored").reason
    assert "its tablespaces 16385 are not in the backup" in reason


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_a_link_of_a_cluster_points_to_keeps_its_owner(tmp_path: Path) -> None:
    """A certificate, say; and a link to nothing is no fault."""
    outside, cluster = tmp_path / "server.key", tmp_path / "cluster"
    outside.write_bytes(b"secret")
    cluster.mkdir()
    (cluster / "server.key").symlink_to(outside)
    (cluster / "gone").symlink_to(tmp_path / "nothing")
    (cluster / "PG_VERSION").write_bytes(b"15")
    postgres_checks._give_away(cluster)
    assert outside.stat().st_uid == 0
    assert (cluster / "PG_VERSION").stat().st_uid != 0


def test_pgbackrest_keeps_the_data_and_its_label_is_recorded(
    vault: ArtefactVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program of that name that answers as pgBackRest 2.59 does."""
    newest = {
        "label": "20261120-140000F",
        "lsn": {"start": "0/2000028", "stop": "0/2000100"},
        "archive": {"start": "000000020000000000000002", "stop": "000000020000000000000002"},
    }
    tools = vault.root / "tools"
    tools.mkdir()
    program = tools / "pgbackrest"
    info = json.dumps([{"name": "main", "backup": [newest]}])
    program.write_text(f"#!/bin/sh\ncase \"$*\" in\n*main*info) echo '{info}';;\nesac\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    vault.declare("control", "postgresql://u@127.0.0.1:1/db", "control_store", stanza="main")
    result = vault.back_up()
    assert outcome(result, "control").about == {
        "by": "pgbackrest",
        "label": "20261120-140000F",
        "lsn": "0/2000100",
        "timeline": 2,
    }
    assert json.loads(vault.restore("control").read_bytes()) == newest | {"stanza": "main"}


@pytest.mark.long
@pytest.mark.postgres
@pytest.mark.skipif(shutil.which("pgbackrest") is None, reason="pgbackrest is not installed")
@pytest.mark.skipif(postgres_bin_dir() is None, reason="no PostgreSQL binaries")
def test_the_real_pgbackrest_backs_a_server_up_and_its_label_is_recorded(
    vault: ArtefactVault, reachable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Label and LSN are those that it reports itself; the restore test asks it for that backup."""
    import psycopg2

    options = ("-k", str(reachable), "-c", "archive_mode=on", "-c", "archive_command=/bin/true")
    with running_postgres(options=options) as server:
        with closing(psycopg2.connect(server.url("postgres"))) as live, live.cursor() as cursor:
            cursor.execute("SHOW data_directory")
            ((data,),) = cursor.fetchall()
        for name, value in {
            "PG1_PATH": data,
            "PG1_PORT": str(server.port),
            "PG1_USER": "stateroom",
            "PG1_SOCKET_PATH": str(reachable),
            "REPO1_PATH": str(reachable / "repository"),
            "LOG_PATH": str(reachable),
            "LOCK_PATH": str(reachable),
            "ARCHIVE_CHECK": "n",
        }.items():
            monkeypatch.setenv(f"PGBACKREST_{name}", value)
        command = ["pgbackrest", "--stanza=main"]
        subprocess.run([*command, "stanza-create"], check=True, capture_output=True)
        vault.declare("control", server.url("postgres"), "control_store", stanza="main")
        result = vault.back_up()
        assert result.incomplete == ()
        told = subprocess.run(
            [*command, "--output=json", "info"], check=True, capture_output=True
        ).stdout
        newest = json.loads(told)[0]["backup"][-1]
        about = outcome(result, "control").about
        assert (about["label"], about["lsn"]) == (newest["label"], newest["lsn"]["stop"])
        found = check_artefact("control_store", vault.restore("control"))
        assert found.passed, found.reason
        assert found.numbers["backups"] == 1


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that the server's user can reach and write to, whoever runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix="stateroom-pg-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def test_a_password_is_handed_on_where_no_list_of_processes_shows_it() -> None:
    """By the environment; quoting undone."""
    options, secret = postgres.connection_arguments("postgresql+psycopg2://me:p%40ss@db:6000/x")
    assert options == ["--host=db", "--port=6000", "--username=me"]
    assert secret == {"PGPASSWORD": "p@ss"}


def test_a_service_is_covered_by_a_few_lines(vault: ArtefactVault) -> None:
    """facts.db, patterns.db, an embeddings index and a folder of models: four names and paths."""
    import faiss

    service = vault.root / "service"
    (service / "models" / "v1").mkdir(parents=True)
    (service / "models" / "v1" / "weights.bin").write_bytes(b"w" * 100_000)
    make_accounts(service / "facts.db", "wal")
    make_duckdb(service / "patterns.db")
    faiss.write_index(faiss.IndexFlatL2(8), str(service / "embeddings.index"))
    for name in ("facts.db", "patterns.db", "embeddings.index", "models"):
        vault.declare(name, service / name)
    result = vault.back_up()
    assert result.incomplete == ()
    assert {one.name: one.kind for one in result.artefacts} == {
        "facts.db": "sqlite",
        "patterns.db": "duckdb",
        "embeddings.index": "faiss",
        "models": "files",
    }
    assert total_of(vault.restore("facts.db")) == 1_000_000
    assert sum_of(vault.restore("patterns.db"))[0] == 200_000
    assert faiss.read_index(str(vault.restore("embeddings.index"))).d == 8
    assert tree(vault.restore("models")) == tree(service / "models")
