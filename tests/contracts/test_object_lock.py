"""Locks, versions and the self-test's record, on S3's protocol over HTTP and on a directory."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    NotFoundError,
    PermanentError,
    StoreUnavailableError,
)
from fleet.ports.object_store import StoreFeatures
from fleet.retention_lock import LockExtension
from resources.object_store.directory import DirectoryObjectStore
from resources.object_store.probe import examine_store
from resources.object_store.retrying import Retrying
from resources.object_store.s3 import S3ObjectStore
from resources.vault.keys.key_store import create_vault
from resources.vault.keys.shredding import shred_network
from resources.vault.network import open_network
from resources.vault.retention.locking import extend_snapshot_locks
from resources.vault.retention.removal import collect_garbage, forget, sweep
from resources.vault.snapshots.backup import back_up
from tests.fakes.fault_proxy import fault_proxy, nth, since
from tests.resources.vault.test_key_rotation import BOTH, KeyedFleet
from tests.servers.moto_server import aws_client, moto_server

QUICK = Retrying(deadline_s=5, first_delay_s=0.01, delay_max_s=0.05)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """S3 on loopback."""
    with moto_server() as url:
        yield url


@pytest.fixture(scope="module")
def client(endpoint: str) -> Iterator[Any]:
    """A client of it."""
    with aws_client("s3", endpoint, read_timeout_s=30) as running:
        yield running


def bucket(client: Any, *, lockable: bool) -> str:
    """A fresh bucket."""
    name = f"b{uuid.uuid4().hex}"
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=lockable)
    return name


@pytest.fixture
def locked(client: Any) -> S3ObjectStore:
    """A store whose objects are locked for 14 days."""
    return S3ObjectStore(client, bucket(client, lockable=True), "eu/", lock_days=14, retrying=QUICK)


def lock_of(store: S3ObjectStore, key: str) -> datetime:
    """When the lock of an object ends."""
    until = store._locked_until(key)
    assert until is not None
    return until


def test_every_object_but_probes_is_created_under_a_lock(locked: S3ObjectStore) -> None:
    """A deletion hides it; its version cannot be deleted while the lock lasts."""
    assert locked.features().versioned
    assert locked.create("packs/net/s/a.pack", b"bytes")
    assert locked.create("probe/x", b"")
    left = lock_of(locked, "packs/net/s/a.pack") - datetime.now(UTC)
    assert timedelta(days=13, hours=23) < left < timedelta(days=14, hours=1)
    assert locked._locked_until("probe/x") is None
    locked.delete(["packs/net/s/a.pack"])
    with pytest.raises(NotFoundError):
        locked.get("packs/net/s/a.pack")
    versions, markers = locked._list_versions("eu/packs/")
    assert (len(versions), len(markers)) == (1, 1)


def test_purging_reports_what_a_lock_keeps_and_hides_it(locked: S3ObjectStore) -> None:
    """What is not locked goes with all its versions."""
    open_bucket = S3ObjectStore(locked._client, locked._bucket, "eu/", retrying=QUICK)
    for key in ("keys/net.0001/a.json", "keys/net.0001/b.json"):
        locked.create(key, b"1")
    for _ in range(2):
        open_bucket.create("keys/net.0001/open.json", b"2")
        open_bucket.delete(["keys/net.0001/open.json"])
    for _ in range(2):
        kept = locked.purge("keys/net.0001/")
        assert kept.keys() == {"keys/net.0001/a.json", "keys/net.0001/b.json"}
        assert all(until > datetime.now(UTC) for until in kept.values())
        assert locked.list_objects("keys/") == []
        versions, _ = locked._list_versions("eu/")
        assert {one["Key"] for one in versions} == {f"eu/{key}" for key in kept}
    with pytest.raises(InvalidInputError, match="ends in '/'"):
        locked.purge("keys")


def test_a_lock_is_extended_and_never_shortened(locked: S3ObjectStore) -> None:
    """The same call may be repeated."""
    locked.create("a/b", b"1")
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=400)
    assert locked.extend_lock(["a/b"], until) == 1
    assert lock_of(locked, "a/b") == until
    assert locked.extend_lock(["a/b"], until) == 0
    assert locked.extend_lock(["a/b"], until - timedelta(days=100)) == 0
    assert lock_of(locked, "a/b") == until
    with pytest.raises(NotFoundError, match="a/c"):
        locked.extend_lock(["a/c"], until)


def test_a_store_without_locks_says_so(client: Any, tmp_path: Path) -> None:
    """A bucket that was made without, and a directory; settings that make no sense are refused."""
    plain = S3ObjectStore(client, bucket(client, lockable=False), lock_days=14, retrying=QUICK)
    until = datetime.now(UTC) + timedelta(days=1)
    for attempt in (plain.features, lambda: plain.extend_lock(["a"], until), plain.check):
        with pytest.raises(PermanentError, match="no object lock"):
            attempt()
    directory = DirectoryObjectStore(tmp_path)
    assert directory.features() == StoreFeatures(False, None, str(tmp_path))
    with pytest.raises(PermanentError, match="is a directory"):
        directory.extend_lock(["a"], until)
    for wrong in ({"lock_days": 0}, {"lock_days": 1, "lock_mode": "NONE"}):
        with pytest.raises(InvalidInputError):
            S3ObjectStore(client, "b", **wrong)


def test_the_self_test_names_what_a_store_can_do(
    client: Any, locked: S3ObjectStore, tmp_path: Path
) -> None:
    """As evidence: a locked bucket, a plain one, a directory."""
    plain = S3ObjectStore(client, bucket(client, lockable=False), retrying=QUICK)
    for store, lock in ((locked, True), (plain, False), (DirectoryObjectStore(tmp_path), False)):
        probe = examine_store(store, uuid.uuid4().hex)
        assert probe.ok
        assert probe.advice == ()
        assert probe.capabilities == {
            "create_only": True,
            "read_back": True,
            "range": True,
            "list_consistent": True,
            "delete": True,
            "lock": lock,
            "versioned": lock,
        }
        assert (probe.lock_days, bool(probe.place)) == (14 if lock else None, True)


def test_a_store_that_drops_the_condition_is_refused_with_advice(
    endpoint: str, client: Any
) -> None:
    """As a proxy does that strips the header: no vault is made on it, and nothing is left."""
    name = bucket(client, lockable=False)
    with fault_proxy(endpoint) as proxy, aws_client("s3", proxy.url) as through:
        proxy.drop_header = "If-None-Match"
        store = S3ObjectStore(through, name, retrying=QUICK)
        probe = examine_store(store, "nonce")
        assert not probe.capabilities["create_only"]
        assert "If-None-Match" in probe.advice[0]
        with pytest.raises(PermanentError, match="create-only is not enforced") as caught:
            create_vault(store, datetime.now(UTC))
        assert "conditional PUT" in caught.value.hint
        assert store.list_objects("") == []


def test_a_vault_lives_in_a_locked_bucket_until_it_is_shredded(locked: S3ObjectStore) -> None:
    """Backup, sweep and lock extension; shredding says how long hidden wraps remain."""
    fleet = KeyedFleet(3)
    fleet.prepare(locked)
    vault = fleet.open(locked)
    first = back_up(vault, fleet.store)
    fleet.change(*fleet.agent_ids)
    second = back_up(vault, fleet.store)
    forget(vault, [first.snapshot_id])
    collect_garbage(vault, timedelta(0))
    assert sweep(vault, timedelta(0)).objects == 2
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=372)
    plan = [LockExtension(second.snapshot_id, until, "the monthly one")]
    result = extend_snapshot_locks(vault, plan)
    # vault.json, two wraps, a pack, a manifest, and the log up to the record
    assert (result.snapshots, result.objects, result.extended) == (1, 7, 7)
    assert extend_snapshot_locks(vault, plan).extended == 0
    assert extend_snapshot_locks(vault, []).until is None
    assert lock_of(locked, "keys/net.0001/offline.json") == until
    shredded = shred_network(
        {"eu": locked}, "net", confirm="net", by="ada", reason="test", at=fleet.clock.now()
    )
    assert shredded.remaining == ()
    assert shredded.regions[0].locked_until == until
    with pytest.raises(PermanentError, match="shredded"):
        open_network(locked, "net", BOTH, fleet.clock)


def test_a_create_whose_answer_was_lost_knows_its_own_object(endpoint: str, client: Any) -> None:
    """And does not take another's for it."""
    name = bucket(client, lockable=False)
    direct = S3ObjectStore(client, name, retrying=QUICK)
    with fault_proxy(endpoint) as proxy, aws_client("s3", proxy.url, 1) as through:
        store = S3ObjectStore(through, name, retrying=QUICK)
        proxy.set_plan(nth(1, "reset_after"))
        assert store.create("log/1.json", b"mine") is True
        assert store.create("log/1.json", b"mine") is False
        direct.create("log/2.json", b"theirs")
        proxy.set_plan(nth(1, "reset_before"))
        assert store.create("log/2.json", b"mine") is False
        proxy.set_plan(nth(1, "wrong_etag"))
        with pytest.raises(CorruptObjectError, match="checksum of other bytes"):
            store.create("log/3.json", b"mine")


def test_a_trickling_body_meets_its_deadline(endpoint: str, client: Any) -> None:
    """A store that takes minutes for an object is given up; when it is well, it is read."""
    name = bucket(client, lockable=False)
    S3ObjectStore(client, name, retrying=QUICK).create("big", bytes(2_000_000))
    with fault_proxy(endpoint) as proxy, aws_client("s3", proxy.url, 2) as through:
        proxy.bytes_per_s = 100_000
        proxy.set_plan(since(1, "slow"))
        store = S3ObjectStore(through, name, retrying=QUICK._replace(deadline_s=0.5))
        with pytest.raises(
            StoreUnavailableError, match="deadline passed while the object was read"
        ):
            store.get("big")
        proxy.set_plan(lambda _: None)
        assert len(store.get("big")) == 2_000_000
