"""Artefacts in a vault that is killed, unanswered, collected, damaged: nothing good is lost."""

from __future__ import annotations

import random
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from fleet.backup import BackupScope
from fleet.errors import CorruptObjectError, NotFoundError, StoreUnavailableError
from fleet.ports.object_store import ObjectStore
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.retention.removal import collect_garbage, forget, sweep
from resources.vault.verification.verify import verify_content, verify_structure
from tests.fakes.artefact_vault import ArtefactVault, outcome, tree
from tests.fakes.crashing_store import CRASHES, Crashed, CrashingStore, count_operations

NOW = timedelta(0)


@pytest.fixture
def source(vault: ArtefactVault) -> Path:
    """A folder that has been backed up once and changed since."""
    folder = vault.root / "source"
    folder.mkdir()
    (folder / "large").write_bytes(random.Random(1).randbytes(600_000))
    (folder / "small").write_bytes(b"small")
    vault.declare("source", folder)
    vault.back_up()
    (folder / "small").write_bytes(b"changed")
    with (folder / "large").open("r+b") as file:
        file.write(b"x" * 100)
    return folder


@pytest.mark.parametrize("mode", CRASHES)
def test_a_backup_killed_at_any_store_operation_leaves_whole_snapshots(
    vault: ArtefactVault, source: Path, mode: str
) -> None:
    """For every operation k: what is live restores, and running again completes."""
    first = vault.restore("source")

    def copy(name: str) -> ObjectStore:
        shutil.copytree(vault.root / "vault", vault.root / name)
        return DirectoryObjectStore(vault.root / name)

    total = count_operations(copy("count"), vault.back_up)
    assert total >= 5
    for number in range(1, total + 1):
        store = copy(f"{mode}-{number}")
        try:
            vault.back_up(CrashingStore(store, number, mode))
        except Crashed:
            assert mode != "lost"
        except StoreUnavailableError:
            assert mode == "lost"
        found = tree(vault.restore("source", store=store))
        assert found in (tree(first), tree(source))
        vault.back_up(store)
        assert tree(vault.restore("source", store=store)) == tree(source)
        assert verify_structure(vault.vault(store)).findings == ()


def test_a_gc_during_a_backup_rescues_what_was_carried_over(
    vault: ArtefactVault, source: Path
) -> None:
    """Out of scope, so not read again: its blobs are copied out of the condemned packs."""
    other = vault.root / "other"
    other.mkdir()
    (other / "file").write_bytes(random.Random(2).randbytes(400_000))
    vault.declare("other", other)
    base = vault.back_up()
    meanwhile = Meanwhile(vault.store)

    def collect() -> None:
        handle = vault.vault()
        state = handle.log.refresh()
        keeper = vault.vault()
        forget(keeper, [one for one in state.live if one != base.snapshot_id])
        # Another writer's snapshot takes the place of the base, which goes.
        replacement = vault.back_up(distrusted=frozenset(all_packs(vault)), full=True)
        assert replacement.snapshot_id != base.snapshot_id
        forget(vault.vault(), [base.snapshot_id])
        collect_garbage(vault.vault(), timedelta(days=1))  # what runs is not given up

    meanwhile.act = collect
    (source / "small").write_bytes(b"newer")
    result = vault.back_up(meanwhile, scope=BackupScope(artefacts=frozenset({"source"})))
    assert result.rescued > 0
    assert result.incomplete == ()
    sweep(vault.vault(), NOW)
    assert tree(vault.restore("other", result.snapshot_id)) == tree(other)
    assert tree(vault.restore("source", result.snapshot_id)) == tree(source)
    assert verify_content(vault.vault()).findings == ()


def all_packs(vault: ArtefactVault) -> set[str]:
    """Names of every stored pack."""
    return {one.key.rpartition("/")[2].removesuffix(".pack") for one in packs(vault)}


