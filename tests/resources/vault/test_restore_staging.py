"""A restore proves everything before it writes anything, asks the vault once, and holds little."""

from __future__ import annotations

import os
import random
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from fleet.agents import AgentState, StateChange
from fleet.errors import CorruptObjectError, StateroomError, StoreUnavailableError
from fleet.state_cuts import ChangeCursor, StateListing, columns_of
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.packs.manifest import Manifest, arrow
from resources.vault.packs.reading import ReadItem, prove_items, read_items
from resources.vault.restores.restore import ControlStoreTarget, find_manifest, restore
from resources.vault.restores.staging import SealedStaging, switch_items
from resources.vault.snapshots.backup import back_up
from tests.fakes.control_store import InMemoryControlStore
from tests.fakes.crashing_store import Crashed, CrashingStore
from tests.fakes.vault_fleet import KEYS, VaultFleet

SECRET = b"nobody shall read this in a temporary file"


class WatchedTarget(ControlStoreTarget):
    """An empty control store that counts batches and lets a test look in before each."""

    def __init__(self, fleet: VaultFleet, before: Callable[[int], None] = lambda _: None) -> None:
        """Declare and place the fleet's agents."""
        self.control = InMemoryControlStore(fleet.clock)
        fleet.declare(self.control, fleet.agent_ids)
        super().__init__(self.control)
        self.batches = 0
        self.before = before

    def write(
        self, items: Sequence[tuple[ReadItem, int]], *, more: bool
    ) -> list[StateroomError | None]:
        """Counted."""
        self.before(self.batches)
        self.batches += 1
        return super().write(items, more=more)

    def bodies(self, fleet: VaultFleet) -> dict[str, bytes]:
        """What is there."""
        return {one.agent_id: one.body for one in self.control.states(fleet.agent_ids)}


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several packs, ranges, batches, and a real staging file, of a few states."""
    monkeypatch.setattr("resources.vault.packs.packing.PACK_TARGET_BYTES", 2_000)
    monkeypatch.setattr("resources.vault.packs.ranges._RANGE_BYTES", 400)
    monkeypatch.setattr("resources.vault.restores.staging._BATCH_AGENTS", 4)
    monkeypatch.setattr("resources.vault.restores.staging._IN_MEMORY_BYTES", 100)


def backed_up(store: DirectoryObjectStore, agents: int = 40) -> VaultFleet:
    """A fleet with one snapshot."""
    fleet = VaultFleet(agents)
    for number, agent_id in enumerate(fleet.agent_ids):
        fleet.write(agent_id, SECRET + random.Random(number).randbytes(100))
    back_up(fleet.vault(store), fleet.store, workers=1)
    return fleet


def flip(root: Path, key: str) -> None:
    """Turn one bit over in the middle of an object."""
    path = root / key
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def staging_files(folder: Path) -> Iterator[Path]:
    """The open files of this process that have lost their name in a folder."""
    for one in Path("/proc/self/fd").iterdir():
        try:
            target = str(one.readlink())
        except FileNotFoundError:
            continue
        if target.startswith(str(folder)) and target.endswith("(deleted)"):
            yield one


@pytest.mark.usefixtures("small_steps")
def test_nothing_is_written_before_all_is_proven(tmp_path: Path) -> None:
    """One bit turned over in any one pack of several: no batch reaches the target."""
    store = DirectoryObjectStore(tmp_path)
    fleet = backed_up(store)
    packs = [one.key for one in store.list_objects("packs/")]
    assert len(packs) > 3
    for key in packs:
        good = (tmp_path / key).read_bytes()
        flip(tmp_path, key)
        target = WatchedTarget(fleet)
        with pytest.raises(CorruptObjectError, match="cannot be restored"):
            restore(fleet.vault(store), target)
        assert target.batches == 0
        (tmp_path / key).write_bytes(good)
    target = WatchedTarget(fleet)
    assert restore(fleet.vault(store), target).restored == 40
    assert target.bodies(fleet) == fleet.bodies()


@pytest.mark.usefixtures("small_steps")
def test_the_vault_is_read_once_and_not_needed_for_the_switch(tmp_path: Path) -> None:
    """Every pack may be gone when the first batch is written."""
    inner = DirectoryObjectStore(tmp_path)
    fleet = backed_up(inner)
    store = CrashingStore(inner)
    asked: list[int] = []

    def lose_all(_: int) -> None:
        asked.append(store.counts["get"])
        inner.delete([one.key for one in inner.list_objects("packs/")])

    target = WatchedTarget(fleet, lose_all)
    assert restore(fleet.vault(store), target).restored == 40
    assert (target.batches, set(asked)) == (10, {store.counts["get"]})
    assert target.bodies(fleet) == fleet.bodies()


@pytest.mark.usefixtures("small_steps")
def test_no_state_lies_in_the_clear_in_the_staging_folder(tmp_path: Path) -> None:
    """What a restore keeps on disk is as sealed as the vault, has no name, and is gone after it."""
    store, staging = DirectoryObjectStore(tmp_path / "vault"), tmp_path / "staging"
    staging.mkdir()
    fleet = backed_up(store)
    seen: list[bytes] = []

    def look(_: int) -> None:
        assert list(staging.iterdir()) == []
        seen.extend(one.read_bytes() for one in staging_files(staging))

    restore(fleet.vault(store), WatchedTarget(fleet, look), staging=str(staging))
    assert len(seen) == 10
    assert all(len(one) > 2_000 for one in seen)
    assert not any(SECRET[:12] in one or b"agent-0" in one for one in seen)
    assert list(staging_files(staging)) == []


@pytest.mark.usefixtures("small_steps")
def test_a_staged_copy_that_is_damaged_on_disk_is_never_written(tmp_path: Path) -> None:
    """The second look finds it; the same restore with a good disk completes what is left."""
    store, staging = DirectoryObjectStore(tmp_path / "vault"), tmp_path / "staging"
    staging.mkdir()
    fleet = backed_up(store)

    def spoil(batch: int) -> None:
        if batch == 0:
            (copy,) = staging_files(staging)
            with copy.open("r+b") as file:
                file.seek(-20, os.SEEK_END)
                file.write(b"!" * 20)

    target = WatchedTarget(fleet, spoil)
    with pytest.raises(CorruptObjectError, match="staged copy was damaged on disk"):
        restore(fleet.vault(store), target, staging=str(staging))
    there = target.bodies(fleet)
    assert 0 < len(there) < 40
    assert there.items() <= fleet.bodies().items()
    again = restore(fleet.vault(store), target, staging=str(staging))
    assert (again.restored, again.unchanged) == (40 - len(there), len(there))
    assert target.bodies(fleet) == fleet.bodies()


@pytest.mark.usefixtures("small_steps")
def test_a_staging_folder_that_takes_nothing_is_one_clear_error(tmp_path: Path) -> None:
    """Before anything is written, with what to do."""
    store = DirectoryObjectStore(tmp_path)
    fleet = backed_up(store)
    target = WatchedTarget(fleet)
    with pytest.raises(StoreUnavailableError, match="staging of a restore: No such file") as told:
        restore(fleet.vault(store), target, staging=str(tmp_path / "gone"))
    assert "TMPDIR" in str(told.value.hint)
    assert target.batches == 0


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("batch", range(10))
def test_killed_at_any_batch_the_next_restore_writes_the_rest_only(
    tmp_path: Path, batch: int
) -> None:
    """What is there is found unchanged: no version rises twice."""
    store = DirectoryObjectStore(tmp_path)
    fleet = backed_up(store)

    def die(number: int) -> None:
        if number == batch:
            raise Crashed

    target = WatchedTarget(fleet, die)
    with pytest.raises(Crashed):
        restore(fleet.vault(store), target)
    assert len(target.bodies(fleet)) == 4 * batch
    target.before = lambda _: None
    again = restore(fleet.vault(store), target)
    assert (again.restored, again.unchanged) == (40 - 4 * batch, 4 * batch)
    assert target.bodies(fleet) == fleet.bodies()
    versions = [one.version for one in target.control.state_infos()]
    assert versions == [one.version for one in fleet.store.state_infos()]


def test_an_object_healed_between_two_plans_is_read_anew(tmp_path: Path) -> None:
    """The first plan has read it damaged; the second must not be told of its own copy."""
    store = DirectoryObjectStore(tmp_path)
    backed_up(store, 6)
    (pack,) = store.list_objects("packs/")
    good = (tmp_path / pack.key).read_bytes()
    flip(tmp_path, pack.key)
    with SealedStaging(store, None) as staging:
        damaged = staging.get(pack.key, 0, 1_000_000)
        (tmp_path / pack.key).write_bytes(good)
        assert staging.get(pack.key, 0, 1_000_000) == damaged
        staging.forget()
        assert staging.get(pack.key, 0, 1_000_000) == good


def test_a_state_is_proven_by_its_digest_and_verification_asks_for_its_id_too(
    tmp_path: Path,
) -> None:
    """A manifest that names blobs wrongly restores the right bytes, and V3 finds it."""
    store = DirectoryObjectStore(tmp_path)
    fleet = backed_up(store, 6)
    _, manifest = find_manifest(fleet.vault(store), None, None)
    wrong = _with_column(manifest, "blob_id", [bytes(32)] * 6)
    found = {one.agent_id: one.body for one in read_items(store, KEYS, wrong)}
    assert found == fleet.bodies()
    told: list[str] = []

    def note(_: str, agent_ids: Sequence[str], error: CorruptObjectError) -> None:
        assert "holds another blob" in str(error)
        told.extend(agent_ids)

    assert prove_items(store, KEYS, wrong, on_damage=note, compare_ids=True).items == 0
    assert sorted(told) == fleet.agent_ids
    for name, values in (("digest", [bytes(32)] * 6), ("plain_length", [1] * 6)):
        changed = _with_column(manifest, name, values)
        with pytest.raises(CorruptObjectError, match="differs from its digest"):
            list(read_items(store, KEYS, changed))


def _with_column(manifest: Manifest, name: str, values: Sequence[object]) -> Manifest:
    table = manifest.table
    column = arrow().array(values, table.schema.field(name).type)
    return manifest._replace(
        table=table.set_column(table.column_names.index(name), table.schema.field(name), column)
    )


class LargeStates:
    """States that are made when they are read: none is kept."""

    def __init__(self, fleet: VaultFleet, size_bytes: int) -> None:
        """Fix sizes and digests."""
        self._size_bytes = size_bytes
        for agent_id in fleet.agent_ids:
            fleet.write(agent_id, self._body(agent_id))
        self._infos = fleet.store.state_infos()
        self._states = {
            one.agent_id: one._replace(body=b"") for one in fleet.store.states(fleet.agent_ids)
        }
        for agent_id in fleet.agent_ids:
            fleet.drop(agent_id)

    def _body(self, agent_id: str) -> bytes:
        piece = random.Random(agent_id).randbytes(512)
        return piece * (self._size_bytes // 512)

    def cut_states(
        self, network_id: str, since: ChangeCursor | None, *, whole: bool = False
    ) -> StateListing:
        """All: what is made when it is read has no change log."""
        del network_id, since, whole
        broken = "there is no change log"
        return StateListing(columns_of(self._infos), ChangeCursor(0, "", ""), True, broken)

    def state_changes(self, after: int, limit: int) -> list[StateChange]:
        """None."""
        del after, limit
        return []

    def states(self, agent_ids: Sequence[str]) -> list[AgentState]:
        """Made anew."""
        return [self._states[one]._replace(body=self._body(one)) for one in agent_ids]


class ForgetfulTarget:
    """Takes everything and keeps nothing."""

    size_bytes = 0

    def heads(self, _: Sequence[str]) -> dict[str, object]:
        """Empty."""
        return {}

    def write(
        self, items: Sequence[tuple[ReadItem, int]], *, more: bool
    ) -> list[StateroomError | None]:
        """Counted."""
        del more
        self.size_bytes += sum(len(one.body) for one, _ in items)
        return [None] * len(items)


def test_memory_does_not_grow_with_what_is_restored_or_proven(tmp_path: Path) -> None:
    """96 MiB of states: proving holds none of them, a restore holds some ranges and a batch."""
    mebi = 1024 * 1024
    store, fleet = DirectoryObjectStore(tmp_path), VaultFleet(192)
    back_up(fleet.vault(store), LargeStates(fleet, mebi // 2))
    vault = fleet.vault(store)
    _, manifest = find_manifest(vault, None, None)
    target = ForgetfulTarget()

    def fail(pack: str, _: Sequence[str], error: CorruptObjectError) -> None:
        raise AssertionError(pack) from error

    with SealedStaging(store, None) as staging:
        proving = _peak_bytes(
            lambda: prove_items(staging, KEYS, manifest, workers=2, on_damage=fail)
        )
        writing = _peak_bytes(lambda: switch_items(target, staging, KEYS, manifest, {}))
    assert target.size_bytes == 96 * mebi
    assert proving < 8 * mebi
    assert writing < 48 * mebi


def _peak_bytes(work: Callable[[], object]) -> int:
    """Most that Python's objects took while work ran, beyond what was there."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
