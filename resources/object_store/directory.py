"""Objects as files below one folder.

Create is: write a temporary file, fsync it, `link` it to its name, fsync the folder. The link is
the commit: it fails when the name exists (create-only), and a reader sees the whole file or none.
Killed before the link, a file stays in the folder `.tmp`, which the daily `check` clears of those
older than an hour. Killed after it, the object is there, and its durability is the folder's fsync:
a caller that got no answer must look, as the port says.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from fleet.errors import NotFoundError, PermanentError, StoreUnavailableError
from fleet.ports.object_store import ListedObject, StoreFeatures
from resources.object_store.keys import validate_folder, validate_key
from resources.object_store.probe import probe_store
from resources.synced_files import sync_folder, write_synced

_STAGING = ".tmp"
_LEFTOVER_AGE_S = 3600.0


class DirectoryObjectStore:
    """The `ObjectStore` port on a local directory.

    Args:
        root: folder of the store; created when missing.
    """

    def __init__(self, root: Path) -> None:
        """Remember the folder; nothing is touched before the first call."""
        self._root = root

    def create(self, key: str, data: bytes) -> bool:
        """See `fleet.ports.ObjectStore.create`; committed by `os.link`."""
        final = self._root / validate_key(key)
        temporary = self._root / _STAGING / uuid.uuid4().hex
        try:
            _make_folders(final.parent, self._root)
            temporary.parent.mkdir(exist_ok=True)
            try:
                write_synced(temporary, data)
                os.link(temporary, final)
            finally:
                temporary.unlink(missing_ok=True)
            sync_folder(final.parent)
        except FileExistsError:
            return False
        except OSError as error:
            raise _unavailable(key, error) from error
        return True

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """See `fleet.ports.ObjectStore.get`."""
        try:
            with (self._root / validate_key(key)).open("rb") as file:
                file.seek(offset)
                return file.read(-1 if length is None else length)
        except FileNotFoundError as error:
            raise NotFoundError(f"object {key} does not exist") from error
        except OSError as error:
            raise _unavailable(key, error) from error

    def list_objects(self, prefix: str, after: str = "") -> list[ListedObject]:
        """See `fleet.ports.ObjectStore.list_objects`; only folders that can match are opened."""
        folder = prefix.rpartition("/")[0]
        try:
            root = self._root / folder if folder else self._root
            return sorted(_walk(root, f"{folder}/" * bool(folder), prefix, after))
        except OSError as error:
            raise _unavailable(prefix, error) from error

    def delete(self, keys: Iterable[str]) -> None:
        """See `fleet.ports.ObjectStore.delete`."""
        for key in keys:
            try:
                (self._root / validate_key(key)).unlink(missing_ok=True)
            except OSError as error:
                raise _unavailable(key, error) from error

    def features(self) -> StoreFeatures:
        """See `fleet.ports.ObjectStore.features`; a directory has neither versions nor locks."""
        return StoreFeatures(versioned=False, lock_days=None, place=str(self._root))

    def extend_lock(self, keys: Iterable[str], until: datetime) -> int:
        """See `fleet.ports.ObjectStore.extend_lock`; refused, whatever the keys."""
        first = next(iter(keys), "none")
        raise PermanentError(
            f"store {self._root} is a directory: it cannot lock {first} until {until.isoformat()}",
            hint="Use a bucket with object lock, or protect the folder by other means.",
        )

    def purge(self, prefix: str) -> dict[str, datetime]:
        """See `fleet.ports.ObjectStore.purge`; nothing is hidden and nothing locked."""
        self.delete([one.key for one in self.list_objects(validate_folder(prefix))])
        return {}

    def check(self) -> list[str]:
        """See `fleet.ports.ObjectStore.check`."""
        _remove_leftovers(self._root / _STAGING)
        return probe_store(self, uuid.uuid4().hex)


def _unavailable(key: str, error: OSError) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"object {key}: {error.strerror or error}",
        hint="Check the disk's free space and the folder's owner; nothing half-written is visible.",
    )


def _make_folders(folder: Path, root: Path) -> None:
    """Create missing folders and make their names durable."""
    if folder.is_dir():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for parent in (folder, *folder.parents):
        sync_folder(parent)
        if parent == root.parent:
            break


def _remove_leftovers(folder: Path) -> None:
    """Drop temporary files that a killed writer left long ago."""
    for path in folder.glob("*"):
        try:
            if time.time() - path.stat().st_mtime > _LEFTOVER_AGE_S:
                path.unlink()
        except FileNotFoundError:
            continue


def _walk(folder: Path, place: str, prefix: str, after: str) -> Iterator[ListedObject]:
    """Objects below a folder; what is not asked for is passed by without a look at its size."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                key = f"{place}{entry.name}"
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from _walk(Path(entry.path), f"{key}/", prefix, after)
                elif key.startswith(prefix) and key > after:
                    stat = entry.stat()
                    modified_at = datetime.fromtimestamp(stat.st_mtime, UTC)
                    yield ListedObject(key, stat.st_size, modified_at)
    except FileNotFoundError:
        return
