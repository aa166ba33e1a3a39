"""Data keys and the keys that wrap them are exchanged under running backups; nothing is lost."""

from __future__ import annotations

import shutil
import traceback
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from fleet.errors import InvalidInputError, NotFoundError, PermanentError, StateroomError
from fleet.pack_keys import PackKeys
from fleet.ports.object_store import ObjectStore
from fleet.vault_keys import KeyEncryptionKey, encode_wrap
from fleet.vault_log import EvidenceRecord
from fleet.vault_pack import HEADER_MAX_BYTES, read_salt, read_table
from fleet.vault_repack import RepackPolicy
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.journal.journal import append_segment
from resources.vault.keys.key_store import create_data_key, create_vault, load_data_key
from resources.vault.keys.key_wraps import wrap_object_key
from resources.vault.network import NetworkVault, chain_of, open_network
from resources.vault.packs.manifest import Manifest, PackInfo
from resources.vault.packs.reading import read_items
from resources.vault.replicas.replicate import replicate
from resources.vault.restores.restore import ControlStoreTarget, restore
from resources.vault.retention.key_rotation import key_status, rotate_data_key, rotate_kek
from resources.vault.retention.removal import collect_garbage, forget, sweep
from resources.vault.retention.repack import repack
from resources.vault.snapshots.backup import back_up
from resources.vault.verification.verify import verify_content, verify_structure
from tests.fakes.control_store import InMemoryControlStore
from tests.fakes.crashing_store import Crashed, CrashingStore, count_operations
from tests.fakes.vault_fleet import AT, VaultFleet

REGION, OFFLINE, NEXT = (
    KeyEncryptionKey(name, bytes([number]) * 32)
    for number, name in enumerate(("region", "offline", "region-2"), start=1)
)
BOTH = (REGION, OFFLINE)


class KeyedFleet(VaultFleet):
    """A fleet whose vault has real wraps."""

    def prepare(self, store: ObjectStore) -> ObjectStore:
        """Create vault and data key."""
        create_vault(store, AT)
        create_data_key(store, self.network_id, BOTH, AT)
        return store

    def open(self, store: ObjectStore, keks: Sequence[KeyEncryptionKey] = BOTH) -> NetworkVault:
        """As a fresh process does."""
        return open_network(store, self.network_id, keks, self.clock)

    def held(self, vault: NetworkVault, snapshot_id: str) -> dict[str, bytes]:
        """What a snapshot restores to."""
        empty = InMemoryControlStore(self.clock)
        self.declare(empty, self.agent_ids)
        restore(vault, ControlStoreTarget(empty), snapshot_id=snapshot_id)
        return {one.agent_id: one.body for one in empty.states(self.agent_ids)}


@pytest.fixture
def store(tmp_path: Path) -> DirectoryObjectStore:
    """An empty store."""
    return DirectoryObjectStore(tmp_path / "vault")


def copied(store: DirectoryObjectStore, name: str) -> DirectoryObjectStore:
    """The same vault in another folder."""
    target = store._root.parent / name
    shutil.copytree(store._root, target)
    return DirectoryObjectStore(target)


def sealed_by(store: ObjectStore, folder: str = "packs") -> set[str]:
    """Data keys that the headers of stored objects name."""
    found = set()
    for one in store.list_objects(f"{folder}/net/"):
        data = store.get(one.key)
        length = data[5] if folder == "packs" else data[4]
        start = 6 if folder == "packs" else 5
        found.add(data[start : start + length].decode())
    return found


