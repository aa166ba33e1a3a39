"""Everything about adopted FAISS files that Dagster runs; nothing where none is declared."""

from typing import Any, NamedTuple

import dagster as dg

from assets.adopted_indexes import adopted_key, build_adopted_assets
from fleet.vectors.declaration import VectorDeclaration
from ops.adopted_indexes import LOOK_CLASS, LOOK_JOB
from sensors.adopted_indexes import build_look_schedule


class AdoptedDefinitions(NamedTuple):
    """What is handed to `Definitions`."""

    assets: list[dg.AssetsDefinition]
    jobs: list[Any]
    schedules: list[dg.ScheduleDefinition]


def build_adopted(declaration: VectorDeclaration) -> AdoptedDefinitions:
    """An asset for each adopted index, and one job and schedule that look at all."""
    if not declaration.adopted:
        return AdoptedDefinitions([], [], [])
    keys = [adopted_key(one.name) for one in declaration.adopted]
    job = dg.define_asset_job(
        LOOK_JOB,
        selection=dg.AssetSelection.assets(*keys),
        tags=LOOK_CLASS,
        description="Opens, searches and measures the adopted indexes of services.",
    )
    schedule = build_look_schedule(declaration.scrub_cron, running=declaration.enabled)
    return AdoptedDefinitions(build_adopted_assets(declaration.adopted), [job], [schedule])
