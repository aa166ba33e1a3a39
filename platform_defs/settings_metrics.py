"""Settings of metrics: where samples and rollups lie, and how long each is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fleet.errors import InvalidInputError
from fleet.metrics.labels import labels_of
from fleet.metrics.rollup_plan import MetricPolicy
from fleet.metrics.store_facts import MetricsDeclaration
from platform_defs import settings_kinds as kinds
from platform_defs.settings_keys import key

_DAYS = kinds.whole(1, 36_500, "days")


def metric_names() -> kinds.Kind:
    """Names of metrics, none twice; empty means that there is none."""

    def check(value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise kinds.RefusedError
        try:
            found = {labels_of(item) for item in value}
        except InvalidInputError as error:
            raise kinds.RefusedError from error
        if len(found) < len(value):
            raise kinds.RefusedError
        return tuple(value)

    allowed = 'a list of names of metrics, none twice, such as ["queue_size", "load1"]'
    return kinds.Kind("list of metrics", allowed, check, lambda text: text.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricSettings:
    """Raw samples and rollups; docs/formats/metrics.md describes the store."""

    enabled: bool = key(
        kinds.boolean(),
        "Whether rollups are made and old data let go; samples are taken either way.",
        default=True,
    )
    collect: bool = key(
        kinds.boolean(),
        "Whether `stateroom up` runs a collector, which scrapes the fleet and evaluates rules.",
        default=True,
        production="false, where Prometheus does both",
    )
    scrape_interval_s: float = key(
        kinds.number(1.0, 3600.0, "seconds"),
        "Time between two scrapes of a target.",
        default=15.0,
        unit="seconds",
        ci="1.0",
    )
    path: Path = key(
        kinds.text("a folder, absolute or relative to stateroom.toml"),
        "Folder of the metric store; of no meaning with a bucket.",
        default="{state_dir}/metrics",
    )
    bucket: str = key(
        kinds.optional_text(),
        "S3 bucket of the store; credentials come from the environment, as boto3 finds them.",
        default="",
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
    cache_path: Path = key(
        kinds.text("a folder, absolute or relative to stateroom.toml"),
        "Folder of copies of a bucket's objects.",
        default="{state_dir}/metrics_cache",
    )
    cache_mib: int = key(
        kinds.whole(64, 64 * 1024 * 1024, "MiB"),
        "Size of these copies; those that were used longest ago go first.",
        default=8192,
        unit="MiB",
    )
    shards: int = key(
        kinds.whole(1, 1024),
        "How samples of an hour are divided; fixed when the store is made. One for each 10,000 "
        "samples a second.",
        default=4,
        ci="1",
        production="16",
    )
    first_day: str = key(
        kinds.day(),
        "First partition of the rollups; older samples are refused.",
        default="2025-01-01",
    )
    sketched: tuple[str, ...] = key(
        metric_names(),
        "Gauges whose rollups also hold sketches: their quantiles are read within 1 %, also where "
        "raw samples are gone. Holds from the next sample on.",
        default=(),
    )
    settle_s: int = key(
        kinds.whole(0, 86_400, "seconds"),
        "How long after its end an hour stays open for samples that are on their way.",
        default=120,
        unit="seconds",
    )
    keep_raw_days: int = key(
        _DAYS, "How long raw samples are kept.", default=15, unit="days", ci="1"
    )
    keep_1m_days: int = key(
        _DAYS, "How long rollups of a minute are kept.", default=30, unit="days", ci="1"
    )
    keep_5m_days: int = key(
        _DAYS, "How long rollups of five minutes are kept.", default=90, unit="days", ci="1"
    )
    keep_1h_days: int = key(
        _DAYS, "How long rollups of an hour are kept.", default=400, unit="days", ci="1"
    )
    keep_1d_days: int = key(
        _DAYS, "How long rollups of a day are kept.", default=3650, unit="days", ci="1"
    )
    retention_cron: str = key(
        kinds.cron(),
        "When parts are merged, old ones let go, and a share of the bytes is verified.",
        default="25 * * * *",
    )


def declared_metrics(metrics: MetricSettings) -> MetricsDeclaration:
    """Where the store lies."""
    return MetricsDeclaration(
        path=str(metrics.path),
        bucket=metrics.bucket,
        prefix=metrics.prefix,
        endpoint_url=metrics.endpoint_url,
        aws_region=metrics.aws_region,
        cache_path=str(metrics.cache_path),
        cache_bytes=metrics.cache_mib * 1024 * 1024,
        shards=metrics.shards,
        first_day=metrics.first_day,
        enabled=metrics.enabled,
        sketched=metrics.sketched,
    )


def metric_policy_of(metrics: MetricSettings) -> MetricPolicy:
    """How long what is kept."""
    return MetricPolicy(
        metrics.keep_raw_days,
        metrics.keep_1m_days,
        metrics.keep_5m_days,
        metrics.keep_1h_days,
        metrics.keep_1d_days,
        metrics.settle_s,
    )
