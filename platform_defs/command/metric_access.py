"""How subcommands reach the metric store: only one that exists."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fleet.errors import LakeUnavailableError
from platform_defs.settings import Settings

if TYPE_CHECKING:
    from resources.metrics.metric_store import ObjectMetricStore


def metrics_folder(settings: Settings) -> Path:
    """Where these settings keep metrics."""
    return settings.fleet.state_dir / "metrics"


def open_metric_store(settings: Settings) -> ObjectMetricStore:
    """The metric store of these settings, for reading.

    Raises:
        LakeUnavailableError: there is none yet (an inspection must not create one).
    """
    folder = metrics_folder(settings)
    made = folder / "store.json"
    if not made.is_file():
        raise LakeUnavailableError(
            f"no metrics at {folder}",
            hint="Start the fleet with `stateroom up`, or bring samples with `stateroom metrics "
            "import`.",
        )
    from resources.metrics.metric_store import ObjectMetricStore
    from resources.metrics.part_files import PartFiles
    from resources.object_store.directory import DirectoryObjectStore

    objects = DirectoryObjectStore(folder)
    return ObjectMetricStore(
        objects,
        PartFiles(objects, folder),
        # the store says itself how it is divided
        shards=int(json.loads(made.read_text(encoding="utf-8"))["shards"]),
        now=lambda: datetime.now(UTC),
        writer=f"command-{os.getpid()}",
    )
