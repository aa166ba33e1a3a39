"""How one file of an artefact stands in a manifest: its id, its attributes, whether it is unread.

An item id is `{artefact}/{relative path}`; `.` is the folder itself. Names are bytes to the system:
those that are no UTF-8 are percent-encoded behind a NUL, which no path can hold, so no two files
share an id. Paths are validated on the way out as well: a manifest is authenticated, but it must
not be able to write outside the folder of a restore even if its key has leaked.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

from fleet.errors import CorruptObjectError

ROOT = b"."
"""Relative path of an artefact's own folder."""
RACY_NS = 2_000_000_000
"""A file that changed less than this before it was looked at may have changed again in the same
tick of its file system's clock (2 s on FAT, the coarsest): it is read again (git's racy-clean)."""


class ItemAttributes(NamedTuple):
    """What a restore gives a file besides its bytes, and what the next backup compares."""

    type: str
    """`file`, `folder` or `link` (its content is the target)."""
    mode: int = 0
    """Permission bits."""
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    """0 for folders and links: it is not restored."""
    stamp: tuple[int, ...] = ()
    """Size, mtime, inode, ctime (and what else the kind needs); equal while unchanged. Empty: the
    file is always read."""
    changed_ns: int = 0
    """The newest time in the stamp."""
    seen_ns: int = 0
    """When the stamp was taken, in nanoseconds of the epoch."""
    chunker: str = ""
    hard_link: tuple[int, ...] = ()
    """Device and inode of a file with several names."""


def item_id_of(artefact: str, path: bytes) -> str:
    """The id of a relative path."""
    try:
        text = path.decode()
    except UnicodeDecodeError:
        text = "\x00" + quote_from_bytes(path, safe="/")
    return f"{artefact}/{text}"


def path_of(item_id: str) -> bytes:
    """The relative path in an item id, proven to stay inside its folder.

    Raises:
        CorruptObjectError: it is absolute, empty, or climbs out.
    """
    text = item_id.partition("/")[2]
    path = unquote_to_bytes(text[1:]) if text.startswith("\x00") else text.encode()
    parts = path.split(b"/")
    if path != ROOT and (b"\x00" in path or any(one in {b"", b".", b".."} for one in parts)):
        raise CorruptObjectError(
            f"item {item_id!r} names a path outside its artefact",
            hint="Nothing was written. Find out who can write this vault.",
        )
    return path


def encode_attributes(attributes: ItemAttributes) -> str:
    """As canonical JSON; fields of their default are left out."""
    defaults = ItemAttributes._field_defaults
    fields = {k: v for k, v in attributes._asdict().items() if defaults.get(k) != v}
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def decode_attributes(text: str, item_id: str) -> ItemAttributes:
    """Read attributes back.

    Raises:
        CorruptObjectError: they are none.
    """
    try:
        fields: dict[str, Any] = json.loads(text)
        for name in ("stamp", "hard_link"):
            fields[name] = tuple(int(one) for one in fields.get(name, ()))
        for name in fields.keys() & {"mode", "uid", "gid", "mtime_ns", "changed_ns", "seen_ns"}:
            fields[name] = int(fields[name])
        found = ItemAttributes(**fields)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptObjectError(f"item {item_id!r}: its attributes cannot be read") from error
    if found.type not in {"file", "folder", "link"}:
        raise CorruptObjectError(f"item {item_id!r} is of unknown type {found.type!r}")
    return found


def is_unchanged(before: ItemAttributes, now: ItemAttributes) -> bool:
    """Whether a file need not be read, because it cannot have changed since it last was.

    Args:
        before: attributes of the last backup.
        now: as the file system has them.
    """
    if not now.stamp or before.stamp != now.stamp:
        return False
    if before._replace(seen_ns=0, chunker="") != now._replace(seen_ns=0, chunker=""):
        return False
    return now.changed_ns < before.seen_ns - RACY_NS
