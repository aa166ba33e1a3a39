"""A manifest as bytes: Parquet, sealed as a whole.

The packs' owners, salts and sizes travel in the Parquet metadata, so that reading one agent needs
no request for its pack's header.
"""

from __future__ import annotations

import json
import os
from typing import Any

from fleet.errors import CorruptObjectError
from fleet.pack_keys import PackKeys
from fleet.vault_manifest import ManifestOpener, ManifestSealer, SealedManifest
from fleet.vault_pack import SALT_BYTES
from resources.vault.packs.manifest import (
    ATTRIBUTES,
    Manifest,
    PackInfo,
    arrow,
    manifest_schema,
)

_METADATA = b"stateroom"
_REPEATED = {"kind", "version", "chunk", "pack", "updated_at", "removed"}
"""Columns worth a Parquet dictionary; for the others it costs memory and gains nothing."""
_FORMAT = 1
_READ_ROWS = 1 << 17
"""Rows that are decoded at a time."""
_SMALL_ROWS = 1 << 13
"""A manifest of so few is read in one go, in a third of the time: nothing in it is large."""


def encode_manifest(keys: PackKeys, manifest: Manifest, base: str | None) -> SealedManifest:
    """Write as Parquet, and seal.

    Args:
        keys: of the network.
        manifest: rows in the order of `sort_rows`, and their packs.
        base: SHA-256 of the manifest this delta applies to; None for a full one.
    """
    import pyarrow.parquet as pq

    fields = {
        "format": _FORMAT,
        "network_id": keys.network_id,
        "base": base,
        "packs": {sha256: _pack_fields(one, keys.dek_id) for sha256, one in manifest.packs.items()},
    }
    table = manifest.table
    if table[ATTRIBUTES].null_count == len(table):
        # States have none: their manifests stay readable for versions that know no artefacts.
        table = table.drop_columns([ATTRIBUTES])
    table = table.replace_schema_metadata({_METADATA: json.dumps(fields, sort_keys=True)})
    sealer: Any = ManifestSealer(keys, os.urandom(SALT_BYTES))
    repeated: Any = [one for one in table.column_names if one in _REPEATED]
    pq.write_table(
        table, sealer, compression="zstd", row_group_size=1 << 20, use_dictionary=repeated
    )
    sealed: SealedManifest = sealer.sealed()
    return sealed


def _pack_fields(info: PackInfo, first_dek_id: str) -> list[Any]:
    """The data key is named only where it is not the first: other vaults stay as they were."""
    named = [info.dek_id] if info.dek_id not in {"", first_dek_id} else []
    return [info.owner, info.salt.hex(), info.size_bytes, *named]


def decode_manifest(keys: PackKeys, data: bytes, name: str, base: str | None) -> Manifest:
    """Open and read one manifest.

    Raises:
        CorruptObjectError: damaged, of another network or key, or on another base.
    """
    import pyarrow.parquet as pq

    pa = arrow()
    opened: Any = ManifestOpener(keys, data, name)
    del data
    try:
        table = _read_columns(pq.ParquetFile(opened))
        del opened
        fields = json.loads((table.schema.metadata or {})[_METADATA])
        packs = {
            sha256: PackInfo(owner, bytes.fromhex(salt), size, *dek_id)
            for sha256, (owner, salt, size, *dek_id) in fields["packs"].items()
        }
        found = (fields["format"], fields["network_id"], fields["base"])
        if ATTRIBUTES not in table.column_names:
            table = table.append_column(ATTRIBUTES, pa.nulls(len(table), pa.string()))
        table = table.replace_schema_metadata().cast(manifest_schema())
    except (pa.ArrowException, ValueError, KeyError, TypeError) as error:
        raise CorruptObjectError(f"manifest {name} cannot be read: {error}") from error
    if found != (_FORMAT, keys.network_id, base):
        raise CorruptObjectError(f"manifest {name} does not belong here: it is of {found}")
    return Manifest(table, packs)


def _read_columns(file: Any) -> Any:
    """A Parquet file's table, read column by column in parts: nothing but the table is large.

    Not `read_table`: its dataset machinery and threads weigh more than a network's rows.
    """
    pa = arrow()
    if file.metadata.num_rows <= _SMALL_ROWS:
        return file.read(use_threads=False)
    schema = file.schema_arrow
    columns = []
    for one in schema:
        batches = file.iter_batches(_READ_ROWS, columns=[one.name], use_threads=False)
        columns.append(pa.chunked_array([batch.column(0) for batch in batches], one.type))
    return pa.Table.from_arrays(columns, schema=schema)
