"""Opening a store: new, older, newer, by four starters at once, and where it cannot be opened."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    SchemaMismatchError,
    StoreUnavailableError,
)
from fleet.reports import NodeDeclaration
from resources.control_store.database import Database
from resources.control_store.migrating import MIGRATIONS_DIR, migrate, schema_version
from resources.control_store.opening import open_control_store
from resources.control_store.schema import SCHEMA_VERSION
from resources.control_store.schema_columns import METADATA
from tests.fakes.clock import ManualClock
from tests.servers.postgres import PostgresServer

GOLDEN = Path(__file__).parent.parent / "golden"

NEXT_STEP = '''"""A step that this version does not know."""
import sqlalchemy as sa
from alembic import op

revision = "{new:04d}"
down_revision = "{old:04d}"


def upgrade() -> None:
    op.add_column("nodes", sa.Column("rack", sa.Text, nullable=True))
    op.execute("UPDATE nodes SET rack = 'unknown'")
    {then}
'''


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that holds nothing."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new/control.db"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.create_database(f"new_{abs(hash(tmp_path))}")


def database_of(url: str) -> Database:
    """The database behind an opened store, which the caller closes."""
    return open_control_store(url, clock=ManualClock())._database


def with_next_step(folder: Path, then: str = "") -> Path:
    """The migrations, and one more."""
    copy = folder / f"migrations{len(then)}"
    shutil.copytree(MIGRATIONS_DIR, copy)
    text = NEXT_STEP.format(new=SCHEMA_VERSION + 1, old=SCHEMA_VERSION, then=then)
    (copy / "versions" / "v_next.py").write_text(text)
    return copy


def columns_of_nodes(database: Database) -> set[str]:
    """Names of the columns of one table."""
    with database.read() as connection:
        return {column["name"] for column in sa.inspect(connection).get_columns("nodes")}


def test_the_migrations_end_at_the_schema_of_this_version(new_url: str) -> None:
    """Tables, columns, types, nullability and indexes are those of the modules of the schema."""
    database = database_of(new_url)
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
        assert schema_version(connection) == SCHEMA_VERSION
    database.close()


def test_there_is_one_migration_for_each_version() -> None:
    """The number in `schema.py` is that of the newest file."""
    files = sorted(path.name for path in (MIGRATIONS_DIR / "versions").glob("v*.py"))
    assert [int(name[1:5]) for name in files] == list(range(1, SCHEMA_VERSION + 1))


def test_an_older_store_is_brought_up_to_date_with_its_rows(new_url: str, tmp_path: Path) -> None:
    """A step changes the tables, and what they hold stays."""
    database = database_of(new_url)
    with database.write() as connection:
        connection.execute(
            METADATA.tables["nodes"].insert(),
            {
                c.name: 1 if isinstance(c.type, sa.BigInteger) else "x"
                for c in METADATA.tables["nodes"].c
            },
        )
    migrate(database, version=SCHEMA_VERSION + 1, migrations_dir=with_next_step(tmp_path))
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT node_id, rack FROM nodes").all() == [
            ("x", "unknown")
        ]
        assert schema_version(connection) == SCHEMA_VERSION + 1
    database.close()


def test_a_store_of_the_first_release_opens_with_everything_in_it(tmp_path: Path) -> None:
    """The golden dump is never changed: what version 1 wrote, every later version reads."""
    path = tmp_path / "control.db"
    with closing(sqlite3.connect(path)) as old:
        old.executescript((GOLDEN / "control_store_v1.sql").read_text())
    with closing(open_control_store(f"sqlite:///{path}", clock=ManualClock())) as store:
        with store._database.read() as connection:
            assert schema_version(connection) == SCHEMA_VERSION
        state = store.state("a")
        assert state is not None
        assert (state.version, state.body) == (2, b"two")
        assert [change.version for change in store.state_changes(0, 9)] == [1, 2]
        assert [(p.agent_id, p.epoch) for p in store.placements()] == [("a", 1)]
        assert [(r.agent_id, r.epoch, r.change_id) for r in store.placement_history(0, 9)] == [
            ("a", 1, 2),
            ("b", 1, 2),  # retired: its epoch goes on from here
        ]
        assert [(a.agent_id, a.pid) for a in store.agents()] == [("a", 7)]
        assert [node.cpu_percent for node in store.nodes()] == [1.5]
        assert [gpu.gpu_uuid for gpu in store.gpus()] == ["gpu-1"]
        lease = store.lease("node/node")
        assert lease is not None
        assert (lease.holder, lease.term) == ("boot", 1)
        assert [workload.function for workload in store.workloads()] == ["m:f"]
        assert [note.text for note in store.notes("net", "", 9)] == ["remember"]
        assert [activity.duration_s for activity in store.activities("a", 9)] == [0.5]
        assert [entry.reason for entry in store.journal("act")] == ["why"]


def test_a_newer_store_is_refused_with_both_versions(new_url: str, tmp_path: Path) -> None:
    """Nothing is changed in it, and the hint says what to do."""
    database = database_of(new_url)
    migrate(database, version=SCHEMA_VERSION + 1, migrations_dir=with_next_step(tmp_path))
    with pytest.raises(SchemaMismatchError) as caught:
        open_control_store(new_url, clock=ManualClock())
    assert f"version {SCHEMA_VERSION + 1}" in str(caught.value)
    assert f"up to {SCHEMA_VERSION}" in str(caught.value)
    assert "newer Stateroom" in caught.value.hint
    assert "rack" in columns_of_nodes(database)
    database.close()


def test_a_migration_that_fails_leaves_the_old_schema(new_url: str, tmp_path: Path) -> None:
    """DDL, rows and version are one transaction: the next start tries the whole step again."""
    database = database_of(new_url)
    broken = with_next_step(tmp_path, 'raise RuntimeError("power cut")')
    with pytest.raises(RuntimeError, match="power cut"):
        migrate(database, version=SCHEMA_VERSION + 1, migrations_dir=broken)
    assert "rack" not in columns_of_nodes(database)
    with database.read() as connection:
        assert schema_version(connection) == SCHEMA_VERSION
    migrate(database, version=SCHEMA_VERSION + 1, migrations_dir=with_next_step(tmp_path))
    assert "rack" in columns_of_nodes(database)
    database.close()


OPEN = """
import os, sys, traceback
from resources.control_store.opening import open_control_store
from tests.fakes.clock import ManualClock
go, hold = os.pipe()
starters = []
for _ in range(4):
    starter = os.fork()
    if not starter:
        os.close(hold)
        os.read(go, 1)  # ends when the parent lets go
        try:
            store = open_control_store(sys.argv[1], clock=ManualClock())
            store.ping()
            store.close()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    starters.append(starter)