def test_snapshots_of_three_data_keys_restore_and_deduplicate(store: ObjectStore) -> None:
    """Each rotation seals what is new; equal states are found across keys and not stored again."""
    fleet = KeyedFleet()
    fleet.prepare(store)
    vault, held = fleet.open(store), {}
    for number in range(3):
        if number:
            rotate_data_key(vault, BOTH)
            fleet.change("agent-0001")
        result = back_up(vault, fleet.store)
        assert result.changed == (1 if number else 6)
        held[result.snapshot_id] = fleet.bodies()
    fleet.write("agent-0002", fleet.bodies()["agent-0003"])
    twin = back_up(vault, fleet.store)
    assert (twin.changed, twin.packs) == (1, 0)
    held[twin.snapshot_id] = fleet.bodies()
    assert sealed_by(store) == {"net.0001", "net.0002", "net.0003"}
    assert sealed_by(store, "manifests") == {"net.0001", "net.0002", "net.0003"}
    for kek in BOTH:
        for snapshot_id, bodies in held.items():
            assert fleet.held(fleet.open(store, [kek]), snapshot_id) == bodies
    assert verify_structure(vault).ok
    assert verify_content(vault, list(held)).ok
    assert [one.dek_id for one in key_status(store, "net")] == ["net.0001", "net.0002", "net.0003"]


@pytest.mark.usefixtures("shipped_spacing")
def test_one_agent_under_a_later_data_key_costs_no_further_request(store: ObjectStore) -> None:
    """The manifest names each pack's data key: the header is never asked for.

    Listed are the log, its checkpoints and the journal.
    """
    fleet = KeyedFleet()
    fleet.prepare(store)
    costs = []
    for number in range(2):
        vault = fleet.open(store)
        if number:
            rotate_data_key(vault, BOTH)
            fleet.change("agent-0001")
        back_up(vault, fleet.store)
        vault = fleet.open(CrashingStore(store))
        empty = InMemoryControlStore(fleet.clock)
        fleet.declare(empty, fleet.agent_ids)
        before = vault.store.counts.copy()  # type: ignore[attr-defined]
        result = restore(vault, ControlStoreTarget(empty), agent_ids=["agent-0001"])
        assert result.restored == 1
        spent = vault.store.counts - before  # type: ignore[attr-defined]
        costs.append(spent - Counter({"get": len(vault.log.records)}))
    assert costs[0] == costs[1] == {"list": 3, "get": 2}


def test_a_manifest_that_is_silent_about_the_data_key_is_read_by_the_packs_header(
    store: ObjectStore,
) -> None:
    """As a pack written by code that does not record it; damage stays damage."""
    fleet = KeyedFleet()
    fleet.prepare(store)
    vault = fleet.open(store)
    rotate_data_key(vault, BOTH)
    result = back_up(vault, fleet.store)
    whole = vault.manifests.read(chain_of(vault.snapshot(result.snapshot_id)))
    assert {one.dek_id for one in whole.packs.values()} == {"net.0002"}
    silent = Manifest(
        whole.table, {key: one._replace(dek_id="") for key, one in whole.packs.items()}
    )
    found = {one.agent_id: one.body for one in read_items(store, vault.keys, silent)}
    assert found == fleet.bodies()


def test_packs_alone_rebuild_the_index_and_no_salt_repeats(store: ObjectStore) -> None:
    """Over several snapshots and data keys: rows of packs equal those of the manifests."""
    fleet = KeyedFleet()
    fleet.prepare(store)
    vault = fleet.open(store)
    for number in range(4):
        if number == 2:
            rotate_data_key(vault, BOTH)
        fleet.change(*fleet.agent_ids[number:])
        back_up(vault, fleet.store, workers=2)
    salts, rebuilt = [], {}
    for listed in store.list_objects("packs/net/"):
        data = store.get(listed.key)
        _, salt = read_salt(data[:HEADER_MAX_BYTES], listed.key)
        salts.append(salt)
        name = listed.key.split("/")[-1].removesuffix(".pack")
        for row in read_table(vault.keys, data, name):
            rebuilt[row.item_id, row.version] = (name, row.blob_id, row.frame, row.offset)
    assert len(set(salts)) == len(salts) >= 4
    salts += [store.get(one.key)[13:45] for one in store.list_objects("manifests/net/")]
    assert len(set(salts)) == len(salts)
    columns = ("item_id", "version", "pack", "blob_id", "frame", "offset")
    for snapshot_id in vault.log.refresh().live:
        table = vault.manifests.read(chain_of(vault.snapshot(snapshot_id))).table
        for row in table.select(list(columns)).to_pylist():
            found = rebuilt[row["item_id"], row["version"]]
            assert found == tuple(row[name] for name in columns[2:])


