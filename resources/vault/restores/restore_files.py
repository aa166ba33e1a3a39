"""Restoring an artefact: read, prove, write beside the target, read back, and only then switch.

Nothing of the target is touched before every byte wanted has been read from the vault, written,
synced and read back from the disk. The switch is `staging_folder`'s, committed by one rename.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from fleet.artefact_items import ROOT, ItemAttributes, decode_attributes, path_of
from fleet.backup import ROW_KINDS
from fleet.errors import CorruptObjectError, NotFoundError
from resources.synced_files import sync_folder
from resources.vault.network import NetworkVault
from resources.vault.packs.arrow_columns import number
from resources.vault.packs.contents import read_contents, rows_of_artefact
from resources.vault.packs.manifest import Manifest, arrow, kernels, packs_of, select_items
from resources.vault.restores.restore import FoundSnapshot, find_manifest
from resources.vault.restores.staging_folder import SIDECARS, StagingFolder, refused

_READ_BYTES = 1024 * 1024
_SYNC_THREADS = 8


class ArtefactRestoreResult(NamedTuple):
    """What a restore of an artefact did."""

    artefact: str
    snapshot_id: str
    taken_at: datetime
    """Moment of the snapshot; the cut says when the artefact itself was copied."""
    target: Path
    files: int
    """Files, folders and links."""
    bytes_logical: int
    seconds: float
    leftovers: tuple[str, ...]
    """Old targets that earlier restores, killed in their last step, have left beside it."""


class _Item(NamedTuple):
    item_id: str
    path: bytes
    attributes: ItemAttributes
    digest: bytes


def restore_artefact(
    vault: NetworkVault,
    name: str,
    into: Path,
    *,
    at: datetime | None = None,
    snapshot_id: str | None = None,
    paths: Sequence[str] | None = None,
    overwrite: bool = False,
) -> ArtefactRestoreResult:
    """Bring an artefact back as it was: bytes, permission bits, times, links.

    An artefact that is one file becomes the file `into`; one that is a folder, the folder `into`.
    Owners are restored when the process may (root).

    Args:
        vault: the opened network.
        name: of the artefact.
        into: what to create; its parent exists.
        at: moment wanted: the newest snapshot taken at or before it; None for the newest.
        snapshot_id: a snapshot in place of a moment.
        paths: files and folders of the artefact, relative to it: `into` becomes a folder with
            those alone. None for everything.
        overwrite: replace what is at `into` (all of it), with the sidecar files of a database.

    Raises:
        NotFoundError: no such snapshot, artefact or path.
        VersionConflictError: something is at `into`, and `overwrite` is not set.
        CorruptObjectError: something wanted is damaged, or leads out of its folder; nothing was
            changed.
        StoreUnavailableError: the disk refuses (full?); nothing was changed.
    """
    began_s = vault.clock.monotonic_s()
    found, manifest = find_manifest(vault, at, snapshot_id, states=False)
    items, manifest = _wanted(manifest, name, paths, found)
    is_folder = paths is not None or items[0].path == ROOT
    if not is_folder and len(items) > 1:
        raise CorruptObjectError(f"artefact {name} is neither one file nor a folder")
    is_database = not is_folder and manifest.table["kind"][0].as_py() == ROW_KINDS["sqlite"]
    with StagingFolder(into, vault.new_id(), SIDECARS if is_database else ()) as staging:
        staging.demand_free(overwrite=overwrite)
        try:
            size_bytes = _Writer(staging.content, items, is_folder=is_folder).run(vault, manifest)
        except OSError as error:
            raise refused(staging.content, error) from error
        leftovers = staging.leftovers()
        staging.switch(overwrite=overwrite)
        if items[0].path == ROOT:
            # Only now: a folder that its owner must not write cannot be moved by its owner.
            into.chmod(items[0].attributes.mode)
    return ArtefactRestoreResult(
        artefact=name,
        snapshot_id=found.snapshot_id,
        taken_at=found.taken_at,
        target=into,
        files=len(items),
        bytes_logical=size_bytes,
        seconds=vault.clock.monotonic_s() - began_s,
        leftovers=leftovers,
    )


def _wanted(
    manifest: Manifest, name: str, paths: Sequence[str] | None, found: FoundSnapshot
) -> tuple[list[_Item], Manifest]:
    """The items to restore, folders before what they hold; and their rows."""
    manifest = rows_of_artefact(manifest, name)
    if not len(manifest.table):
        raise NotFoundError(
            f"snapshot {found.snapshot_id} holds no artefact {name}",
            hint="Its cut record lists those that it holds.",
        )
    first = number(0, arrow().int32())
    heads = manifest.table.filter(kernels().equal(manifest.table["chunk"], first))
    columns = (heads[one].to_pylist() for one in ("item_id", "attributes", "digest"))
    items = [
        _Item(item_id, path_of(item_id), decode_attributes(text or "", item_id), digest)
        for item_id, text, digest in zip(*columns, strict=True)
    ]
    _demand_inside(items)
    if paths is not None:
        items = _below(items, [os.fsencode(one.strip("/")) for one in paths], found)
        table = select_items(manifest.table, [one.item_id for one in items])
        manifest = Manifest(table, manifest.packs)
    items.sort(key=lambda one: one.path.split(b"/") if one.path != ROOT else [])
    return items, Manifest(manifest.table, packs_of(manifest.table, manifest.packs))


def _demand_inside(items: Sequence[_Item]) -> None:
    """Refuse items below something that is no folder: a link there would lead out."""
    others = {one.path for one in items if one.attributes.type != "folder"}
    for one in items:
        parts = one.path.split(b"/")
        for end in range(1, len(parts)):
            if b"/".join(parts[:end]) in others:
                raise CorruptObjectError(
                    f"item {one.item_id!r} lies below something that is no folder",
                    hint="Nothing was written. Find out who can write this vault.",
                )


def _below(items: Sequence[_Item], paths: Sequence[bytes], found: FoundSnapshot) -> list[_Item]:
    chosen: dict[bytes, _Item] = {}
    for path in paths:
        hits = [i for i in items if i.path == path or i.path.startswith(path + b"/")]
        if not hits:
            raise NotFoundError(
                f"snapshot {found.snapshot_id} holds no {os.fsdecode(path)!r} in this artefact",
                hint="Choose another moment; nothing was written.",
            )
        chosen |= {one.path: one for one in hits}
    return [one for one in chosen.values() if one.path != ROOT]


class _Writer:
    """Writes items below one root, and proves what the disk gives back.

    Args:
        root: file or folder to create.
        items: folders before what they hold.
        is_folder: whether the root is one.
    """

    def __init__(self, root: Path, items: Sequence[_Item], *, is_folder: bool) -> None:
        self._root = root
        self._is_folder = is_folder
        self._items = items
        self._by_id = {one.item_id: one for one in items}
        self._linked: dict[tuple[tuple[int, ...], bytes], Path] = {}

    def run(self, vault: NetworkVault, manifest: Manifest) -> int:
        """Write everything; how many bytes.

        Raises:
            CorruptObjectError: something is damaged, in the vault or on the way to the disk.
        """
        self._make_folders()
        size_bytes = self._write_contents(vault, manifest)
        self._prove()
        for item in reversed(self._items):  # what a folder holds before its own mode and sync
            self._finish(item)
        if self._is_folder:
            sync_folder(self._root)
        return size_bytes

    def _place(self, item: _Item) -> Path:
        if not self._is_folder or item.path == ROOT:
            return self._root
        return self._root / os.fsdecode(item.path)

    def _make_folders(self) -> None:
        if not self._is_folder:
            return
        self._root.mkdir(mode=0o700)
        for item in self._items:
            place = self._place(item)
            if item.attributes.type == "folder":
                place.mkdir(mode=0o700, parents=True, exist_ok=True)
            else:  # of single paths, the folders above are not among the items
                place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)

    def _write_contents(self, vault: NetworkVault, manifest: Manifest) -> int:
        size_bytes = 0
        with ExitStack() as stack:
            file = None
            offset = 0
            for part in read_contents(vault, manifest):
                if isinstance(part.plain, CorruptObjectError):
                    raise part.plain
                item = self._by_id[part.row.item_id]
                size_bytes += len(part.plain)
                if item.attributes.type == "link":
                    self._place(item).symlink_to(os.fsdecode(part.plain))
                if item.attributes.type != "file":
                    continue
                if part.row.chunk == 0:
                    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                    file = os.open(self._place(item), flags, 0o600)
                    stack.callback(os.close, file)
                    offset = 0
                assert file is not None
                offset = _write(file, part.plain, offset)
                if part.is_last:
                    os.ftruncate(file, offset)
                    stack.close()
        return size_bytes

    def _prove(self) -> None:
        """Make every file durable, read it back and compare it with its digest.

        By threads, after all is written: one commit of the file system's journal then serves many.
        """
        files = [one for one in self._items if one.attributes.type == "file"]
        with ThreadPoolExecutor(_SYNC_THREADS, thread_name_prefix="vault-restore") as pool:
            for item, digest in zip(files, pool.map(self._synced_digest, files), strict=True):
                if digest != item.digest:
                    raise CorruptObjectError(
                        f"{item.item_id}: what was written does not read back",
                        hint="Check the disk of the target; nothing was changed.",
                    )

    def _synced_digest(self, item: _Item) -> bytes:
        whole = hashlib.sha256()
        with self._place(item).open("rb", buffering=0) as file:
            os.fsync(file.fileno())
            while piece := file.read(_READ_BYTES):
                whole.update(piece)
        return whole.digest()

    def _finish(self, item: _Item) -> None:
        """Owner, mode, times, names in common; folders are synced."""
        place, found = self._place(item), item.attributes
        if os.geteuid() == 0:
            os.chown(place, found.uid, found.gid, follow_symlinks=False)
        if found.type == "link":
            return
        if found.type == "folder":
            sync_folder(place)
        place.chmod(found.mode | 0o700 if item.path == ROOT else found.mode)
        if found.type == "file":
            os.utime(place, ns=(found.mtime_ns, found.mtime_ns))
            self._link(item, place)

    def _link(self, item: _Item, place: Path) -> None:
        """Give files that were one under several names one content again."""
        if not item.attributes.hard_link:
            return
        key = (item.attributes.hard_link, item.digest)
        first = self._linked.setdefault(key, place)
        if first != place:
            place.unlink()
            place.hardlink_to(first)


def _write(file: int, plain: bytes, offset: int) -> int:
    """Write a blob at its place, leaving a hole where it is all zeros; the next place."""
    if plain != bytes(len(plain)):
        view = memoryview(plain)
        at = offset
        while view:
            written = os.pwrite(file, view, at)
            view = view[written:]
            at += written
    return offset + len(plain)
