"""Opening a restored PostgreSQL control store: its own server recovers it, its own tools judge it.

`pg_basebackup` leaves a cluster with the WAL that it needs. A copy of it is recovered and asked by
`postgres --single`: no socket, no account, no configuration of the original (which would archive
WAL or load libraries), nothing left running. Where pgBackRest keeps the data, what the vault holds
is the label of a backup; pgBackRest is asked whether it still has it.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fleet.errors import CorruptObjectError, NotFoundError, StoreUnavailableError

UNPRIVILEGED = "nobody"
"""PostgreSQL refuses to run as root; root lets this user do it."""
_TIMEOUT_S = 600
_VALUE = re.compile(r'^\t \d+: (\w+) = "(.*)"\t\(typeid', re.MULTILINE)
"""How `postgres --single` prints a column of a row."""
_ALONE = (
    "archive_mode=off",
    "archive_command=",
    "restore_command=",
    "primary_conninfo=",
    "shared_preload_libraries=",
    "ssl=off",
    "logging_collector=off",
    "fsync=off",
    "exit_on_error=on",
)
"""Stronger than `postgresql.auto.conf`, which lies inside the cluster. The copy is thrown away."""
_DATABASES = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate"
_HAS_STATES = "SELECT count(*) AS tables FROM pg_class WHERE relname = 'agent_states'"
_COUNTS = (
    "SELECT (SELECT count(*) FROM agents) AS agents, (SELECT count(*) FROM nodes) AS nodes, "
    "count(*) AS states, "
    "count(*) FILTER (WHERE encode(sha256(body), 'hex') <> digest) AS damaged FROM agent_states"
)
_HAS_AMCHECK = "SELECT count(*) AS there FROM pg_available_extensions WHERE name = 'amcheck'"
_AMCHECK = (
    "CREATE EXTENSION IF NOT EXISTS amcheck",
    (
        "SELECT count(bt_index_check(i.indexrelid, i.indisunique)) AS indexes FROM pg_index i "
        "JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam "
        "WHERE a.amname = 'btree' AND c.relpersistence = 'p' AND i.indisvalid"
    ),
)


def is_cluster(path: Path) -> bool:
    """Whether a restored artefact is the folder of a PostgreSQL cluster."""
    return (path / "PG_VERSION").is_file()


def check_cluster(path: Path) -> dict[str, Any]:
    """A copy recovers; every state matches its digest, every B-tree its table.

    Of all databases of the cluster that hold a control store; numbers are those of all together.

    Raises:
        NotFoundError: no server of its major version is installed here.
        CorruptObjectError: it does not recover, holds no control store, has tablespaces, or is
            damaged.
    """
    # Their links lead out of the copy, maybe to those of the server that is live.
    if tablespaces := sorted(one.name for one in path.glob("pg_tblspc/*")):
        raise CorruptObjectError(
            f"control store: its tablespaces {', '.join(tablespaces)} are not in the backup",
            hint="Declare a pgBackRest stanza: backup.pgbackrest_stanza.",
        )
    major = (path / "PG_VERSION").read_text(encoding="ascii").strip()
    programs = find_server(major)
    _verify_manifest(programs, path)
    numbers: Counter[str] = Counter()
    with _private_copy(path) as cluster:
        server = _SingleUser(programs / "postgres", cluster)
        databases = [name for _, name in server.ask("template1", _DATABASES)]
        for database in databases:
            if dict(server.ask(database, _HAS_STATES))["tables"] != "0":
                numbers.update(_check_database(server, database))
    if not numbers:
        raise CorruptObjectError(f"control store: in none of the databases {', '.join(databases)}")
    return dict(numbers)


def _check_database(server: _SingleUser, database: str) -> dict[str, int]:
    numbers = {name: int(value) for name, value in server.ask(database, _COUNTS)}
    if damaged := numbers.pop("damaged"):
        raise CorruptObjectError(
            f"control store: {damaged} of {numbers['states']} states in {database} are damaged"
        )
    if dict(server.ask(database, _HAS_AMCHECK))["there"] == "1":
        numbers |= {name: int(value) for name, value in server.ask(database, *_AMCHECK)}
    return {"databases": 1, **numbers}


def check_pgbackrest(path: Path) -> dict[str, Any]:
    """PgBackRest still has the backup that the vault names, and found no error in it.

    Raises:
        CorruptObjectError: what the vault holds names no backup, or it is gone or faulty.
        NotFoundError: pgBackRest is not installed here.
        StoreUnavailableError: it does not answer.
    """
    try:
        told = json.loads(path.read_bytes())
        stanza, label = told["stanza"], told["label"]
    except (ValueError, LookupError, TypeError) as error:
        raise CorruptObjectError(
            f"control store: names no backup of pgBackRest: {error}"
        ) from error
    program = shutil.which("pgbackrest")
    if program is None:
        raise NotFoundError("pgbackrest is not installed here", hint="Install it.")
    text = _run([program, f"--stanza={stanza}", "--output=json", "info"], {}).stdout
    held = {one["label"]: one for each in json.loads(text) for one in each.get("backup", ())}
    if label not in held:
        raise CorruptObjectError(
            f"control store: pgBackRest no longer has backup {label} of stanza {stanza}",
            hint="Let it keep backups as long as the vault keeps snapshots (repo1-retention-full).",
        )
    if held[label].get("error"):
        raise CorruptObjectError(f"control store: pgBackRest found page errors in backup {label}")
    return {"backups": len(held), "size_bytes": int(held[label]["info"]["size"])}


def find_server(major: str) -> Path:
    """The folder with the programs of a major version.

    Raises:
        NotFoundError: there is none.
    """
    on_path = shutil.which("postgres")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders.append(Path("/usr/lib/postgresql") / major / "bin")
    for folder in folders:
        program = folder / "postgres"
        if program.is_file() and f"PostgreSQL) {major}." in _run([str(program), "-V"], {}).stdout:
            return folder
    raise NotFoundError(
        f"PostgreSQL {major} is not installed here, and nothing else can open its cluster",
        hint=f"Install the server of PostgreSQL {major} where restore tests run.",
    )


class _SingleUser:
    """A cluster that is asked by a server of its own, one start for each question."""

    def __init__(self, program: Path, cluster: Path) -> None:
        empty = cluster / "stateroom-check.conf"
        empty.write_text("", encoding="ascii")
        settings = [*_ALONE, f"config_file={empty}", f"hba_file={empty}", f"ident_file={empty}"]
        self._command = [str(program), "--single", "-D", str(cluster)]
        self._command += [part for one in settings for part in ("-c", one)]

    def ask(self, database: str, *statements: str) -> list[tuple[str, str]]:
        """Name and text of each column of each row, of all statements."""
        done = _run([*self._command, database], _as_user(), "".join(f"{s}\n" for s in statements))
        if done.returncode:
            raise CorruptObjectError(f"PostgreSQL: {_complaint(done.stderr)}")
        return _VALUE.findall(done.stdout)


def _verify_manifest(programs: Path, path: Path) -> None:
    """Compare each file with what the server said of it when it was sent."""
    program = programs / "pg_verifybackup"
    if not program.is_file() or not (path / "backup_manifest").is_file():
        return
    # The WAL is read by the recovery itself.
    done = _run([str(program), "--no-parse-wal", "--exit-on-error", str(path)], {})
    if done.returncode:
        raise CorruptObjectError(f"pg_verifybackup: {_complaint(done.stderr)}")


@contextmanager
def _private_copy(path: Path) -> Iterator[Path]:
    """A copy that the server may write to; root's, where another user can reach it."""
    is_root = os.geteuid() == 0
    with tempfile.TemporaryDirectory(
        dir=None if is_root else path.parent, prefix=".check-"
    ) as folder:
        cluster = Path(folder) / "cluster"
        shutil.copytree(path, cluster, symlinks=True)
        cluster.chmod(0o700)
        if is_root:
            _give_away(Path(folder))
        yield cluster


def _give_away(folder: Path) -> None:
    """To the user that may run the server; a link itself, never what it points to."""
    owner = pwd.getpwnam(UNPRIVILEGED).pw_uid
    for root, _, names in os.walk(folder):
        for each in (Path(root), *(Path(root) / name for name in names)):
            os.lchown(each, owner, -1)


def _as_user() -> dict[str, Any]:
    return {"user": UNPRIVILEGED, "extra_groups": []} if os.geteuid() == 0 else {}


def _run(
    command: Sequence[str], further: dict[str, Any], text: str = ""
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            input=text,
            capture_output=True,
            check=False,
            encoding="utf-8",
            errors="replace",
            timeout=_TIMEOUT_S,
            cwd="/",
            **further,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StoreUnavailableError(f"{Path(command[0]).name} did not run: {error}") from error


def _complaint(said: str) -> str:
    """The line that says what is wrong, among those that say what was done."""
    lines = [one for one in said.splitlines() if re.search("ERROR|FATAL|PANIC|error:", one)]
    return (lines or said.strip().splitlines() or ["it said nothing"])[-1].strip()
