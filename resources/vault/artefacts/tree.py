"""Walking a folder without ever leaving it, and reading files that may change meanwhile.

Every name is opened relative to the handle of its folder and never through a link, so a folder
exchanged for a link in mid-walk leads nowhere. Folders come before what they hold, names sorted.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from fleet.artefact_items import ROOT, ItemAttributes
from fleet.errors import NotFoundError, StoreUnavailableError
from resources.vault.artefacts.port import HeldBytes, Omission, SourceFile

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
REMOVED = "it was removed while it was read"
_TYPES = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class LiveFile:
    """A file read in place: size, mtime, inode and ctime before and after must agree.

    Args:
        name: to open.
        folder: handle of its folder; None when `name` is a path.
    """

    def __init__(self, name: bytes, folder: int | None = None) -> None:
        """Open it and remember how it is."""
        self._name, self._folder = name, folder
        handle = os.open(name, _FILE, dir_fd=folder)
        self._file = os.fdopen(handle, "rb", buffering=0)
        self._found = os.fstat(handle)
        self._before = stamp_of(self._found)
        self._read_bytes = 0

    def read(self, size: int, /) -> bytes:
        """See `OpenedFile.read`."""
        parts: list[bytes] = []
        while size > 0:
            part = self._file.read(size)
            if not part:
                break
            parts.append(part)
            size -= len(part)
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._read_bytes += len(data)
        return data

    def changed(self) -> str:
        """See `OpenedFile.changed`; also when another file has taken the name."""
        after = stamp_of(os.fstat(self._file.fileno()))
        try:
            named = stamp_of(os.stat(self._name, dir_fd=self._folder, follow_symlinks=False))
        except FileNotFoundError:
            return REMOVED
        for when in (after, named):
            if when != self._before:
                return _difference(self._before, when)
        if self._read_bytes != after[0]:
            return f"{self._read_bytes} bytes read, its size is {after[0]}"
        return ""

    def attributes(self, listed: ItemAttributes) -> ItemAttributes:
        """See `OpenedFile.attributes`: it may have changed between its listing and its opening."""
        return attributes_of(self._found, listed.seen_ns)

    def close(self) -> None:
        """See `OpenedFile.close`."""
        self._file.close()


def stamp_of(found: os.stat_result) -> tuple[int, ...]:
    """Size, mtime, inode, ctime: what changes whenever content does."""
    return (found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns)


def attributes_of(found: os.stat_result, seen_ns: int) -> ItemAttributes:
    """Attributes of a file, with its own stamp."""
    several = found.st_nlink > 1
    return ItemAttributes(
        "file",
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        mtime_ns=found.st_mtime_ns,
        stamp=stamp_of(found),
        changed_ns=max(found.st_mtime_ns, found.st_ctime_ns),
        seen_ns=seen_ns,
        hard_link=(found.st_dev, found.st_ino) if several else (),
    )


def walk(root: str, seen_ns: int, exclude: frozenset[bytes]) -> Iterator[SourceFile | Omission]:
    """Everything below a folder, or the one file that `root` is.

    Args:
        root: resolved path; a link is not followed any further.
        seen_ns: moment before the walk, for the racy-clean rule.
        exclude: relative paths to leave out.

    Raises:
        NotFoundError: there is nothing at `root`.
        StoreUnavailableError: it cannot be looked at.
    """
    path = os.fsencode(root)
    try:
        found = Path(root).lstat()
        if not stat.S_ISDIR(found.st_mode):
            yield _entry(os.fsencode(Path(root).name), found, seen_ns, path, None)
            return
        handle = os.open(path, _FOLDER)
    except FileNotFoundError as error:
        raise NotFoundError(f"{root} does not exist", hint="Correct its path.") from error
    except OSError as error:
        raise StoreUnavailableError(f"{root}: {error.strerror}", hint="Check its mode.") from error
    with ExitStack() as opened:
        opened.callback(os.close, handle)
        yield _folder(ROOT, found)
        yield from _below(handle, seen_ns, exclude)


def _below(root: int, seen_ns: int, exclude: frozenset[bytes]) -> Iterator[SourceFile | Omission]:
    """Depth first with an own stack: as deep as the file system goes."""
    levels: list[tuple[bytes, int, Iterator[bytes]]] = [(b"", root, iter(_names(root)))]
    try:
        while levels:
            prefix, folder, names = levels[-1]
            name = next(names, None)
            if name is None:
                levels.pop()
                if levels:
                    os.close(folder)
                continue
            path = prefix + name
            if path in exclude:
                continue
            try:
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if not stat.S_ISDIR(found.st_mode):
                    yield _entry(path, found, seen_ns, name, folder)
                    continue
                inner = os.open(name, _FOLDER, dir_fd=folder)
            except FileNotFoundError:
                continue  # gone since its folder was listed: it is not part of this cut
            except OSError as error:
                yield Omission(path, error.strerror or str(error), failed=True)
                continue
            levels.append((path + b"/", inner, iter(())))
            yield _folder(path, found)
            try:
                levels[-1] = (path + b"/", inner, iter(_names(inner)))
            except OSError as error:
                yield Omission(path, error.strerror or str(error), failed=True)
    finally:
        for _, folder, _ in levels[1:]:
            os.close(folder)


def _names(folder: int) -> list[bytes]:
    return sorted(os.fsencode(name) for name in os.listdir(folder))


def _folder(path: bytes, found: os.stat_result) -> SourceFile:
    mode = stat.S_IMODE(found.st_mode)
    attributes = ItemAttributes("folder", mode=mode, uid=found.st_uid, gid=found.st_gid)
    return SourceFile(path, attributes, 0, lambda: HeldBytes(b""), b"")


def _entry(
    path: bytes, found: os.stat_result, seen_ns: int, name: bytes, folder: int | None
) -> SourceFile | Omission:
    kind = stat.S_IFMT(found.st_mode)
    if kind == stat.S_IFREG:
        attributes = attributes_of(found, seen_ns)
        return SourceFile(path, attributes, found.st_size, lambda: LiveFile(name, folder))
    if kind == stat.S_IFLNK:
        target = os.readlink(name, dir_fd=folder)
        link = ItemAttributes("link", uid=found.st_uid, gid=found.st_gid)
        return SourceFile(path, link, len(target), lambda: HeldBytes(target), target)
    return Omission(path, f"{_TYPES.get(kind, 'a special file')} has no content", failed=False)


def _difference(before: tuple[int, ...], after: tuple[int, ...]) -> str:
    names = ("size", "mtime", "inode", "ctime")
    wrong = [n for n, one, two in zip(names, before, after, strict=True) if one != two]
    return f"it changed while it was read: {', '.join(wrong)}"
