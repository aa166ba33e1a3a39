"""Kind `control_store` on PostgreSQL: its own tools make the base backup.

With a stanza declared, pgBackRest backs the server up into its own repository, WAL included, and we
record label, LSN and timeline. Without one, `pg_basebackup` copies the cluster into staging and
its files are stored like any others; the cluster starts from them as it is, with the WAL that the
copy needs inside.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from fleet.artefact_items import ItemAttributes
from fleet.errors import NotFoundError, PermanentError, StoreUnavailableError
from resources.vault.artefacts.port import HeldBytes, Omission, SourceFile
from resources.vault.artefacts.staged import COPY_TIMEOUT_S
from resources.vault.artefacts.tree import walk

_LABEL_FIELDS = {
    "lsn": re.compile(r"^START WAL LOCATION: (\S+)", re.MULTILINE),
    "timeline": re.compile(r"^START TIMELINE: (\d+)", re.MULTILINE),
    "label": re.compile(r"^LABEL: (.+)", re.MULTILINE),
}
_BASE_BACKUP = (
    "--format=plain",
    "--no-sync",
    "--wal-method=stream",
    "--checkpoint=fast",
    "--no-password",
)
_INFO_NAME = b"pgbackrest.json"


class PgBackRestSource:
    """A server that pgBackRest backs up; what we store is which of its backups belongs to the cut.

    Args:
        stanza: its name for the server.
    """

    kind = "control_store"

    def __init__(self, stanza: str) -> None:
        """Nothing runs yet."""
        self._stanza = stanza
        self._about: Mapping[str, Any] = {}

    def files(self) -> Iterator[SourceFile | Omission]:
        """One small file: what pgBackRest says of the backup it has just made."""
        program = find_program("pgbackrest")
        _run([program, f"--stanza={self._stanza}", "backup"], {})
        text = _run([program, f"--stanza={self._stanza}", "--output=json", "info"], {})
        try:
            newest = json.loads(text)[0]["backup"][-1]
            self._about = {
                "by": "pgbackrest",
                "label": newest["label"],
                "lsn": newest["lsn"]["stop"],
                "timeline": int(newest["archive"]["stop"][:8], 16),
            }
        except (ValueError, LookupError, TypeError) as error:
            raise StoreUnavailableError(
                f"pgbackrest info of stanza {self._stanza} names no backup: {error}",
                hint=f"Run `pgbackrest --stanza={self._stanza} info`.",
            ) from error
        content = json.dumps({**newest, "stanza": self._stanza}, sort_keys=True).encode()
        attributes = ItemAttributes("file", mode=0o600)
        yield SourceFile(_INFO_NAME, attributes, len(content), lambda: HeldBytes(content), content)

    def about(self) -> Mapping[str, Any]:
        """Label, LSN and timeline."""
        return self._about

    def close(self) -> None:
        """No staging copies."""


class PgBaseBackupSource:
    """A server whose cluster is copied by `pg_basebackup`.

    Args:
        url: of a database of the server; its user needs the REPLICATION right.
        seen_ns: moment before the copy.
        staging: folder for it, which needs as much room as the cluster; None for the system's.
    """

    kind = "control_store"

    def __init__(self, url: str, seen_ns: int, staging: Path | None) -> None:
        """Nothing runs yet."""
        self._url = url
        self._seen_ns = seen_ns
        self._staging_root = staging
        self._staging: Path | None = None
        self._about: Mapping[str, Any] = {}

    def files(self) -> Iterator[SourceFile | Omission]:
        """The copied cluster."""
        program = find_program("pg_basebackup")
        self._staging = Path(tempfile.mkdtemp(prefix="stateroom-pg-", dir=self._staging_root))
        cluster = self._staging / "cluster"
        arguments, secret = connection_arguments(self._url)
        _run(
            [program, *arguments, *_BASE_BACKUP, "--pgdata", str(cluster)],
            secret,
        )
        if tablespaces := sorted(one.name for one in cluster.glob("pg_tblspc/*")):
            raise PermanentError(
                f"the cluster has tablespaces ({', '.join(tablespaces)}), which pg_basebackup puts "
                "outside of the copy",
                hint="Declare a pgBackRest stanza: backup.pgbackrest_stanza.",
            )
        text = (cluster / "backup_label").read_text()
        found = {name: form.search(text) for name, form in _LABEL_FIELDS.items()}
        self._about = {"by": "pg_basebackup"} | {
            name: match.group(1) for name, match in found.items() if match
        }
        yield from walk(str(cluster), self._seen_ns, frozenset())

    def about(self) -> Mapping[str, Any]:
        """Label, LSN and timeline."""
        return self._about

    def close(self) -> None:
        """Remove the copied cluster."""
        if self._staging is not None:
            shutil.rmtree(self._staging)
            self._staging = None


def find_program(name: str) -> str:
    """The path of a program.

    Raises:
        NotFoundError: it is not installed; the message names both that would do.
    """
    found = shutil.which(name)
    if found is None:
        raise NotFoundError(
            f"{name} is not installed: PostgreSQL is backed up by pgbackrest (with a stanza "
            "declared) or by pg_basebackup (without)",
            hint="Install one of the two where backups run.",
        )
    return found


def connection_arguments(url: str) -> tuple[list[str], dict[str, str]]:
    """Libpq's options for a SQLAlchemy URL, and the password as environment: no list shows it."""
    parts = urlsplit(url)
    options = [f"--host={parts.hostname or '127.0.0.1'}", f"--port={parts.port or 5432}"]
    if parts.username:
        options.append(f"--username={unquote(parts.username)}")
    return options, {"PGPASSWORD": unquote(parts.password)} if parts.password else {}


def _run(command: list[str], secret: Mapping[str, str]) -> str:
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            check=False,
            timeout=COPY_TIMEOUT_S,
            env={**os.environ, **secret},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StoreUnavailableError(f"{name} did not run: {error}") from error
    if done.returncode:
        raise StoreUnavailableError(
            f"{name} failed: {done.stderr.decode(errors='replace').strip()[-500:]}",
            hint="Check that the user may replicate, and that the tool is not older than the "
            "server.",
        )
    return done.stdout.decode()