def test_nothing_stored_shows_an_agent_or_its_state(store: ObjectStore) -> None:
    """Neither ids nor any piece of a state, in any object, also after a rotation."""
    fleet = KeyedFleet()
    fleet.prepare(store)
    vault = fleet.open(store)
    secret = b"the quick brown secret of agent " * 4
    fleet.write("agent-0000", secret)
    fleet.write("agent-0001", secret[:20])
    back_up(vault, fleet.store)
    rotate_data_key(vault, BOTH)
    fleet.change("agent-0003")
    back_up(vault, fleet.store)
    stored = b"\x00".join(one.key.encode() + store.get(one.key) for one in store.list_objects(""))
    assert b"agent-0" not in stored
    bodies = fleet.bodies().values()
    pieces = {body[start : start + 8] for body in bodies for start in range(0, len(body) - 7, 5)}
    assert len(pieces) > 100
    assert not [piece for piece in pieces if piece in stored]
    for key in (vault.keys, *vault.keys.later):
        assert key.data_key not in stored
        assert key.data_key.hex().encode() not in stored


@pytest.mark.parametrize("mode", ["before", "lost"])
def test_killed_at_any_step_a_rotation_of_the_data_key_is_completed(
    tmp_path: Path, mode: str
) -> None:
    """An unfinished key seals nothing; the same call goes on with it."""
    fleet = KeyedFleet(3)

    def rotate(store: ObjectStore) -> None:
        rotate_data_key(fleet.open(store), BOTH)

    def prepared(name: str) -> DirectoryObjectStore:
        store = DirectoryObjectStore(tmp_path / name)
        fleet.prepare(store)
        back_up(fleet.open(store), fleet.store)
        return store

    first = prepared("first")
    total = count_operations(copied(first, "count"), rotate)
    assert total > 8
    for number in range(1, total + 1):
        store = copied(first, str(number))
        try:
            rotate(CrashingStore(store, number, mode))
        except (Crashed, StateroomError):
            assert load_data_key(store, "net", [REGION])
        fleet.change("agent-0000")
        result = back_up(fleet.open(store, [REGION]), fleet.store)
        assert sealed_by(store) <= {one.dek_id for one in key_status(store, "net") if one.is_usable}
        rotate(store)
        assert all(one.kek_ids == ("offline", "region") for one in key_status(store, "net"))
        fleet.change("agent-0001")
        after = back_up(fleet.open(store, [OFFLINE]), fleet.store)
        assert max(sealed_by(store)) == max(one.dek_id for one in key_status(store, "net"))
        assert max(sealed_by(store)) > "net.0001"
        for snapshot_id in (result.snapshot_id, after.snapshot_id):
            assert fleet.held(fleet.open(store, [REGION]), snapshot_id)


def test_an_unfinished_data_key_that_nobody_opens_is_given_up(store: ObjectStore) -> None:
    """It has sealed nothing; the next number is taken."""
    fleet = KeyedFleet(2)
    fleet.prepare(store)
    lost = KeyEncryptionKey("another", b"a" * 32)
    wrap = lost.wrap(b"u" * 32, "net.0002", "net", b"n" * 12)
    store.create(wrap_object_key("net.0002", "another"), encode_wrap(wrap))
    assert fleet.open(store).keys.newest.dek_id == "net.0001"
    keys = rotate_data_key(fleet.open(store), BOTH)
    assert keys.newest.dek_id == "net.0003"


def test_two_who_rotate_at_once_make_one_data_key(store: ObjectStore) -> None:
    """Each rotates from what its handle knew."""
    fleet = KeyedFleet(2)
    fleet.prepare(store)
    one, other = fleet.open(store), fleet.open(store)
    assert rotate_data_key(one, BOTH) == rotate_data_key(other, BOTH)
    assert len(key_status(store, "net")) == 2
    other.log.refresh()
    notes = [r.record for r in other.log.records if isinstance(r.record, EvidenceRecord)]
    assert notes == [EvidenceRecord("note", "data key net.0002 seals new packs")]


