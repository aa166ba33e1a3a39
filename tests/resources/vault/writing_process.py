"""A process that writes one backup and stops itself (SIGSTOP) at a chosen store operation.

`python -m tests.resources.vault.writing_process CONTROL_URL VAULT_FOLDER VERB PREFIX WHEN NUMBER`.
Prints one JSON object: the snapshot, or the error that it ended with.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fleet.errors import StateroomError
from fleet.ports.object_store import ListedObject
from resources.clock import SystemClock
from resources.control_store.opening import open_control_store
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.network import NetworkVault
from resources.vault.snapshots.backup import back_up
from tests.fakes.vault_fleet import KEYS


class StoppingStore(DirectoryObjectStore):
    """Stops its whole process before or after the n-th operation of a kind on some keys.

    Args:
        root: of the store.
        verb: `create`, `get`, `list` or `any`.
        prefix: of the keys that count.
        when: `before` or `after`.
        number: of the operation that stops, from 1; 0 for none.
    """

    def __init__(self, root: Path, verb: str, prefix: str, when: str, number: int) -> None:
        """Nothing has been asked yet."""
        super().__init__(root)
        self._verb, self._prefix, self._when, self._number = verb, prefix, when, number
        self.calls = 0

    def _run(self, verb: str, key: str, work: Callable[[], Any]) -> Any:
        counts = self._verb in {verb, "any"} and key.startswith(self._prefix)
        self.calls += counts
        is_here = counts and self.calls == self._number
        if is_here and self._when == "before":
            os.kill(os.getpid(), signal.SIGSTOP)
        result = work()
        if is_here and self._when == "after":
            os.kill(os.getpid(), signal.SIGSTOP)
        return result

    def create(self, key: str, data: bytes) -> bool:
        """May stop."""
        return bool(self._run("create", key, lambda: DirectoryObjectStore.create(self, key, data)))

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """May stop."""
        return bytes(
            self._run("get", key, lambda: DirectoryObjectStore.get(self, key, offset, length))
        )

    def list_objects(self, prefix: str, after: str = "") -> list[ListedObject]:
        """May stop."""
        work = lambda: DirectoryObjectStore.list_objects(self, prefix, after)  # noqa: E731
        return list(self._run("list", prefix, work))


def main(url: str, folder: str, verb: str, prefix: str, when: str, number: str) -> None:
    """Back up with one worker, so that operations come in one order."""
    clock = SystemClock()
    store = StoppingStore(Path(folder), verb, prefix, when, int(number))
    source = open_control_store(url, clock=clock)
    try:
        result = back_up(NetworkVault(store, KEYS, clock), source, workers=1)
    except StateroomError as error:
        said = {"error": type(error).__name__, "text": str(error), "hint": error.hint}
    else:
        said = {"snapshot_id": result.snapshot_id, "rescued": result.rescued}
    finally:
        source.close()
    print(json.dumps(said))  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
