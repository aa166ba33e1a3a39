"""Everything about vector indexes that Dagster runs: assets, checks, jobs, sensor, schedules."""

from typing import Any, NamedTuple

import dagster as dg

from assets.memory_embeddings import build_embedding_assets, build_notes_spec
from assets.vector_checks import (
    BYTE_CLAIMS,
    CONTENT_CLAIMS,
    STANDING_CLAIMS,
    build_vector_checks,
    claims,
)
from assets.vector_index import build_index_assets
from fleet.vectors.declaration import VectorDeclaration
from ops.vector_health import HEALTH
from ops.vector_jobs import (
    BUILD_JOB,
    EMBED_JOB,
    EMBEDDINGS,
    INDEX,
    SCRUB_JOB,
    UPKEEP_JOB,
    VECTOR_CLASS,
)
from resources.vectors.resource import network_indexes_resource
from sensors.vectors import build_refresh_sensor, build_vector_schedules


class VectorDefinitions(NamedTuple):
    """What the code location gains."""

    assets: list[dg.AssetsDefinition | dg.AssetSpec]
    checks: list[dg.AssetChecksDefinition]
    jobs: list[Any]
    schedules: list[dg.ScheduleDefinition]
    sensors: list[dg.SensorDefinition]


def vector_resources(declaration: VectorDeclaration) -> dict[str, Any]:
    """Resources by key; nothing is opened."""
    return {
        "network_indexes": network_indexes_resource,
        "vector_declaration": declaration,
    }


def build_vectors(declaration: VectorDeclaration) -> VectorDefinitions:
    """Everything about vector indexes; where they are disabled it is there, and stopped."""
    running = declaration.enabled
    networks = declaration.network_ids
    return VectorDefinitions(
        assets=[
            build_notes_spec(),
            *build_embedding_assets(networks),
            *build_index_assets(networks),
        ],
        checks=build_vector_checks(),
        jobs=_jobs(),
        schedules=build_vector_schedules(
            declaration.scrub_cron, declaration.upkeep_cron, running=running
        ),
        sensors=[build_refresh_sensor(running=running)],
    )


def _jobs() -> list[Any]:
    assets = dg.AssetSelection.assets
    return [
        _job(EMBED_JOB, assets(EMBEDDINGS), "Embeds notes that are not embedded yet."),
        _job(
            BUILD_JOB,
            assets(EMBEDDINGS, INDEX).without_checks() | claims(STANDING_CLAIMS),
            "Embeds new notes, updates or rebuilds the network's index, publishes it, judges it.",
        ),
        _job(SCRUB_JOB, claims(BYTE_CLAIMS), "Reads every stored byte of all indexes."),
        _job(
            UPKEEP_JOB,
            assets(HEALTH) | claims({**STANDING_CLAIMS, **CONTENT_CLAIMS}),
            "Removes old generations and leftovers, says how all indexes stand, compares ids.",
        ),
    ]


def _job(name: str, selection: dg.AssetSelection, description: str) -> Any:
    return dg.define_asset_job(
        name, selection=selection, tags=VECTOR_CLASS, description=description
    )