def test_a_handle_opened_before_a_rotation_says_what_it_needs(store: ObjectStore) -> None:
    """It does not take the unknown data key for damage, and stores nothing anew."""
    fleet = KeyedFleet(3)
    fleet.prepare(store)
    old, new = fleet.open(store), fleet.open(store)
    back_up(old, fleet.store)
    rotate_data_key(new, BOTH)
    fleet.change("agent-0001")
    back_up(new, fleet.store)
    with pytest.raises(PermanentError, match=r"data key net\.0002 is needed") as caught:
        back_up(old, fleet.store)
    assert "Open the network again" in caught.value.hint
    assert back_up(fleet.open(store), fleet.store).changed == 0


def test_a_key_that_opens_only_older_data_keys_reads_and_does_not_write(store: ObjectStore) -> None:
    """Sealing with an older data key would undo the rotation."""
    fleet = KeyedFleet(3)
    fleet.prepare(store)
    vault = fleet.open(store)
    first = back_up(vault, fleet.store)
    rotate_data_key(vault, (OFFLINE, NEXT))
    fleet.change("agent-0001")
    stale = fleet.open(store, [REGION])
    before = store.list_objects("")
    with pytest.raises(PermanentError, match=r"newest data key net\.0002 was not opened"):
        back_up(stale, fleet.store)
    assert store.list_objects("") == before
    assert len(fleet.held(stale, first.snapshot_id)) == 3


def test_a_replica_gets_the_wraps_of_every_data_key_first(tmp_path: Path) -> None:
    """Killed at any operation, what its log names opens there with one key."""
    fleet = KeyedFleet(2)
    source = DirectoryObjectStore(tmp_path / "a")
    fleet.prepare(source)
    vault, held = fleet.open(source), {}
    for number in range(2):
        if number:
            rotate_data_key(vault, BOTH)
        fleet.change("agent-0001")
        held[back_up(vault, fleet.store).snapshot_id] = fleet.bodies()

    def copy(target: ObjectStore) -> None:
        replicate(fleet.open(source), NetworkVault(target, vault.keys, fleet.clock))

    total = count_operations(DirectoryObjectStore(tmp_path / "count"), copy)
    for number in range(1, total + 1):
        target = DirectoryObjectStore(tmp_path / f"b{number}")
        with pytest.raises(Crashed):
            copy(CrashingStore(target, number, "after"))
        if target.list_objects("log/"):
            replica = fleet.open(target, [OFFLINE])
            replica.read_only = True
            for snapshot_id in replica.log.refresh().live:
                assert fleet.held(replica, snapshot_id) == held[snapshot_id]
        copy(target)
        assert fleet.open(target, [REGION]).log.refresh().live.keys() == held.keys()


@pytest.mark.parametrize("mode", ["before", "lost"])
def test_killed_at_any_step_an_exchange_of_wraps_leaves_all_data_open(
    tmp_path: Path, mode: str
) -> None:
    """At every moment at least two wraps of each data key stand; the same call completes it."""
    fleet = KeyedFleet(3)

    def exchange(store: ObjectStore) -> None:
        rotate_kek(store, "net", BOTH, add=[NEXT], remove=["region"])

    def prepared(name: str) -> DirectoryObjectStore:
        store = DirectoryObjectStore(tmp_path / name)
        fleet.prepare(store)
        rotate_data_key(fleet.open(store), BOTH)
        back_up(fleet.open(store), fleet.store)
        return store

    first = prepared("first")
    total = count_operations(copied(first, "count"), exchange)
    assert total > 8
    for number in range(1, total + 1):
        store = copied(first, str(number))
        try:
            exchange(CrashingStore(store, number, mode))
        except (Crashed, StateroomError):
            assert load_data_key(store, "net", [OFFLINE])
        assert all(len(one.kek_ids) >= 2 for one in key_status(store, "net"))
        assert load_data_key(store, "net", [OFFLINE]).later
        back_up(fleet.open(store), fleet.store)
        exchange(store)
        assert {one.kek_ids for one in key_status(store, "net")} == {("offline", "region-2")}
        assert load_data_key(store, "net", [NEXT]) == load_data_key(store, "net", [OFFLINE])
        with pytest.raises(PermanentError):
            load_data_key(store, "net", [REGION])


