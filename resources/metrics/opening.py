"""Opens a metric store where the settings say it lies; nothing is read before its first use."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.metrics.store_facts import MetricsDeclaration
from fleet.ports.object_store import ObjectStore

if TYPE_CHECKING:
    from resources.metrics.metric_store import ObjectMetricStore


def open_metric_store(
    declaration: MetricsDeclaration,
    now: Callable[[], datetime],
    *,
    writer: str = "",
    settle_s: int = 120,
) -> ObjectMetricStore:
    """The declared store.

    Args:
        declaration: where it lies.
        now: the store's clock, aware.
        writer: names this process in its commits.
        settle_s: how long after its end an hour stays open.
    """
    from resources.metrics.metric_store import ObjectMetricStore
    from resources.metrics.part_files import PartFiles
    from resources.object_store.directory import DirectoryObjectStore
    from resources.object_store.s3 import S3ObjectStore, open_s3_client

    if declaration.bucket:
        client = open_s3_client(declaration.aws_region or None, declaration.endpoint_url or None)
        bucket = S3ObjectStore(client, declaration.bucket, declaration.prefix)
        cache = Path(declaration.cache_path) if declaration.cache_path else None
        files = PartFiles(bucket, cache=cache, cache_bytes=declaration.cache_bytes)
        store: ObjectStore = bucket
    else:
        root = Path(declaration.path)
        store = DirectoryObjectStore(root)
        files = PartFiles(store, root=root)
    first_day = datetime.fromisoformat(declaration.first_day).replace(tzinfo=UTC)
    return ObjectMetricStore(
        store,
        files,
        shards=declaration.shards,
        now=now,
        writer=writer,
        settle_s=settle_s,
        sketched=declaration.sketched,
        first_ms=int(first_day.timestamp()) * 1000,
    )
