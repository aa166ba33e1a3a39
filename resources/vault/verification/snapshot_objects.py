"""What snapshots read, as V1 compares it with a listing: each manifest is opened once at most.

A snapshot that an earlier look has opened is compared with what was listed then. One that only adds
a delta to a snapshot seen before it needs no more than that delta. Whatever does not fit exactly is
resolved in full, which names the fault.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from fleet.errors import CorruptObjectError
from fleet.manifest_openings import Opening, digest_objects, reason_to_open
from fleet.vault_keyspace import manifest_key, pack_key, parse_place
from fleet.vault_log import SnapshotRecord
from fleet.vault_records import StoredRecord
from resources.vault.network import NetworkVault, chain_of
from resources.vault.packs.manifest import ManifestRef
from resources.vault.packs.pack_maps import packs_to_read

_Chain = tuple[ManifestRef, ...]


class _Base(NamedTuple):
    """A snapshot seen before, on which another may go on."""

    packs: Mapping[str, tuple[str, int]]
    """Key and size by name, without manifests."""
    opened_at: datetime


class SnapshotObjects:
    """The objects that the snapshots of a copy read; ask in the order of the log.

    Args:
        vault: whose log has been read, with no manifest in its cache.
        listed: size by key of all packs and manifests that are there.
        known: what earlier looks have opened.
        now: when this look began.
    """

    def __init__(
        self,
        vault: NetworkVault,
        listed: Mapping[str, int],
        known: Mapping[str, Opening],
        now: datetime,
    ) -> None:
        """Nothing is opened yet."""
        self._vault = vault
        self._listed = listed
        self._known = known
        self._now = now
        self._stored = {
            one.record.snapshot_id: one
            for one in vault.log.records
            if isinstance(one.record, SnapshotRecord)
        }
        self._key_of = _keys_by_name(listed)
        self._bases: dict[_Chain, _Base] = {}
        self._opened: dict[str, Opening] = {}

    def openings(self, without: Collection[str]) -> dict[str, Opening]:
        """The snapshots whose manifests were opened, but those found incomplete."""
        return {name: one for name, one in self._opened.items() if name not in without}

    def expected(self, record: SnapshotRecord) -> dict[str, int]:
        """Key and size of everything that a live snapshot reads.

        Args:
            record: as the log's state has it, with what a repack has moved.

        Raises:
            NotFoundError: a manifest is missing.
            CorruptObjectError: one is damaged, or reads what the record does not name.
        """
        stored = self._stored[record.snapshot_id]
        chain = chain_of(stored)
        opening = self._known.get(record.snapshot_id)
        due = reason_to_open(opening, chain[0].sha256, self._now.astimezone(UTC).date())
        found = None if due else self._as_listed(record)
        if opening is None or found is None or digest_objects(found) != opening.objects:
            found, opened_at = self._open(stored, record, chain)
            opening = Opening(digest_objects(found), opened_at)
            self._opened[record.snapshot_id] = opening
        if stored.record == record:  # else a repack has moved packs since
            names = {one.sha256 for one in chain}
            packs = {parse_place(key, size).sha256: (key, size) for key, size in found.items()}
            self._bases[chain] = _Base(
                {name: place for name, place in packs.items() if name not in names},
                opening.opened_at,
            )
        return found

    def _as_listed(self, record: SnapshotRecord) -> dict[str, int] | None:
        """What the listing shows of all that a record names; None where it lacks something."""
        keys = [self._key_of.get(name, "") for name in record.packs]
        return {key: self._listed[key] for key in keys} if all(keys) else None

    def _open(
        self, stored: StoredRecord, record: SnapshotRecord, chain: _Chain
    ) -> tuple[dict[str, int], datetime]:
        """Objects, and when the manifest of the chain that was opened longest ago was opened."""
        for base_chain in (chain, chain[:-1]):
            base = self._bases.get(base_chain)
            if base is not None:
                found = self._go_on(stored, record, base, chain, base_chain)
                if found is not None:
                    return found, base.opened_at
        return expected_objects(self._vault, record), self._now

    def _go_on(
        self,
        stored: StoredRecord,
        record: SnapshotRecord,
        base: _Base,
        chain: _Chain,
        base_chain: _Chain,
    ) -> dict[str, int] | None:
        """The objects of a snapshot by its last delta alone; None where that does not tell all.

        Rows of the base that the delta leaves alone lie in packs of the base: all of these must be
        among the snapshot's own. Where one is not, only the resolved chain shows whether it could
        be left out.
        """
        network_id = self._vault.network_id
        wanted = record.packs - {one.sha256 for one in chain}
        if stored.record != record or not base.packs.keys() <= wanted:
            return None
        places = dict(base.packs)
        for ref in chain[len(base_chain) :]:
            delta = self._vault.manifests.open_one(ref, chain[-2].sha256)
            for name, info in delta.packs.items():
                place = (pack_key(network_id, info.owner, name), info.size_bytes)
                if places.setdefault(name, place) != place:
                    return None
        if places.keys() != wanted:
            return None
        found = dict(places.values())
        return found | {
            manifest_key(network_id, one.owner, one.sha256): one.size_bytes for one in chain
        }


def expected_objects(vault: NetworkVault, record: SnapshotRecord) -> dict[str, int]:
    """Key and size of everything that a snapshot reads, by the rows of its whole chain.

    Raises:
        NotFoundError: a manifest is missing.
        CorruptObjectError: one is damaged, or reads what the record does not name.
    """
    network_id = vault.network_id
    stored = vault.snapshot(record.snapshot_id)
    chain = chain_of(stored)
    packs = packs_to_read(vault.read_manifest(stored).packs)
    unlisted = packs.keys() - record.packs
    if unlisted:
        raise CorruptObjectError(
            f"snapshot {record.snapshot_id} reads pack {min(unlisted)}, which its record lacks"
        )
    expected = {
        pack_key(network_id, one.owner, sha256): one.size_bytes for sha256, one in packs.items()
    }
    expected |= {manifest_key(network_id, one.owner, one.sha256): one.size_bytes for one in chain}
    return expected


def _keys_by_name(listed: Mapping[str, int]) -> dict[str, str]:
    """Key by the hash that it ends with; '' where two have the same, so that neither is trusted."""
    found: dict[str, str] = {}
    for key, size in listed.items():
        try:
            name = parse_place(key, size).sha256
        except CorruptObjectError:
            continue  # nothing that a vault writes: V2 names it
        found[name] = "" if name in found else key
    return found
