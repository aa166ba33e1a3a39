"""SQL of a user can answer questions, and do nothing else."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from fleet.errors import InvalidInputError, TooLargeError
from resources.lake.directory_store import DirectoryStore
from resources.lake.parquet_lake import ParquetLake
from resources.lake.query import QueryLimits, named_views

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def lake(tmp_path: Path) -> ParquetLake:
    """Two ticks of one table; beside the lake lies a secret."""
    (tmp_path / "secret.csv").write_text("password\nhunter2\n")
    made = ParquetLake(DirectoryStore(tmp_path / "lake"))
    for n in range(2):
        made.write("nodes", "eu", pa.table({"value": [n]}), NOON + n * MINUTE)
    return made


ATTACKS = [
    "SELECT * FROM '{root}/secret.csv'",
    "SELECT * FROM read_csv('{root}/secret.csv')",
    "SELECT * FROM read_text('{root}/secret.csv')",
    "SELECT * FROM read_blob('{root}/secret.csv')",
    "SELECT * FROM glob('{root}/*')",
    "SELECT * FROM parquet_metadata('{object}')",
    "SELECT * FROM read_parquet('{object}')",
    "SELECT * FROM query('SELECT * FROM read_text(''{root}/secret.csv'')')",
    "SELECT * FROM nodes WHERE value IN (SELECT 1 FROM read_text('{root}/secret.csv'))",
    "COPY nodes TO '{root}/out.parquet'",
    "COPY (SELECT 1) TO '{object}' (USE_TMP_FILE false)",
    "WITH x AS (COPY (SELECT 1) TO '{root}/out.parquet' (USE_TMP_FILE false)) SELECT * FROM nodes",
    "WITH x AS (COPY (SELECT 1) TO '{object}' (USE_TMP_FILE false)) SELECT * FROM x",
    "WITH x AS (INSERT INTO nodes VALUES (1)) SELECT 1",
    "ATTACH '{root}/out.db'",
    "ATTACH '{root}/out.db'; SELECT 1",
    "SELECT 1; COPY nodes TO '{root}/out.parquet'",
    "CREATE TABLE t AS SELECT 1",
    "CREATE VIEW v AS SELECT 1",
    "DROP VIEW nodes",
    "DELETE FROM nodes",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "RESET enable_external_access",
    "PRAGMA database_list",
    "CALL pragma_version()",
    "EXPORT DATABASE '{root}/out'",
    "IMPORT DATABASE '{root}'",
    "VACUUM",
    "CHECKPOINT",
    "PREPARE p AS SELECT 1",
    "USE memory",
    "EXPLAIN ANALYZE SELECT 1",
    "SELECT * FROM enable_logging(storage = 'file')",
    "SELECT * FROM enable_profiling(save_location = '{root}/out.json')",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM rows",
    "SELECT * FROM lake",
    "SELECT * FROM pa",
]


def written(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """Size, time of writing and inode of everything below a folder; reading changes none."""
    stats = ((path, path.stat()) for path in sorted(folder.glob("**/*")))
    return {path: (stat.st_size, stat.st_mtime_ns, stat.st_ino) for path, stat in stats}


@pytest.mark.parametrize("attack", ATTACKS)
def test_sql_reaches_no_file_and_changes_nothing(
    lake: ParquetLake, tmp_path: Path, attack: str
) -> None:
    """Every way out that DuckDB offers is refused; no file appears, changes or is shown."""
    found = lake.objects("nodes")[-1]
    before = written(tmp_path)
    sql = attack.format(root=tmp_path, object=tmp_path / "lake" / "objects" / found.key)
    with pytest.raises(InvalidInputError) as caught:
        lake.query(sql)
    assert "hunter2" not in f"{caught.value}{caught.value.hint}"
    assert written(tmp_path) == before


def test_a_variable_of_the_process_is_no_table(lake: ParquetLake) -> None:
    """DuckDB would find Python variables by name; the lake switches that off."""
    secret = pa.table({"password": ["hunter2"]})
    for sql in ("SELECT * FROM secret", "SELECT * FROM query_table('secret')"):
        with pytest.raises(InvalidInputError):
            lake.query(sql)
    assert secret.num_rows == 1


def test_a_condition_on_tick_or_partition_opens_only_what_it_leaves(tmp_path: Path) -> None:
    """A hundred objects, a question about one: one is opened (and one for the columns)."""
    opened: list[str] = []

    class Watched(DirectoryStore):
        """Notes what is opened."""

        def fetch(self, key: str, sha256: str) -> str:
            opened.append(key)
            return super().fetch(key, sha256)

    lake = ParquetLake(Watched(tmp_path))
    for n in range(50):
        for partition in ("eu", "us"):
            lake.write("nodes", partition, pa.table({"value": [n]}), NOON + n * MINUTE)
    opened.clear()
    sql = "SELECT value FROM nodes_history WHERE tick = '2026-03-01T12:07:00Z' AND partition = 'eu'"
    assert lake.query(sql).to_pylist() == [{"value": 7}]
    assert len(set(opened)) == 3


def test_a_question_to_many_objects_is_answered_in_several_threads_at_once(tmp_path: Path) -> None:
    """Scans start and run while others do; none waits for ever for the interpreter's lock."""
    lake = ParquetLake(DirectoryStore(tmp_path))
    for n in range(250):
        lake.write("nodes", "eu", pa.table({"value": [n] * 50}), NOON + n * MINUTE)
    sql = "SELECT sum(a.value) AS s FROM nodes_history a JOIN nodes_history b USING (tick, value)"
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lake.query, [sql] * 12))
    assert {answer.to_pylist()[0]["s"] for answer in answers} == {sum(range(250)) * 2500}


