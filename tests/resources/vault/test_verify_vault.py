"""Damage is detected by its level, named, and never handed out as data; removal is reversible."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from pathlib import Path

import pytest

from fleet.errors import (
    CorruptObjectError,
    NotFoundError,
    PermanentError,
    StoreUnavailableError,
)
from fleet.ports.object_store import ObjectStore
from fleet.vault_keyspace import VAULT_KEY
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.keys.key_wraps import wrap_object_key
from resources.vault.replicas.replicate import replicate
from resources.vault.retention.removal import (
    collect_garbage,
    forget,
    hold,
    release,
    sweep,
    undelete,
)
from resources.vault.snapshots.backup import back_up
from resources.vault.verification.verify import verify_bytes, verify_content, verify_structure
from tests.fakes.crashing_store import CrashingStore
from tests.fakes.object_store import InMemoryObjectStore
from tests.fakes.vault_fleet import VaultFleet

DAMAGES = {
    "flip first": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "flip middle": lambda d: d[: len(d) // 2] + bytes([d[len(d) // 2] ^ 1]) + d[len(d) // 2 + 1 :],
    "flip last": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "cut by one": lambda data: data[:-1],
    "cut in half": lambda data: data[: len(data) // 2],
    "emptied": lambda data: b"",
    "garbage": lambda data: b"\x00" * len(data),
    "deleted": lambda data: None,
}


@pytest.fixture
def fleet() -> VaultFleet:
    """Six agents."""
    return VaultFleet(6)


def three_snapshots(fleet: VaultFleet, root: Path) -> tuple[DirectoryObjectStore, list[str]]:
    """A vault with three snapshots."""
    store = DirectoryObjectStore(root)
    store.create(VAULT_KEY, b'{"format":1,"vault_id":"v"}')
    ids = []
    for number in range(3):
        fleet.clock.advance(3600)
        fleet.change(fleet.agent_ids[number])
        ids.append(back_up(fleet.vault(store), fleet.store).snapshot_id)
    return store, ids


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_to_any_object_is_found_and_never_restored(
    tmp_path: Path, fleet: VaultFleet, damage: str
) -> None:
    """Bytes by V2, structure by V1; a restore gives the right bytes or an error.

    The last record of a log may be deleted unnoticed by that log alone: a replica shows it. The
    last checkpoint may be missing: it is written again.
    """
    root = tmp_path / "vault"
    store, ids = three_snapshots(fleet, root)
    good = {one: fleet.restored(store, one) for one in ids}
    keys = [one.key for one in store.list_objects("") if one.key != VAULT_KEY]
    last = [max(key for key in keys if key.startswith(one)) for one in ("log/", "checkpoints/")]
    for key in keys:
        path, original = root / key, store.get(key)
        changed = DAMAGES[damage](original)
        if changed is None and key in last:
            continue
        path.unlink()
        if changed is not None:
            path.write_bytes(changed)
        vault = fleet.vault(store)
        structure, stored = verify_structure(vault), verify_bytes(vault)
        if changed is None or len(changed) != len(original) or not key.startswith("packs/"):
            assert not structure.ok, key
        if changed is not None and not key.startswith(("log/", "checkpoints/")):
            assert [one.subject for one in stored.findings] == [key]
        for one in ids:
            try:
                assert fleet.restored(store, one) == good[one]
            except (CorruptObjectError, NotFoundError):
                assert not (structure.ok and stored.ok)
        path.unlink(missing_ok=True)
        path.write_bytes(original)
    assert verify_structure(fleet.vault(store)).ok
    assert verify_content(fleet.vault(store), ids).items == 3 * len(fleet.agent_ids)


def test_full_decryption_names_snapshots_and_agents(tmp_path: Path, fleet: VaultFleet) -> None:
    """Two packs with exchanged contents, and one that is missing."""
    store, ids = three_snapshots(fleet, tmp_path)
    first, second = (tmp_path / one.key for one in store.list_objects("packs/")[1:])
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    found = verify_content(fleet.vault(store), ids).findings
    assert {agent for finding in found for agent in finding.agents} == {"agent-0001", "agent-0002"}
    assert {snapshot for finding in found for snapshot in finding.snapshots} == set(ids[1:])
    first.unlink()
    assert not verify_structure(fleet.vault(store)).ok
    assert any("missing" in one.problem for one in verify_content(fleet.vault(store)).findings)


def test_a_distrusted_pack_is_stored_again_from_the_live_states(
    tmp_path: Path, fleet: VaultFleet
) -> None:
    """What the damaged pack held is whole again in the next snapshot."""
    store, _ = three_snapshots(fleet, tmp_path)
    pack = tmp_path / store.list_objects("packs/")[0].key
    pack.write_bytes(b"x" * pack.stat().st_size)
    result = back_up(fleet.vault(store), fleet.store, distrusted=frozenset({pack.stem}))
    assert result.rescued == 4
    assert fleet.restored(store, result.snapshot_id) == fleet.bodies()


def test_forgetting_is_undone_until_a_gc(tmp_path: Path, fleet: VaultFleet) -> None:
    """Held, unknown and last snapshots are not forgotten; shared packs stay."""
    store, ids = three_snapshots(fleet, tmp_path)
    vault = fleet.vault(store)
    held = hold(vault, [ids[0]], "audit")
    for wanted, why in (([ids[0]], "held"), (["nobody"], "not live")):
        with pytest.raises(PermanentError, match=why):
            forget(vault, wanted)
    release(vault, held)
    release(vault, held)
    with pytest.raises(PermanentError, match="no live snapshot"):
        forget(vault, ids)
    forget(vault, ids[:1])
    forget(vault, ids[:1])
    undelete(vault, ids[0])
    assert list(vault.log.refresh().live) == [*ids[1:], ids[0]]
    forget(vault, ids[:1])
    result = collect_garbage(vault)
    assert (result.condemned, result.aborted) == (1, 0)
    assert collect_garbage(vault).condemned == 0
    with pytest.raises(PermanentError, match="condemned"):
        undelete(vault, ids[0])
    assert sweep(vault).objects == 0
    fleet.clock.advance(timedelta(hours=25).total_seconds())
    assert sweep(vault).objects == 1
    assert fleet.restored(store, ids[2]) == fleet.bodies()
    assert verify_structure(vault).ok


def test_a_replica_restores_alone_and_refuses_another_history(
    tmp_path: Path, fleet: VaultFleet
) -> None:
    """After the source has swept as well; a diverged replica is not written to."""
    store, ids = three_snapshots(fleet, tmp_path / "one")
    forget(fleet.vault(store), ids[:1])
    collect_garbage(fleet.vault(store))
    sweep(fleet.vault(store), timedelta(0))
    replica = DirectoryObjectStore(tmp_path / "two")
    assert replicate(fleet.vault(store), fleet.vault(replica)).records == 5
    assert replicate(fleet.vault(store), fleet.vault(replica)).objects == 0
    assert fleet.restored(replica, ids[2]) == fleet.bodies()
    hold(fleet.vault(replica), [ids[2]], "written by the other region")
    with pytest.raises(PermanentError, match="no prefix"):
        replicate(fleet.vault(store), fleet.vault(replica))
    other = DirectoryObjectStore(tmp_path / "three")
    other.create(VAULT_KEY, b"{}")
    with pytest.raises(PermanentError, match="another vault"):
        replicate(fleet.vault(store), fleet.vault(other))


class FlippingStore(CrashingStore):
    """Turns a bit of one reading over, of objects below `keys/` and of the vault's identity."""

    flip_at = 0
    """Which of these readings; 0 for none."""

    def __init__(self, inner: ObjectStore) -> None:
        """Nothing is read yet."""
        super().__init__(inner)
        self.unproven: list[str] = []

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Noted."""
        data = super().get(key, offset, length)
        if key == VAULT_KEY or key.startswith("keys/"):
            self.unproven.append(key)
            if len(self.unproven) == self.flip_at:
                return bytes([data[0] ^ 1, *data[1:]])
        return data


def test_what_no_hash_proves_reaches_a_replica_as_it_was_or_not_at_all(
    tmp_path: Path, fleet: VaultFleet
) -> None:
    """A bit flips in any one reading: told, nothing wrong is kept, and the next run goes through.

    A replica that has them costs one reading of each side, and writes nothing.
    """
    home, _ = three_snapshots(fleet, tmp_path / "one")
    network_id = fleet.vault(home).network_id
    wraps = [wrap_object_key(f"{network_id}.0001", kek_id) for kek_id in ("home", "recovery")]
    for key in wraps:
        home.create(key, key.encode())
    for flip_at in range(1, 4 + 2 * len(wraps)):
        source, replica = FlippingStore(home), InMemoryObjectStore()
        source.flip_at = flip_at
        with contextlib.suppress(StoreUnavailableError):
            replicate(fleet.vault(source), fleet.vault(replica))
        replicate(fleet.vault(source), fleet.vault(replica))
        assert len(source.unproven) >= flip_at
        for key in (VAULT_KEY, *wraps):
            assert replica.get(key) == home.get(key)
    source, target = FlippingStore(home), FlippingStore(replica)
    replicate(fleet.vault(source), fleet.vault(target))
    assert source.unproven == target.unproven == [VAULT_KEY]
    assert target.counts["create"] == 0
