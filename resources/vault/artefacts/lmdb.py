"""Kind `lmdb`: a copy under a read transaction, made by a process of its own.

LMDB must not be opened twice in one process (its locks would be lost with the first close), and we
may run inside the service. `compact=False` keeps pages where they are, so that unchanged ones are
found again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fleet.artefact_items import ROOT, ItemAttributes
from fleet.errors import StoreUnavailableError
from resources.vault.artefacts.port import HeldBytes, SourceFile
from resources.vault.artefacts.staged import COPY_TIMEOUT_S, StagedSource

_DATA = "data.mdb"
_SCRIPT = """
import json, lmdb, os, sys
path, target = sys.argv[1:]
subdir = os.path.isdir(path)
env = lmdb.open(path, readonly=True, subdir=subdir, create=False)
if target:
    if subdir:
        os.mkdir(target)
    env.copy(target, compact=False)
    env.close()
    env = lmdb.open(target, readonly=True, subdir=subdir, lock=False, create=False)
info, stat = env.info(), env.stat()
print(json.dumps({"txnid": info["last_txnid"], "pages": info["last_pgno"] + 1,
                  "page_size": stat["psize"]}))
"""


class LmdbSource(StagedSource):
    """An LMDB environment: a folder with `data.mdb`, or one file.

    With `MDB_WRITEMAP` a commit need not move the file's times, so the number of the last
    transaction is part of the stamp.
    """

    kind = "lmdb"

    def __init__(self, path: str, seen_ns: int, staging: Path | None) -> None:
        """Remember where the environment and its data lie."""
        self._environment = path
        self._is_folder = Path(path).is_dir()
        data = str(Path(path) / _DATA) if self._is_folder else path
        super().__init__(data, seen_ns, staging)

    def files(self) -> Iterator[SourceFile]:
        """The folder, where there is one, and the data file; `lock.mdb` holds no data."""
        attributes = self.attributes()
        if self._is_folder:
            folder = Path(self._environment).stat()
            shape = ItemAttributes(
                "folder", mode=folder.st_mode & 0o7777, uid=folder.st_uid, gid=folder.st_gid
            )
            yield SourceFile(ROOT, shape, 0, lambda: HeldBytes(b""), b"")
        txnid = int(self._run("")["txnid"])
        stamped = attributes._replace(stamp=(*attributes.stamp, txnid))
        yield self.source_file(os.fsencode(Path(self.path).name), stamped)

    def copy(self, target: Path) -> Mapping[str, Any]:
        """See `StagedSource.copy`.

        Raises:
            StoreUnavailableError: it does not open, or the copy failed.
        """
        made = target.with_name("environment")
        about = self._run(str(made))
        (made / _DATA if self._is_folder else made).rename(target)
        return about

    def _run(self, target: str) -> dict[str, Any]:
        command = [sys.executable, "-c", _SCRIPT, self._environment, target]
        done = subprocess.run(command, capture_output=True, check=False, timeout=COPY_TIMEOUT_S)
        if done.returncode:
            last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise StoreUnavailableError(
                f"LMDB environment {self._environment}: {last}",
                hint="Check its mode and the staging folder's room.",
            )
        found: dict[str, Any] = json.loads(done.stdout)
        return found