os.close(hold)
sys.exit(sum(os.waitpid(one, 0)[1] != 0 for one in starters))
"""


def test_starters_at_the_same_moment_do_not_collide(
    new_url: str, start_python: Callable[..., subprocess.Popen[str]]
) -> None:
    """Four processes open a store that does not exist yet; one creates it, all can use it.

    Forked from one that has imported everything, so that they really come at the same moment.
    """
    starters = start_python(OPEN, new_url)
    _, errors = starters.communicate(timeout=60)
    assert starters.returncode == 0, errors
    database = database_of(new_url)
    with database.read() as connection:
        assert schema_version(connection) == SCHEMA_VERSION
    database.close()


def test_who_opens_a_new_file_waits_for_another_that_is_writing_to_it(tmp_path: Path) -> None:
    """Before a file is in WAL mode SQLite refuses at once, however long it was told to wait."""
    path = tmp_path / "control.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.1, other.rollback)
    release.start()
    open_control_store(f"sqlite:///{path}", clock=ManualClock()).close()
    release.join()
    other.close()


@pytest.mark.parametrize(
    "url",
    ["", "no url", "mysql://h/d", "sqlite://", "sqlite:///:memory:", "postgresql://user:pw@host"],
)
def test_a_url_of_no_known_kind_is_refused_without_its_password(url: str) -> None:
    """The error shows both forms that are understood."""
    with pytest.raises(InvalidInputError, match="sqlite:///<path> or postgresql://") as caught:
        open_control_store(url, clock=ManualClock())
    assert "pw" not in str(caught.value)


def test_a_server_that_is_not_there_is_unavailable_and_its_password_stays_secret() -> None:
    """Trying again later may help; the error names host and port only."""
    with pytest.raises(StoreUnavailableError) as caught:
        open_control_store("postgresql://me:secret@127.0.0.1:1/d", clock=ManualClock())
    assert "127.0.0.1" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_corrupt(tmp_path: Path) -> None:
    """It is left as it is."""
    path = tmp_path / "control.db"
    path.write_bytes(b"not a database at all" * 500)
    with pytest.raises(CorruptObjectError, match=r"control\.db"):
        open_control_store(f"sqlite:///{path}", clock=ManualClock())
    assert path.read_bytes() == b"not a database at all" * 500


def test_a_damaged_page_is_corrupt_and_not_a_crash(tmp_path: Path) -> None:
    """SQLite notices structure; what it does not notice, the digest of a state does."""
    path = tmp_path / "control.db"
    url = f"sqlite:///{path}"
    with closing(open_control_store(url, clock=ManualClock())) as store:
        store.declare_nodes([NodeDeclaration(f"node-{n}", "eu", "z", 1, 1) for n in range(2000)])
    content = bytearray(path.read_bytes())
    for start in range(4096 * 30, len(content), 4096):
        content[start : start + 200] = b"\xff" * 200
    path.write_bytes(content)
    with (
        pytest.raises(CorruptObjectError, match="malformed") as caught,
        closing(open_control_store(url, clock=ManualClock())) as store,
    ):
        store.nodes()
    assert "backup" in caught.value.hint


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailableError, match="file"):
        open_control_store(f"sqlite:///{tmp_path}/file/x/control.db", clock=ManualClock())
