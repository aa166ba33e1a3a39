"""A vault written by the first code of format 1 is read by every later one."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fleet.vault_keys import KeyEncryptionKey
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.network import NetworkVault, open_network
from resources.vault.restores.restore import ControlStoreTarget, restore
from resources.vault.retention.removal import collect_garbage, sweep
from resources.vault.snapshots.backup import back_up
from resources.vault.verification.verify import verify_bytes, verify_content, verify_structure
from tests.fakes.clock import ManualClock
from tests.fakes.control_store import InMemoryControlStore
from tests.fakes.vault_fleet import VaultFleet

GOLDEN = Path(__file__).parents[2] / "golden" / "vault_v1"
KEKS = (KeyEncryptionKey("offline", b"o" * 32), KeyEncryptionKey("region", b"r" * 32))
EXPECTED: Mapping[str, Any] = json.loads((GOLDEN / "expected.json").read_text())


@pytest.fixture
def store(tmp_path: Path) -> DirectoryObjectStore:
    """A copy that may be written to."""
    shutil.copytree(GOLDEN / "objects", tmp_path / "vault")
    return DirectoryObjectStore(tmp_path / "vault")


def opened(store: DirectoryObjectStore, *keks: KeyEncryptionKey) -> NetworkVault:
    """The golden network, a day later."""
    clock = ManualClock(datetime.fromisoformat("2026-11-22T00:00:00+00:00"))
    return open_network(store, "net", keks, clock)


def restored(vault: NetworkVault, snapshot_id: str) -> dict[str, str]:
    """Bodies of a snapshot, as hexadecimal text."""
    empty = InMemoryControlStore(vault.clock)  # type: ignore[arg-type]
    fleet = VaultFleet(6)
    fleet.declare(empty, fleet.agent_ids)
    restore(vault, ControlStoreTarget(empty), snapshot_id=snapshot_id)
    return {one.agent_id: one.body.hex() for one in empty.states(fleet.agent_ids)}


@pytest.mark.parametrize("kek", KEKS, ids=lambda kek: kek.kek_id)
def test_every_live_snapshot_of_the_golden_vault_restores_byte_for_byte(
    store: DirectoryObjectStore, kek: KeyEncryptionKey
) -> None:
    """With either of its two keys."""
    vault = opened(store, kek)
    assert vault.log.refresh().live.keys() == EXPECTED.keys()
    for snapshot_id, expected in EXPECTED.items():
        assert restored(vault, snapshot_id) == expected["bodies"]
    assert verify_structure(vault).ok
    assert verify_bytes(vault).ok
    assert verify_content(vault, list(EXPECTED)).ok


def test_the_golden_vault_is_extended_swept_and_still_restores(store: DirectoryObjectStore) -> None:
    """New code goes on where the old one stopped; the old objects keep their bytes."""
    before = {
        one.key: hashlib.sha256(store.get(one.key)).digest() for one in store.list_objects("")
    }
    vault, fleet = opened(store, *KEKS), VaultFleet(6)
    result = back_up(vault, fleet.store)
    collect_garbage(vault, timedelta(0))
    swept = sweep(vault, timedelta(0))
    assert swept.objects == 1
    for snapshot_id, expected in EXPECTED.items():
        assert restored(vault, snapshot_id) == expected["bodies"]
    assert restored(vault, result.snapshot_id) == {
        agent_id: body.hex() for agent_id, body in fleet.bodies().items()
    }
    after = {one.key: hashlib.sha256(store.get(one.key)).digest() for one in store.list_objects("")}
    assert before.keys() - after.keys() == {
        key for key in before if key.startswith("manifests/net/01M7WQHDC0")
    }
    assert {key: after[key] for key in before if key in after}.items() <= before.items()
