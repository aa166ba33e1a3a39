"""Opening a network by a new process: out of checkpoints, against reading every record.

`python benchmarks/vault_log.py [--quick] [--rounds N] [--no-s3]`. Logs of 200, 2,000 and 20,000
records (`--quick`: 200 and 2,000) in a directory and on an S3 server on loopback (moto). "Every
record" is what each new process did before there were checkpoints, measured in the same run by
`VaultLog.read_whole`. A log has all checkpoints that it gets while it grows. Last, what they cost
a commit.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fleet.ports.object_store import ListedObject, ObjectStore
from fleet.vault_checkpoint import Spacing
from fleet.vault_keyspace import log_key
from fleet.vault_log import EvidenceRecord, ForgetRecord, LogRecord, SnapshotRecord
from fleet.vault_records import FIRST_PREVIOUS, LogPosition, encode_record
from resources.object_store.directory import DirectoryObjectStore
from resources.vault.log import checkpoints
from resources.vault.log.log_store import VaultLog

Fill = Callable[[Iterable[tuple[str, bytes]]], None]
"""Stores the objects of a log that somebody else has written."""
KEY = b"k" * 32
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
PACKS = 12
"""That a snapshot of a middling network names."""
LIST_PAGE = 1_000
"""Keys that S3 gives in one answer: a listing costs a request for each."""


class CountingStore:
    """Requests as S3 would bill them."""

    def __init__(self, inner: ObjectStore) -> None:
        """Nothing asked yet."""
        self._inner = inner
        self.requests: Counter[str] = Counter()

    def create(self, key: str, data: bytes) -> bool:
        """One."""
        self.requests["put"] += 1
        return self._inner.create(key, data)

    def get(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """One."""
        self.requests["get"] += 1
        return self._inner.get(key, offset, length)

    def list_objects(self, prefix: str, after: str = "") -> list[ListedObject]:
        """One for each page."""
        found = self._inner.list_objects(prefix, after)
        self.requests["list"] += max(1, -(-len(found) // LIST_PAGE))
        return found

    def __getattr__(self, name: str) -> Any:
        """Whatever else a store can do."""
        return getattr(self._inner, name)


def make_records(count: int) -> Iterator[tuple[str, bytes]]:
    """Keys and contents of a log as hourly backups and their retention leave it."""
    chance = random.Random(count)
    packs = [chance.randbytes(32).hex() for _ in range(PACKS)]
    before = FIRST_PREVIOUS
    for seq in range(1, count + 1):
        at = BEGAN + timedelta(minutes=26 * seq)
        packs[seq % PACKS] = chance.randbytes(32).hex()
        record: LogRecord = SnapshotRecord(f"{seq:026d}", at, frozenset(packs))
        if seq % 2 == 0:
            record = ForgetRecord(frozenset({f"{seq - 97:026d}"}))
        if seq % 24 == 0:
            record = EvidenceRecord("note", f"plan {chance.randbytes(32).hex()}")
        manifest = [[f"{seq:026d}", packs[0], 91_000, 9_000]]
        extra = {"agents": 9_000, "changed": 180, "manifests": manifest, "writer": "f" * 32}
        position = LogPosition("net", 0, seq, before)
        data = encode_record(record, position, at, KEY, extra)
        before = hashlib.sha256(data).hexdigest()
        yield log_key("net", 0, seq), data


@contextmanager
def directory_store() -> Iterator[
    tuple[ObjectStore, Callable[[Iterable[tuple[str, bytes]]], None]]
]:
    """A folder, and how to fill it without a sync for each object."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)

        def fill(objects: Iterable[tuple[str, bytes]]) -> None:
            for key, data in objects:
                path = root / key
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)

        yield DirectoryObjectStore(root), fill


@contextmanager
def s3_store() -> Iterator[tuple[ObjectStore, Fill]]:
    """A bucket of a server on loopback."""
    import boto3
    from moto.server import ThreadedMotoServer

    from resources.object_store.s3 import S3ObjectStore

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    try:
        bucket = f"vault-{uuid.uuid4().hex}"  # moto's buckets outlive its servers
        client.create_bucket(Bucket=bucket)
        store = S3ObjectStore(client, bucket)

        def fill(objects: Iterable[tuple[str, bytes]]) -> None:
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda one: store.create(*one), objects))

        yield store, fill
    finally:
        client.close()
        server.stop()