def packs(vault: ArtefactVault) -> list[object]:
    """Every stored pack."""
    return list(vault.store.list_objects("packs/"))


class Meanwhile(CrashingStore):
    """Does something once, right before the next log record is created."""

    act = staticmethod(lambda: None)

    def create(self, key: str, data: bytes) -> bool:
        """As the store, later."""
        if key.startswith("manifests/"):
            act, self.act = self.act, staticmethod(lambda: None)
            act()
        return super().create(key, data)


def test_what_distrusted_packs_held_is_read_again(vault: ArtefactVault, source: Path) -> None:
    """Also of files that have not changed; then the old packs may go."""
    vault.back_up()
    old = all_packs(vault)
    result = vault.back_up(distrusted=frozenset(old))
    assert outcome(result, "source").files_read == 2
    assert result.incomplete == ()
    for one in vault.store.list_objects("packs/"):
        if one.key.rpartition("/")[2].removesuffix(".pack") in old:
            vault.store.delete([one.key])
    assert tree(vault.restore("source", result.snapshot_id)) == tree(source)


def test_what_cannot_be_rescued_is_left_out_and_named(vault: ArtefactVault, source: Path) -> None:
    """Carried over from packs that are gone: the snapshot says so, and the next one heals it."""
    vault.back_up()
    old = frozenset(all_packs(vault))
    vault.store.delete([one.key for one in vault.store.list_objects("packs/")])
    (vault.root / "other").write_bytes(b"other")
    vault.declare("other", vault.root / "other")
    scope = BackupScope(artefacts=frozenset({"other"}))
    result = vault.back_up(distrusted=old, scope=scope)
    assert "source" in dict(result.incomplete)
    with pytest.raises(NotFoundError):
        vault.restore("source", result.snapshot_id)
    assert vault.back_up().incomplete == ()
    assert tree(vault.restore("source")) == tree(source)


@pytest.mark.parametrize("where", [0, 0.5, 0.999])
def test_a_damaged_pack_is_never_returned_as_a_file(
    vault: ArtefactVault, source: Path, where: float
) -> None:
    """One bit of each pack in turn: V3 names it, a restore refuses and leaves nothing behind."""
    vault.back_up()
    whole = {path: path.read_bytes() for path in (vault.root / "vault").rglob("*.pack")}
    assert len(whole) >= 2
    for path, data in whole.items():
        damaged = bytearray(data)
        damaged[int(len(data) * where)] ^= 1
        path.chmod(0o600)
        path.write_bytes(bytes(damaged))
        findings = verify_content(vault.vault()).findings
        try:
            restored = tree(vault.restore("source"))
        except CorruptObjectError:
            assert findings
        else:
            # Magic and table are for rebuilding an index; no blob lies there.
            assert restored == tree(source)
            assert not findings
        path.write_bytes(data)
        assert [one for one in vault.root.iterdir() if one.name.startswith(".")] == []
    missing = next(iter(whole))
    missing.unlink()
    assert verify_content(vault.vault()).findings
    with pytest.raises(CorruptObjectError, match="missing"):
        vault.restore("source")


def test_an_unreadable_newest_manifest_makes_an_older_snapshot_the_base(
    vault: ArtefactVault, source: Path
) -> None:
    """So that what is out of scope is still carried over; the fault is named."""
    first = vault.vault().log.refresh().live
    second = vault.back_up()
    for path in (vault.root / "vault" / "manifests").rglob("*.manifest"):
        if second.snapshot_id in str(path):
            path.chmod(0o600)
            path.write_bytes(b"damaged")
    (vault.root / "other").write_bytes(b"other")
    vault.declare("other", vault.root / "other")
    result = vault.back_up(scope=BackupScope(artefacts=frozenset({"other"})))
    assert result.base_id == next(iter(first))
    assert "do not match its name" in result.base_fault
    assert (vault.restore("source", result.snapshot_id) / "small").read_bytes() == b"small"
