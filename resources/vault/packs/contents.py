"""Contents of artefacts as they come out of a vault: in order, each proven by its digest.

Memory is a few ranges, whatever the size of a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

from fleet.errors import CorruptObjectError
from resources.vault.network import NetworkVault
from resources.vault.packs.manifest import Manifest, kernels, of_kinds
from resources.vault.packs.ranges import StoredRow
from resources.vault.packs.reading import Damaged, read_in_order, where_to_read


class ContentPart(NamedTuple):
    """A blob of an item, or the error in its place."""

    row: StoredRow
    plain: bytes | CorruptObjectError
    is_last: bool
    """Of its item."""


class ProvenContent(NamedTuple):
    """An item that was read whole and equals its digest."""

    item_id: str
    size_bytes: int


def read_contents(vault: NetworkVault, manifest: Manifest) -> Iterator[ContentPart]:
    """The blobs of all items that are no states, item by item.

    An item of which a blob is missing from the manifest, or whose content differs from its digest,
    ends with an error in place of its last blob.
    """
    chosen = of_kinds(manifest, states=False)
    ends: dict[str, tuple[int, int]] = {}
    columns = (chosen.table[name].to_pylist() for name in ("item_id", "chunk"))
    for item_id, chunk in zip(*columns, strict=True):
        last, count = ends.get(item_id, (0, 0))
        ends[item_id] = (max(last, chunk), count + 1)
    whole = hashlib.sha256()
    for row, plain in read_in_order(vault.store, vault.keys, chosen):
        last, count = ends[row.item_id]
        if row.chunk == 0:
            whole = hashlib.sha256()
        if isinstance(plain, CorruptObjectError):
            yield ContentPart(row, plain, row.chunk == last)
            continue
        whole.update(plain)
        if row.chunk == last and (count != last + 1 or whole.digest() != row.digest):
            differs = CorruptObjectError(f"{row.item_id}: its blobs differ from its digest")
            yield ContentPart(row, differs, is_last=True)
            continue
        yield ContentPart(row, plain, row.chunk == last)


def prove_contents(
    vault: NetworkVault, manifest: Manifest, *, on_damage: Damaged
) -> Iterator[ProvenContent]:
    """Read every item that is no state; those that are whole, the others to `on_damage`."""
    size_bytes, damaged = 0, False
    chosen = of_kinds(manifest, states=False)
    for part in read_contents(vault, where_to_read(vault.store, vault.keys, chosen, on_damage)):
        if part.row.chunk == 0:
            size_bytes, damaged = 0, False
        if isinstance(part.plain, CorruptObjectError):
            if not damaged:
                on_damage(part.row.pack, [part.row.item_id], part.plain)
            damaged = True
            continue
        size_bytes += len(part.plain)
        if part.is_last and not damaged:
            yield ProvenContent(part.row.item_id, size_bytes)


def rows_of_artefact(manifest: Manifest, name: str) -> Manifest:
    """The rows of one artefact; none when the snapshot does not hold it."""
    table = manifest.table
    return manifest._replace(
        table=table.filter(kernels().starts_with(table["item_id"], f"{name}/"))
    )
