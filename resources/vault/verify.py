"""Verification levels V1 to V3: structure, stored bytes, everything decrypted.

Findings are collected, not raised: one damaged pack must not hide another. V0 is part of a backup.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from fleet.errors import CorruptObjectError, NotFoundError
from fleet.ports.object_store import ListedObject, ObjectStore
from fleet.vault_keyspace import manifest_key, pack_key, parse_place
from fleet.vault_log import SnapshotRecord
from resources.vault.contents import prove_contents
from resources.vault.network import NetworkVault, chain_of
from resources.vault.reading import read_items


class Finding(NamedTuple):
    """Something wrong in a vault."""

    subject: str
    """Key of the object, or id of the snapshot."""
    problem: str
    snapshots: tuple[str, ...] = ()
    """Live snapshots that it concerns."""
    agents: tuple[str, ...] = ()
    """Agents that cannot be read because of it, where the level can tell."""


class Verification(NamedTuple):
    """Evidence: what was looked at, and what was found."""

    level: str
    items: int
    """V1: objects; V2: objects re-hashed; V3: states and files decrypted."""
    size_bytes: int
    seconds: float
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


def verify_structure(vault: NetworkVault) -> Verification:
    """V1: the log is whole and authentic, manifests open, every named pack is there in its size."""
    began_s = vault.clock.monotonic_s()
    findings: list[Finding] = []
    vault = _afresh(vault)
    listed = {one.key: one.size_bytes for one in vault.list_packs()}
    try:
        state = vault.log.refresh()
    except (CorruptObjectError, NotFoundError) as error:
        findings.append(Finding(f"log/{vault.network_id}", str(error)))
        return Verification("V1", 0, 0, vault.clock.monotonic_s() - began_s, tuple(findings))
    wrong: dict[str, tuple[str, list[str]]] = {}
    looked: set[str] = set()
    for snapshot_id, record in state.live.items():
        try:
            expected = _expected_objects(vault, record)
        except (CorruptObjectError, NotFoundError) as error:
            findings.append(Finding(snapshot_id, str(error), (snapshot_id,)))
            continue
        looked.update(expected)
        for key, size in expected.items():
            if listed.get(key) != size:
                problem = f"recorded {size} bytes, listed {listed.get(key, 'nothing')}"
                wrong.setdefault(key, (problem, []))[1].append(snapshot_id)
    findings += [Finding(key, text, tuple(ids)) for key, (text, ids) in sorted(wrong.items())]
    size_bytes = sum(listed.get(key, 0) for key in looked)
    seconds = vault.clock.monotonic_s() - began_s
    return Verification("V1", len(looked) + state.head, size_bytes, seconds, tuple(findings))


def verify_stored(
    store: ObjectStore, network_id: str, *, workers: int | None = None
) -> tuple[int, int, tuple[Finding, ...]]:
    """V2 without keys: the bytes of each pack and manifest match the hash that is its name.

    Args:
        store: the vault of any region.
        network_id: whose objects.
        workers: threads; None for one per core, at most 8.

    Returns:
        Objects, bytes, findings.
    """
    folders = (f"{kind}/{network_id}/" for kind in ("packs", "manifests"))
    listed = [one for folder in folders for one in store.list_objects(folder)]
    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        found = list(pool.map(lambda one: _rehash(store, one), listed))
    return len(listed), sum(one.size_bytes for one in listed), tuple(f for f in found if f)


def verify_bytes(vault: NetworkVault) -> Verification:
    """V2: every stored pack and manifest is re-hashed; needs no key."""
    began_s = vault.clock.monotonic_s()
    items, size_bytes, findings = verify_stored(vault.store, vault.network_id)
    return Verification("V2", items, size_bytes, vault.clock.monotonic_s() - began_s, findings)


def verify_content(vault: NetworkVault, snapshot_ids: Sequence[str] | None = None) -> Verification:
    """V3: decrypt, decompress and hash every state and file of snapshots (None: of the newest)."""
    began_s = vault.clock.monotonic_s()
    findings: dict[str, tuple[str, set[str], set[str]]] = {}
    vault = _afresh(vault)
    items = size_bytes = 0
    try:
        live = vault.log.refresh().live
        chosen = list(live)[-1:] if snapshot_ids is None else list(snapshot_ids)
        for snapshot_id in chosen:
            try:
                manifest = vault.manifests.read(chain_of(vault.snapshot(snapshot_id)))
            except (CorruptObjectError, NotFoundError) as error:
                findings[snapshot_id] = (str(error), {snapshot_id}, set())
                continue

            def note(
                pack: str,
                agents: Sequence[str],
                error: CorruptObjectError,
                snapshot: str = snapshot_id,
            ) -> None:
                found = findings.setdefault(pack, (str(error), set(), set()))
                found[1].add(snapshot)
                found[2].update(agents)

            for item in read_items(vault.store, vault.keys, manifest, on_damage=note):
                items += 1
                size_bytes += len(item.body)
            for content in prove_contents(vault, manifest, on_damage=note):
                items += 1
                size_bytes += content.size_bytes
    except (CorruptObjectError, NotFoundError) as error:
        findings[f"log/{vault.network_id}"] = (str(error), set(), set())
    listed = tuple(
        Finding(subject, text, tuple(sorted(snapshots)), tuple(sorted(agents)))
        for subject, (text, snapshots, agents) in sorted(findings.items())
    )
    return Verification("V3", items, size_bytes, vault.clock.monotonic_s() - began_s, listed)


def _afresh(vault: NetworkVault) -> NetworkVault:
    """The same vault without anything cached: a verification looks at what is stored now."""
    return NetworkVault(vault.store, vault.keys, vault.clock, vault.epoch)


def _expected_objects(vault: NetworkVault, record: SnapshotRecord) -> dict[str, int]:
    """Key and size of everything that a snapshot reads."""
    network_id = vault.network_id
    chain = chain_of(vault.snapshot(record.snapshot_id))
    manifest = vault.manifests.read(chain)
    unlisted = manifest.packs.keys() - record.packs
    if unlisted:
        raise CorruptObjectError(
            f"snapshot {record.snapshot_id} reads pack {min(unlisted)}, which its record lacks"
        )
    expected = {
        pack_key(network_id, one.owner, sha256): one.size_bytes
        for sha256, one in manifest.packs.items()
    }
    expected |= {manifest_key(network_id, one.owner, one.sha256): one.size_bytes for one in chain}
    return expected


def _rehash(store: ObjectStore, listed: ListedObject) -> Finding | None:
    name = parse_place(listed.key, listed.size_bytes).sha256
    try:
        found = hashlib.sha256(store.get(listed.key)).hexdigest()
    except NotFoundError:
        return Finding(listed.key, "gone since it was listed")
    return None if found == name else Finding(listed.key, f"SHA-256 is {found}")
