"""Verification levels V1 to V3: structure, stored bytes, everything decrypted.

V1 reads every record of the log and trusts no checkpoint: that is how a bad one is found out.

Findings are collected, not raised: one damaged pack must not hide another. V0 is part of a backup.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, NamedTuple

from fleet.backup_evidence import ENGINE_VERSION, VerificationEvidence
from fleet.errors import CorruptObjectError, NotFoundError, SchemaMismatchError
from fleet.ports.object_store import ListedObject, ObjectStore
from fleet.vault_keys import decode_wrap
from fleet.vault_keyspace import VAULT_KEY, manifest_key, pack_key, parse_place
from fleet.vault_log import SnapshotRecord
from fleet.verification_sampling import is_in_slice, sample_size
from resources.vault.keys.key_store import read_vault
from resources.vault.keys.key_wraps import list_wraps
from resources.vault.log.checkpoint_checks import check_checkpoints
from resources.vault.network import NetworkVault, chain_of
from resources.vault.packs.contents import prove_contents
from resources.vault.packs.manifest import Manifest, packs_of, select_items
from resources.vault.packs.pack_maps import packs_to_read
from resources.vault.packs.process_memory import map_large_buffers
from resources.vault.packs.reading import prove_items

_NAMED = 20
"""Agents and snapshots that one failure spells out."""
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


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
    """V1: logs and their checkpoints agree, manifests open, every pack is there in its size."""
    began_s = vault.clock.monotonic_s()
    findings: list[Finding] = []
    vault = vault.afresh()
    listed = {one.key: one.size_bytes for one in vault.list_packs()}
    try:
        state = vault.log.read_whole()
    except (CorruptObjectError, NotFoundError) as error:
        findings.append(Finding(f"log/{vault.network_id}", str(error)))
        return Verification("V1", 0, 0, vault.clock.monotonic_s() - began_s, tuple(findings))
    wrong: dict[str, tuple[str, list[str]]] = {}
    looked: set[str] = set()
    findings += check_identity(vault)
    findings += _check_log_checkpoints(vault)
    for snapshot_id, record in state.live.items():
        try:
            expected = expected_objects(vault, record)
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


def _check_log_checkpoints(vault: NetworkVault) -> list[Finding]:
    """What is wrong with the checkpoints of the log, and with the region's own log and its."""
    findings = []
    for log in vault.logs():
        try:
            faults = check_checkpoints(log)
        except (CorruptObjectError, NotFoundError) as error:
            findings.append(Finding(log.folder, str(error)))
            continue
        findings += [Finding(one.key, one.problem) for one in faults]
    return findings


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
    store: ObjectStore, network_id: str, *, workers: int | None = None, part: int | None = None
) -> tuple[int, int, tuple[Finding, ...]]:
    """V2 without keys: the bytes of each pack and manifest match the hash that is its name.

    Args:
        store: the vault of any region.
        network_id: whose objects.
        workers: threads; None for one per core, at most 8.
        part: of `slice_of(day)`, so that a week covers all; None for all at once.

    Returns:
        Objects, bytes, findings.
    """
    folders = (f"{kind}/{network_id}/" for kind in ("packs", "manifests"))
    listed = [one for folder in folders for one in store.list_objects(folder)]
    # A key that is nothing a vault writes is looked at every day.
    listed = [one for one in listed if is_in_slice(_name_of(one.key) or "0" * 8, part)]
    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        found = list(pool.map(lambda one: _rehash(store, one), listed))
    return len(listed), sum(one.size_bytes for one in listed), tuple(f for f in found if f)


def verify_bytes(vault: NetworkVault, part: int | None = None) -> Verification:
    """V2: every stored pack and manifest (of a part: `slice_of`) is re-hashed; needs no key."""
    began_s = vault.clock.monotonic_s()
    items, size_bytes, findings = verify_stored(vault.store, vault.network_id, part=part)
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


def evidence_of(
    vault: NetworkVault,
    done: Verification,
    started_at: datetime,
    snapshot_id: str = "",
    detail: Mapping[str, Any] | None = None,
) -> VerificationEvidence:
    """A verification as evidence of the vault's region, ready for `record_evidence`.

    Args:
        vault: opened with its region.
        done: what was found.
        started_at: by the clock of whoever ran it.
        snapshot_id: that was verified; '' for the newest live one.
        detail: slice, seed, share: what makes it repeatable.
    """
    live = list(vault.log.refresh().live) if not snapshot_id else []
    return VerificationEvidence(
        network_id=vault.network_id,
        region=vault.region,
        level=done.level,
        snapshot_id=snapshot_id or (live[-1] if live else ""),
        started_at=started_at,
        seconds=done.seconds,
        items=done.items,
        bytes_checked=done.size_bytes,
        failures=tuple(_in_words(one) for one in done.findings),
        code_version=ENGINE_VERSION,
        detail=dict(detail or {}),
    )


def _in_words(finding: Finding) -> str:
    parts = [f"{finding.subject}: {finding.problem}"]
    if finding.snapshots:
        parts.append(f"snapshots {', '.join(finding.snapshots[:_NAMED])}")
    if finding.agents:
        more = len(finding.agents) - _NAMED
        tail = f" and {more} more" if more > 0 else ""
        parts.append(f"agents {', '.join(finding.agents[:_NAMED])}{tail}")
    return "; ".join(parts)


def _name_of(key: str) -> str | None:
    """The hash that an object is named by; None for a key that a vault does not write."""
    try:
        name = parse_place(key, 0).sha256
    except CorruptObjectError:
        return None
    return name if _SHA256.fullmatch(name) else None


def expected_objects(vault: NetworkVault, record: SnapshotRecord) -> dict[str, int]:
    """Key and size of everything that a snapshot reads."""
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


def _rehash(store: ObjectStore, listed: ListedObject) -> Finding | None:
    name = _name_of(listed.key)
    if name is None:
        return Finding(listed.key, "is nothing that a vault writes")
    try:
        found = hashlib.sha256(store.get(listed.key)).hexdigest()
    except NotFoundError:
        return Finding(listed.key, "gone since it was listed")
    return None if found == name else Finding(listed.key, f"SHA-256 is {found}")