def opened(store: ObjectStore, *, whole: bool) -> tuple[float, int, str, str]:
    """Seconds, requests, in words, and what was read, as a new process opens a network."""
    counting = CountingStore(store)
    log = VaultLog(counting, "net", 0, KEY)
    began = time.perf_counter()
    log.read_whole() if whole else log.refresh()
    took = time.perf_counter() - began
    assert log.doubts == (), log.doubts
    words = ", ".join(f"{count} {name}" for name, count in sorted(counting.requests.items()))
    return took, counting.requests.total(), words, log.records[-1].sha256


def compare(name: str, store: ObjectStore, count: int, rounds: int) -> None:
    """Both ways, in turns, and the ratio."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    requests: dict[bool, int] = {}
    words: dict[bool, str] = {}
    heads = set()
    for _ in range(rounds):
        for whole in (True, False):
            took, requests[whole], words[whole], head = opened(store, whole=whole)
            seconds[whole].append(took)
            heads.add(head)
    if len(heads) != 1:
        raise SystemExit(f"the two ways end at different records: {heads}")
    before, after = (statistics.median(seconds[whole]) for whole in (True, False))
    print(
        f"{name:9} {count:6,} records | every record {before:8.3f} s {words[True]:22} "
        f"| checkpoints {after:7.3f} s {words[False]:18} "
        f"| {before / after:5.1f} x faster, "
        f"{requests[True] / requests[False]:6.1f} x fewer requests",
        flush=True,
    )


def write_all(name: str, store: ObjectStore, count: int) -> None:
    """Every checkpoint that the log has got while it grew: what they cost to write, and to keep."""
    log = VaultLog(store, "net", 0, KEY)
    log.read_whole()
    spacing = checkpoints.SPACING
    written, length = 0, spacing.every
    began = time.perf_counter()
    while length <= count:
        checkpoints.SPACING = Spacing(every=length, fan_out=count)
        written += log.rewrite_checkpoints()
        length *= spacing.fan_out
    took = time.perf_counter() - began
    checkpoints.SPACING = spacing
    sizes = sum(one.size_bytes for one in store.list_objects("checkpoints/"))
    raw = sum(one.size_bytes for one in log.records)
    print(
        f"{name:9} {count:6,} records | {written} checkpoints written in {took:.3f} s, "
        f"{took / count * 1e3:.3f} ms a record; {sizes:,} bytes beside {raw:,} of records "
        f"({sizes / raw:.0%})",
        flush=True,
    )


def commit_many(commits: int) -> None:
    """Commits with the checkpoints that fall due and without any, in turns of a block each."""
    shipped = checkpoints.SPACING
    spacings = {"with": shipped, "without": shipped._replace(every=10**9)}
    blocks: dict[str, list[float]] = {name: [] for name in spacings}
    with ExitStack() as stack:
        stores = {
            name: CountingStore(stack.enter_context(directory_store())[0]) for name in spacings
        }
        logs = {name: VaultLog(store, "net", 0, KEY) for name, store in stores.items()}
        for log in logs.values():
            log.refresh()
        for block in range(commits // shipped.every):
            for name, spacing in spacings.items():
                checkpoints.SPACING = spacing
                began = time.perf_counter()
                for seq in range(shipped.every):
                    at = BEGAN + timedelta(hours=block * shipped.every + seq)
                    logs[name].append(EvidenceRecord("note", f"{seq:01000d}"), at)
                blocks[name].append(time.perf_counter() - began)
    checkpoints.SPACING = shipped
    each = {name: statistics.median(took) / shipped.every * 1e3 for name, took in blocks.items()}
    requests = {name: store.requests.total() / commits for name, store in stores.items()}
    print(
        f"directory {commits:6,} commits | {each['with']:.2f} ms each with checkpoints, "
        f"{each['without']:.2f} without ({each['with'] / each['without']:.2f} x); "
        f"{requests['with']:.3f} requests each, {requests['without']:.3f} without",
        flush=True,
    )


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="no log of 20,000 records")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-s3", action="store_true", help="the directory only")
    options = parser.parse_args()
    counts = (200, 2_000) if options.quick else (200, 2_000, 20_000)
    places: dict[str, Any] = {"directory": directory_store}
    if not options.no_s3:
        places["s3"] = s3_store
    for count in counts:
        for name, place in places.items():
            with ExitStack() as stack:
                store, fill = stack.enter_context(place())
                fill(make_records(count))
                write_all(name, store, count)
                compare(name, store, count, options.rounds if count < 20_000 else 1)
    commit_many(256 if options.quick else 1_024)


if __name__ == "__main__":
    main()
