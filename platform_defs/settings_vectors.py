"""Settings of vector indexes: where they lie, how good they are, when they are renewed."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.vectors.declaration import GIVEN, STATIC, TRANSFORMERS
from fleet.vectors.records import DIMENSIONS_MAX, Metric
from platform_defs import settings_kinds as kinds
from platform_defs.settings_keys import key

EMBEDDERS = (STATIC, GIVEN, TRANSFORMERS)
GPU_POLICIES = ("auto", "require", "off")
"""As `resources.gpu.devices.POLICIES`, which would import drivers."""

_RECALL = kinds.number(0.5, 1.0, "parts of 1")
_NOTES = kinds.whole(1, 1_000_000_000, "notes")
_SHARE = kinds.number(0.001, 1.0, "parts of 1")
_SECONDS = kinds.number(1.0, 31_536_000.0, "seconds")
_KEPT = kinds.whole(1, 1000)
_MIB = kinds.whole(64, 64 * 1024 * 1024, "MiB")
_HOURS = kinds.whole(1, 24 * 366, "hours")
_EMBEDDER = kinds.choice(*EMBEDDERS)
_WIDTH = kinds.whole(0, DIMENSIONS_MAX)
_GPU = kinds.choice(*GPU_POLICIES)


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorSettings:
    """Embeddings and indexes of what agents note; docs/vectors.md tells how they are used."""

    enabled: bool = key(
        kinds.boolean(),
        "Whether sensors and schedules embed, build and scrub; commands work either way.",
        default=True,
    )
    path: str = key(
        kinds.text("a folder, absolute or relative to stateroom.toml"),
        "Folder of embeddings and indexes; of no meaning with a bucket.",
        default="{state_dir}/vectors",
    )
    bucket: str = key(
        kinds.optional_text(),
        "S3 bucket of embeddings and indexes, in the home region; credentials come from the "
        "environment, as boto3 finds them.",
        default="",
        production="stateroom-vectors",
    )
    prefix: str = key(
        kinds.optional_text(), "Put before each key in the bucket, ending in '/'.", default=""
    )
    endpoint_url: str = key(
        kinds.optional_url(), "S3 endpoint; empty takes that of AWS.", default=""
    )
    aws_region: str = key(
        kinds.optional_text(), "AWS region of the bucket; empty takes boto3's.", default=""
    )
    copies_path: str = key(
        kinds.text("a folder, absolute or relative to stateroom.toml"),
        "Folder of this machine's verified copies of what is searched.",
        default="{state_dir}/vector_copies",
    )
    recall_target: float = key(
        _RECALL, "Least recall@10 of an index that is published.", default=0.95, unit="parts of 1"
    )
    refresh_notes: int = key(
        _NOTES, "So many waiting notes make a refresh due.", default=10_000, unit="notes"
    )
    refresh_share: float = key(
        _SHARE,
        "So many waiting notes, as a share of those inside (and 1,000 at least), make one due.",
        default=0.1,
        unit="parts of 1",
    )
    refresh_age_s: float = key(
        _SECONDS,
        "A note that has waited so long makes a refresh due.",
        default=30.0,
        unit="seconds",
        ci="1.0",
        production="300.0",
    )
    behind_max_s: float = key(
        _SECONDS,
        "A note that has waited so long makes the index stale: its check and alert fire.",
        default=900.0,
        unit="seconds",
        production="1800.0",
    )
    keep_generations: int = key(
        _KEPT, "Published generations that stay, the current one included.", default=3
    )
    leftover_hours: int = key(
        _HOURS,
        "Age at which files of a build that was never published are removed.",
        default=6,
        unit="hours",
        ci="1",
    )
    memory_mib: int = key(
        _MIB,
        "Memory that an index may take in a process that searches it; decides its type.",
        default=8192,
        unit="MiB",
    )
    embedder: str = key(
        _EMBEDDER,
        "What turns notes into vectors; `given`: agents hand them in with their notes; "
        "`sentence-transformers`: an extra, with a model in `model_path`.",
        default=STATIC,
    )
    model_path: str = key(
        kinds.optional_text(),
        "Folder of the embedder's model, which is never fetched; `static` brings its own.",
        default="",
    )
    model: str = key(
        kinds.optional_name(),
        "Name of the model whose vectors agents hand in; with the embedder `given` only.",
        default="",
    )
    dimensions: int = key(
        _WIDTH, "Width of these vectors; with the embedder `given` only.", default=0
    )
    gpu: str = key(
        _GPU, "Whether builds use a GPU: where there is one, only with one, never.", default="auto"
    )
    builds_at_once: int = key(
        kinds.whole(1, 64, "builds"),
        "Builds that run at once, over all machines: one for each GPU (each leases its own), or "
        "one on a processor, of which a build takes every core.",
        default=1,
    )
    scrub_cron: str = key(
        kinds.cron(),
        "When every stored byte of all indexes is read and compared.",
        default="0 3 * * *",
    )
    upkeep_cron: str = key(
        kinds.cron(),
        "When leftovers of builds and old generations are removed.",
        default="50 * * * *",
    )


OVERRIDDEN = (
    "recall_target",
    "refresh_notes",
    "refresh_share",
    "refresh_age_s",
    "behind_max_s",
    "keep_generations",
    "leftover_hours",
    "memory_mib",
    "embedder",
    "model_path",
    "model",
    "dimensions",
    "gpu",
)
"""Keys that a network may set for itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkVectorSettings:
    """What a network has otherwise than `[vectors]` says; absent: the same."""

    recall_target: float | None = key(
        _RECALL, "Of this network: as `vectors.recall_target`.", default=None, unit="parts of 1"
    )
    refresh_notes: int | None = key(
        _NOTES, "Of this network: as `vectors.refresh_notes`.", default=None, unit="notes"
    )
    refresh_share: float | None = key(
        _SHARE, "Of this network: as `vectors.refresh_share`.", default=None, unit="parts of 1"
    )
    refresh_age_s: float | None = key(
        _SECONDS, "Of this network: as `vectors.refresh_age_s`.", default=None, unit="seconds"
    )
    behind_max_s: float | None = key(
        _SECONDS, "Of this network: as `vectors.behind_max_s`.", default=None, unit="seconds"
    )
    keep_generations: int | None = key(
        _KEPT, "Of this network: as `vectors.keep_generations`.", default=None
    )
    leftover_hours: int | None = key(
        _HOURS, "Of this network: as `vectors.leftover_hours`.", default=None, unit="hours"
    )
    memory_mib: int | None = key(
        _MIB, "Of this network: as `vectors.memory_mib`.", default=None, unit="MiB"
    )
    embedder: str | None = key(_EMBEDDER, "Of this network: as `vectors.embedder`.", default=None)
    model_path: str | None = key(
        kinds.optional_text(), "Of this network: as `vectors.model_path`.", default=None
    )
    model: str | None = key(
        kinds.optional_name(), "Of this network: as `vectors.model`.", default=None
    )
    dimensions: int | None = key(_WIDTH, "Of this network: as `vectors.dimensions`.", default=None)
    gpu: str | None = key(_GPU, "Of this network: as `vectors.gpu`.", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptedIndexSettings:
    """A FAISS index file that a service keeps: checked and measured, changed never."""

    name: str
    path: str = key(kinds.text("a file, absolute or relative to stateroom.toml"), "The file.")
    network: str = key(
        kinds.optional_name(), "Network that it belongs to; empty for the fleet's own.", default=""
    )
    region: str = key(kinds.optional_name(), "Region that it lies in; empty: wherever.", default="")
    node: str = key(kinds.optional_name(), "Node that it lies on; empty: any.", default="")
    metric: str = key(
        kinds.choice("any", *(one.value for one in Metric)),
        "How it compares vectors, as its service says.",
        default="any",
    )
    dimensions: int = key(
        kinds.whole(0, DIMENSIONS_MAX), "Width of its vectors; 0: any.", default=0
    )
    ntotal_min: int = key(
        kinds.whole(0, 1 << 40, "vectors"),
        "Fewer vectors than this are a problem.",
        default=0,
        unit="vectors",
    )
