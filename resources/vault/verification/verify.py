"""Verification levels V1 to V3: structure, stored bytes, everything decrypted.

V1 as a whole reads every record of the log and trusts no checkpoint: that is how a bad one is found
out; and it opens every manifest. The hourly V1 takes the records out of the log's checkpoints and
reads those behind them, and opens the manifests that no look has opened, or not for a week. That
the others are there, in their size, a listing says; their bytes are hashed by the scrub (V2) in its
parts. Anything doubtful about a checkpoint makes it a whole one.

Findings are collected, not raised: one damaged pack must not hide another. V0 is part of a backup.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from fleet.errors import CorruptObjectError, NotFoundError, SchemaMismatchError
from fleet.manifest_openings import Opening
from fleet.ports.object_store import ListedObject, ObjectStore
from fleet.vault_keys import decode_wrap
from fleet.vault_keyspace import VAULT_KEY, parse_place
from fleet.verification_sampling import is_in_parts, sample_size
from resources.vault.keys.key_store import read_vault
from resources.vault.keys.key_wraps import list_wraps
from resources.vault.network import NetworkVault
from resources.vault.packs.contents import prove_contents
from resources.vault.packs.manifest import Manifest, packs_of, select_items
from resources.vault.packs.process_memory import map_large_buffers
from resources.vault.packs.reading import prove_items
from resources.vault.verification.finding import Finding, Verification
from resources.vault.verification.log_checks import check_logs
from resources.vault.verification.snapshot_objects import SnapshotObjects

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


def verify_structure(
    vault: NetworkVault, *, whole: bool = True, known: Mapping[str, Opening] | None = None
) -> Verification:
    """V1: logs and their checkpoints agree, manifests open, every pack is there in its size.

    Args:
        vault: the opened network.
        whole: read every record of the logs; else those behind their checkpoints, and list all.
        known: snapshots whose manifests need not be opened while the listing shows what it showed
            when they were (`fleet.manifest_openings`); None opens all.
    """
    began_s, began_at = vault.clock.monotonic_s(), vault.clock.now()
    findings: list[Finding] = []
    vault = vault.afresh()
    listed = {one.key: one.size_bytes for one in vault.list_packs()}
    try:
        state = vault.log.read_whole() if whole else vault.log.refresh()
    except (CorruptObjectError, NotFoundError) as error:
        findings.append(Finding(f"log/{vault.network_id}", str(error)))
        return Verification("V1", 0, 0, vault.clock.monotonic_s() - began_s, tuple(findings))
    findings += check_identity(vault)
    findings += check_logs(vault, whole=whole)
    objects = SnapshotObjects(vault, listed, known or {}, began_at)
    wrong: dict[str, tuple[str, list[str]]] = {}
    looked: set[str] = set()
    for snapshot_id, record in state.live.items():
        try:
            expected = objects.expected(record)
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
    done = Verification("V1", len(looked) + state.head, size_bytes, seconds, tuple(findings))
    failed = {one for _, ids in wrong.values() for one in ids}
    return done._replace(opened=objects.openings(without=failed))


def check_identity(vault: NetworkVault) -> list[Finding]:
    """What is wrong with `vault.json` and the wraps of the network's data keys, without a key."""
    findings = []
    try:
        read_vault(vault.store)
    except (CorruptObjectError, NotFoundError, SchemaMismatchError) as error:
        findings.append(Finding(VAULT_KEY, str(error)))
    wraps = list_wraps(vault.store, vault.network_id).values()
    for key in [one.key for names in wraps for one in names.values()]:
        try:
            decode_wrap(vault.store.get(key), key)
        except (CorruptObjectError, NotFoundError, SchemaMismatchError) as error:
            findings.append(Finding(key, str(error)))
    return findings


def verify_stored(
    store: ObjectStore,
    network_id: str,
    *,
    workers: int | None = None,
    parts: Collection[int] | None = None,
) -> tuple[int, int, tuple[Finding, ...]]:
    """V2 without keys: the bytes of each pack and manifest match the hash that is its name.

    Args:
        store: the vault of any region.
        network_id: whose objects.
        workers: threads; None for one per core, at most 8.
        parts: of `fleet.scrub_plan`, so that a week covers all; None for all at once.

    Returns:
        Objects, bytes, findings.
    """
    folders = (f"{kind}/{network_id}/" for kind in ("packs", "manifests"))
    listed = [one for folder in folders for one in store.list_objects(folder)]
    # A key that is nothing a vault writes belongs to no part: it is named every time.
    listed = [
        one for one in listed if (name := name_of(one.key)) is None or is_in_parts(name, parts)
    ]
    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        found = list(pool.map(lambda one: _rehash(store, one), listed))
    return len(listed), sum(one.size_bytes for one in listed), tuple(f for f in found if f)


def verify_bytes(vault: NetworkVault, parts: Collection[int] | None = None) -> Verification:
    """V2: every stored pack and manifest (of some parts: `fleet.scrub_plan`) is re-hashed."""
    began_s = vault.clock.monotonic_s()
    items, size_bytes, findings = verify_stored(vault.store, vault.network_id, parts=parts)
    return Verification("V2", items, size_bytes, vault.clock.monotonic_s() - began_s, findings)


def verify_content(
    vault: NetworkVault,
    snapshot_ids: Sequence[str] | None = None,
    *,
    sample_share: float = 1.0,
    seed: int = 0,
) -> Verification:
    """V3: decrypt, decompress and hash the states and files of snapshots.

    Args:
        vault: the opened network.
        snapshot_ids: None for the newest; `select_snapshots` adds a random older one.
        sample_share: share of each snapshot's items that is read, more than 0; at least one item.
        seed: chooses them; the same seed chooses the same ones.
    """
    sample_size(1, sample_share)
    map_large_buffers()
    began_s = vault.clock.monotonic_s()
    findings: dict[str, tuple[str, set[str], set[str]]] = {}
    vault = vault.afresh()
    items = size_bytes = 0
    try:
        live = vault.log.refresh().live
        chosen = list(live)[-1:] if snapshot_ids is None else list(snapshot_ids)
        for snapshot_id in chosen:
            try:
                manifest = vault.read_manifest(vault.snapshot(snapshot_id))
                manifest = _sample(manifest, sample_share, seed)
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

            states = prove_items(
                vault.store, vault.keys, manifest, on_damage=note, compare_ids=True
            )
            items += states.items
            size_bytes += states.size_bytes
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


def _sample(manifest: Manifest, share: float, seed: int) -> Manifest:
    """Some items with all their pieces, drawn by seed."""
    if share >= 1:
        return manifest
    ids = manifest.table["item_id"].unique().to_pylist()
    drawn = random.Random(seed).sample(sorted(ids), sample_size(len(ids), share))
    table = select_items(manifest.table, drawn)
    return Manifest(table, packs_of(table, manifest.packs))


def name_of(key: str) -> str | None:
    """The hash that an object is named by; None for a key that a vault does not write."""
    try:
        name = parse_place(key, 0).sha256
    except CorruptObjectError:
        return None
    return name if _SHA256.fullmatch(name) else None


def _rehash(store: ObjectStore, listed: ListedObject) -> Finding | None:
    name = name_of(listed.key)
    if name is None:
        return Finding(listed.key, "is nothing that a vault writes")
    try:
        found = hashlib.sha256(store.get(listed.key)).hexdigest()
    except NotFoundError:
        return Finding(listed.key, "gone since it was listed")
    return None if found == name else Finding(listed.key, f"SHA-256 is {found}")