def test_an_exchange_that_would_leave_too_few_wraps_writes_nothing(store: ObjectStore) -> None:
    """Also when a new wrap does not open, or the call makes no sense."""
    fleet = KeyedFleet(2)
    fleet.prepare(store)
    before = {one.key: store.get(one.key) for one in store.list_objects("")}
    with pytest.raises(PermanentError, match="at least 2 must"):
        rotate_kek(store, "net", BOTH, remove=["region"])
    for add, remove in (((), ()), ((REGION,), ("region",)), ((NEXT, NEXT), ())):
        with pytest.raises(InvalidInputError, match="different ids"):
            rotate_kek(store, "net", BOTH, add=add, remove=remove)
    with pytest.raises(NotFoundError):
        rotate_kek(store, "other", BOTH, add=[NEXT])
    wrong = KeyEncryptionKey("region", b"w" * 32)
    with pytest.raises(PermanentError, match="wrong key"):
        rotate_kek(store, "net", [wrong], add=[NEXT], remove=["region"])
    assert {one.key: store.get(one.key) for one in store.list_objects("")} == before
    store.create(wrap_object_key("net.0001", "region-2"), b"{}")
    with pytest.raises(PermanentError, match="cannot be read"):
        rotate_kek(store, "net", BOTH, add=[NEXT], remove=["region"])
    assert load_data_key(store, "net", [REGION])


def test_wraps_are_exchanged_during_a_backup(store: ObjectStore) -> None:
    """The running backup holds its data key; what it commits opens with the new key."""
    fleet = KeyedFleet(4)
    fleet.prepare(store)
    vault = fleet.open(store)

    class Source:
        cut_states = staticmethod(fleet.store.cut_states)
        state_changes = staticmethod(fleet.store.state_changes)

        def states(self, agent_ids: Sequence[str]) -> list:
            rotate_kek(store, "net", BOTH, add=[NEXT], remove=["region"])
            rotate_data_key(fleet.open(store, [NEXT]), (OFFLINE, NEXT))
            return fleet.store.states(agent_ids)

    result = back_up(vault, Source(), workers=1)
    assert fleet.held(fleet.open(store, [NEXT]), result.snapshot_id) == fleet.bodies()


def test_the_status_of_keys_counts_packs_and_keeps_dates(store: ObjectStore) -> None:
    """The date of a data key survives the exchange of its wraps."""
    fleet = KeyedFleet(3)
    fleet.prepare(store)
    vault = fleet.open(store)
    back_up(vault, fleet.store)
    fleet.clock.advance(86400)
    rotate_data_key(vault, BOTH)
    for _ in range(2):
        fleet.change("agent-0001")
        back_up(vault, fleet.store)
    rotate_kek(store, "net", BOTH, add=[NEXT], remove=["region"])
    first, second = key_status(store, "net")
    assert (first.dek_id, first.packs, first.created_at) == ("net.0001", 1, AT)
    assert (second.packs, second.created_at) == (2, AT + timedelta(days=1))
    assert first.kek_ids == second.kek_ids == ("offline", "region-2")


def test_forget_gc_and_sweep_go_on_across_data_keys(store: ObjectStore) -> None:
    """The log is one chain under the first data key."""
    fleet = KeyedFleet(3)
    fleet.prepare(store)
    vault = fleet.open(store)
    first = back_up(vault, fleet.store).snapshot_id
    rotate_data_key(vault, BOTH)
    fleet.change(*fleet.agent_ids)
    newest = back_up(vault, fleet.store).snapshot_id
    forget(vault, [first])
    collect_garbage(vault, timedelta(0))
    assert sweep(vault, timedelta(0)).objects == 2
    assert sealed_by(store) == {"net.0002"}
    assert fleet.held(fleet.open(store), newest) == fleet.bodies()