def test_an_object_that_vanishes_during_a_scan_is_listed_anew(tmp_path: Path) -> None:
    """Verified, then compacted before it was opened: the answer is whole all the same."""
    writer = ParquetLake(DirectoryStore(tmp_path))
    for n in range(3):
        writer.write("nodes", "eu", pa.table({"value": [n]}), NOON + n * MINUTE)
    fetched: list[str] = []

    class CompactedMeanwhile(DirectoryStore):
        """Compacts once, when the scan has fetched its last object."""

        def fetch(self, key: str, sha256: str) -> str:
            path = super().fetch(key, sha256)
            fetched.append(key)
            if len(fetched) == 4:  # one for the columns, three for the scan
                writer.compact("nodes", "eu", NOON)
            return path

    lake = ParquetLake(CompactedMeanwhile(tmp_path))
    answer = lake.query("SELECT value FROM nodes_history ORDER BY value")
    assert answer.column("value").to_pylist() == [0, 1, 2]
    assert len(fetched) > 4


def test_values_come_back_with_their_types(lake: ParquetLake) -> None:
    """Times stay UTC, dictionaries become text, lists stay lists."""
    table = pa.table(
        {
            "phase": pa.array(["up", None]).dictionary_encode(),
            "seen_at": pa.array([NOON, None], pa.timestamp("us", "UTC")),
            "tags": pa.array([["a"], None], pa.list_(pa.string())),
        }
    )
    lake.write("gpus", "eu", table, NOON)
    answer = lake.query("SELECT phase, seen_at, tags FROM gpus ORDER BY phase")
    assert answer.to_pylist() == table.to_pylist()
    assert str(answer.schema.field("seen_at").type) == "timestamp[us, tz=UTC]"


def test_an_empty_newest_object_is_an_empty_table(lake: ParquetLake) -> None:
    """No GPU is an observation too."""
    lake.write("gpus", "eu", pa.table({"gpu_uuid": pa.array([], pa.string())}), NOON)
    assert lake.query("SELECT count(*) AS n FROM gpus").to_pylist() == [{"n": 0}]
    assert lake.query("SELECT * FROM gpus").column_names == ["gpu_uuid", "partition", "tick"]


def test_an_empty_lake_says_that_it_is_empty(tmp_path: Path) -> None:
    """And still answers questions about nothing."""
    lake = ParquetLake(DirectoryStore(tmp_path))
    assert lake.query("SELECT 1 AS one").to_pylist() == [{"one": 1}]
    with pytest.raises(InvalidInputError, match="empty"):
        lake.query("SELECT * FROM nodes")


def test_a_query_that_scans_objects_is_ended_at_its_time_limit(tmp_path: Path) -> None:
    """The limit also holds while Python scans for DuckDB."""
    lake = ParquetLake(DirectoryStore(tmp_path), QueryLimits(timeout_s=0.3))
    lake.write("nodes", "eu", pa.table({"value": list(range(3000))}), NOON)
    with pytest.raises(TooLargeError, match=r"0\.3 s"):
        lake.query("SELECT sum(a.value * b.value * c.value) FROM nodes a, nodes b, nodes c")
    assert lake.query("SELECT count(*) AS n FROM nodes").to_pylist() == [{"n": 3000}]


def test_only_the_views_that_a_statement_names_are_made() -> None:
    """Whatever the case, in subqueries, joins and set operations."""
    known = ["agents", "agents_history", "gpus", "nodes"]
    sql = "SELECT 1 FROM Nodes UNION SELECT 2 WHERE EXISTS (FROM agents_history)"
    with duckdb.connect() as connection:
        assert named_views(connection, sql, known) == ["agents_history", "nodes"]
        assert named_views(connection, "SELECT 'nodes' AS gpus -- agents", known) == []


def test_a_process_that_queried_ends_without_noise(tmp_path: Path) -> None:
    """DuckDB prints about leaks when a thread of it outlives the query; ours does not."""
    script = (
        "import sys\n"
        "from datetime import UTC, datetime\n"
        "from resources.lake.directory_store import DirectoryStore\n"
        "from resources.lake.parquet_lake import ParquetLake\n"
        "assert not {'duckdb', 'pyarrow', 'pandas'} & set(sys.modules)\n"
        "lake = ParquetLake(DirectoryStore(sys.argv[1]))\n"
        "assert not {'duckdb', 'pyarrow', 'pandas'} & set(sys.modules)\n"
        "import pyarrow as pa\n"
        "lake.write('nodes', 'eu', pa.table({'a': [1]}), datetime(2026, 1, 1, tzinfo=UTC))\n"
        "print(lake.query('SELECT a FROM nodes').to_pylist())\n"
        "try:\n"
        "    lake.query('SELECT nothing FROM nodes')\n"
        "except Exception as error:\n"
        "    print(type(error).__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == (
        "[{'a': 1}]\nInvalidInputError\n",
        "",
        0,
    )
