"""Reading manifests: the snapshot of a chain, resolved from what was read last if that serves."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from fleet.pack_keys import PackKeys
from fleet.ports.object_store import ObjectStore
from fleet.vault_keyspace import manifest_key
from resources.vault.packs.manifest import (
    Manifest,
    ManifestRef,
    resolve_chain,
)
from resources.vault.packs.manifest_codec import decode_manifest

_CACHED_BYTES = 16 * 1024 * 1024
"""Deltas of a whole chain; a full manifest of 100,000 agents is not kept beside what it gave."""


class ManifestStore:
    """Reads the manifests of a network; what was read is kept, because nothing ever changes.

    Args:
        store: where the vault lies.
        keys: of the network.
    """

    def __init__(self, store: ObjectStore, keys: PackKeys) -> None:
        """Start with an empty cache."""
        self._store = store
        self._keys = keys
        self._cache: OrderedDict[str, Manifest] = OrderedDict()
        """What of the chain read last is small; an older snapshot of it is read from there."""
        self._resolved: tuple[tuple[ManifestRef, ...], Manifest] | None = None

    def read(self, chain: Sequence[ManifestRef]) -> Manifest:
        """The snapshot of a chain (base first).

        A chain that goes on from the one read last is resolved from there: its deltas alone.

        Raises:
            NotFoundError: a manifest is missing.
            CorruptObjectError: one is damaged.
        """
        refs = tuple(chain)
        if self._resolved is None or self._resolved[0] != refs:
            self._resolved = (refs, self._resolve(refs))
        return self._resolved[1]

    def open_one(self, ref: ManifestRef, base: str | None) -> Manifest:
        """One manifest of a chain by itself: its own rows, tombstones included, and their packs.

        Args:
            ref: which.
            base: SHA-256 of the one before it in the chain; None for a full manifest.

        Raises:
            NotFoundError: it is missing.
            CorruptObjectError: it is damaged, or no manifest on that base.
        """
        return self._one(ref, base)

    def _resolve(self, refs: tuple[ManifestRef, ...]) -> Manifest:
        parts: list[Manifest] = []
        done = 0
        resolved, self._resolved = self._resolved, None  # it goes while the next one is made
        if resolved is not None and refs[: len(resolved[0])] == resolved[0]:
            parts, done = [resolved[1]], len(resolved[0])
        del resolved
        self._cache = OrderedDict(
            (one.sha256, self._cache[one.sha256]) for one in refs if one.sha256 in self._cache
        )
        bases = [None, *(one.sha256 for one in refs[:-1])]
        rest = zip(refs[done:], bases[done:], strict=True)
        parts += (self._one(ref, base) for ref, base in rest)
        return resolve_chain(parts)

    def _one(self, ref: ManifestRef, base: str | None) -> Manifest:
        if ref.sha256 in self._cache:
            self._cache.move_to_end(ref.sha256)
            return self._cache[ref.sha256]
        key = manifest_key(self._keys.network_id, ref.owner, ref.sha256)
        manifest = decode_manifest(self._keys, self._store.get(key), ref.sha256, base)
        self._cache[ref.sha256] = manifest
        held = sum(one.table.nbytes for one in self._cache.values())
        while self._cache and held > _CACHED_BYTES:
            _, dropped = self._cache.popitem(last=False)
            held -= dropped.table.nbytes
        return manifest