def test_keys_show_in_no_text(store: ObjectStore) -> None:
    """Representations, errors and their traces with locals hold no key, raw, hex or escaped."""
    fleet = KeyedFleet(2)
    fleet.prepare(store)
    vault = fleet.open(store)
    rotate_data_key(vault, BOTH)
    info = PackInfo("o", b"s", 1, "net.0002")
    texts = [repr(one) for one in (vault, vault.keys, REGION, BOTH, info, vault.keys.newest)]
    texts += [str(vault.keys), f"{vault.keys}", str(vault.__dict__), str(key_status(store, "net"))]
    wrong = KeyEncryptionKey("region", b"w" * 32)
    for attempt in (
        lambda: load_data_key(store, "net", [wrong]),
        lambda: rotate_kek(store, "net", [wrong], add=[NEXT]),
        lambda: vault.keys.opening("net.0009"),
        lambda: vault.use_keys(PackKeys(b"x" * 32, "net.0001", "net")),
        lambda: KeyEncryptionKey("short", REGION.key[:31]),
        lambda: PackKeys(vault.keys.data_key[:31], "net.0001", "net"),
        lambda: rotate_data_key(vault, [REGION, KeyEncryptionKey("copy", REGION.key)]),
    ):
        with pytest.raises(StateroomError) as caught:
            attempt()
        texts += [
            str(caught.value),
            repr(caught.value),
            caught.value.hint,
            "".join(traceback.format_exception(caught.value)),
        ]
    secrets = [REGION.key, OFFLINE.key, wrong.key]
    secrets += [one.data_key for one in (vault.keys, *vault.keys.later)]
    shown = "\n".join(texts)
    for secret in secrets:
        for form in (secret[:12].hex(), repr(secret)[2:30], secret[:12].decode("latin-1")):
            assert form not in shown


def test_the_journal_goes_over_to_the_newest_data_key(store: ObjectStore) -> None:
    """Segments of both keys give every moment back, through the handle that rotated and others."""
    fleet = KeyedFleet(3)
    fleet.prepare(store)
    vault = fleet.open(store)
    back_up(vault, fleet.store)
    append_segment(vault, fleet.store)
    moments = {}
    for number in range(3):
        if number == 1:
            rotate_data_key(vault, BOTH)
        fleet.clock.advance(60)
        fleet.change("agent-0001")
        moments[fleet.clock.now()] = fleet.bodies()
        fleet.clock.advance(60)
        append_segment(vault, fleet.store)
    segments = b"".join(store.get(one.key) for one in store.list_objects("journal/net/"))
    assert b"net.0001" in segments
    assert b"net.0002" in segments
    for kek in BOTH:
        for at, bodies in moments.items():
            empty = InMemoryControlStore(fleet.clock)
            fleet.declare(empty, fleet.agent_ids)
            restore(fleet.open(store, [kek]), ControlStoreTarget(empty), at=at)
            assert {one.agent_id: one.body for one in empty.states(fleet.agent_ids)} == bodies


def test_packs_of_several_data_keys_are_repacked_under_the_newest(store: ObjectStore) -> None:
    """The moved blobs open; their old packs can be swept."""
    fleet = KeyedFleet(4)
    fleet.prepare(store)
    vault, held = fleet.open(store), {}
    for number in range(4):
        if number == 2:
            rotate_data_key(vault, BOTH)
        fleet.change(*fleet.agent_ids[number % 2 :])
        held[back_up(vault, fleet.store).snapshot_id] = fleet.bodies()
    result = repack(vault, RepackPolicy(small_age=timedelta(0), vault_share_max=1.0))
    assert result.packs_new
    collect_garbage(vault, timedelta(0))
    sweep(vault, timedelta(0))
    assert sealed_by(store) == {"net.0002"}
    for snapshot_id, bodies in held.items():
        assert fleet.held(fleet.open(store, [OFFLINE]), snapshot_id) == bodies
