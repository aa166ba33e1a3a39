"""What the settings declare of vector indexes, as the record that resources and ops take."""

from __future__ import annotations

from typing import Any

from fleet.vectors.declaration import (
    GIVEN,
    GIVEN_REVISION,
    AdoptedDeclaration,
    NetworkVectors,
    VectorDeclaration,
)
from fleet.vectors.records import EmbeddingModel, Metric, VectorPolicy
from fleet.vectors.refresh_due import RefreshThresholds
from platform_defs.settings import Settings
from platform_defs.settings_networks import NetworkSettings
from platform_defs.settings_vectors import OVERRIDDEN, AdoptedIndexSettings

_MIB = 1024 * 1024


def declared_vectors(settings: Settings) -> VectorDeclaration:
    """Store, networks with their own policies, and adopted files."""
    vectors = settings.vectors
    return VectorDeclaration(
        path=vectors.path,
        bucket=vectors.bucket,
        prefix=vectors.prefix,
        endpoint_url=vectors.endpoint_url,
        aws_region=vectors.aws_region,
        copies_path=vectors.copies_path,
        enabled=vectors.enabled,
        networks=tuple(_network(settings, one) for one in settings.networks),
        adopted=tuple(_adopted(one) for one in settings.indexes),
        scrub_cron=vectors.scrub_cron,
        upkeep_cron=vectors.upkeep_cron,
    )


def _network(settings: Settings, network: NetworkSettings) -> NetworkVectors:
    """A network's own values over the common ones."""
    own = network.vectors
    value = {
        name: getattr(settings.vectors if getattr(own, name) is None else own, name)
        for name in OVERRIDDEN
    }
    return NetworkVectors(
        network_id=network.name,
        policy=VectorPolicy(
            recall_target=value["recall_target"],
            keep_generations=value["keep_generations"],
            leftover_age_s=value["leftover_hours"] * 3600.0,
            memory_max_bytes=value["memory_mib"] * _MIB,
        ),
        thresholds=RefreshThresholds(
            value["refresh_notes"],
            value["refresh_share"],
            value["refresh_age_s"],
            value["behind_max_s"],
        ),
        embedder=value["embedder"],
        model_path=str(settings.path.parent / value["model_path"]) if value["model_path"] else "",
        given=_given(value) if value["embedder"] == GIVEN else None,
        gpu=value["gpu"],
    )


def _given(value: dict[str, Any]) -> EmbeddingModel:
    return EmbeddingModel(value["model"], GIVEN_REVISION, value["dimensions"])


def _adopted(one: AdoptedIndexSettings) -> AdoptedDeclaration:
    return AdoptedDeclaration(
        name=one.name,
        path=one.path,
        network_id=one.network,
        region=one.region,
        node=one.node,
        metric=None if one.metric == "any" else Metric(one.metric),
        dimensions=one.dimensions or None,
        ntotal_min=one.ntotal_min,
    )
