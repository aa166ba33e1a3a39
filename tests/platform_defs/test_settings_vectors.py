"""What the settings of vector indexes become."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from fleet.vectors.declaration import VectorDeclaration
from fleet.vectors.records import Metric, VectorPolicy
from fleet.vectors.refresh_due import RefreshThresholds
from platform_defs.build_vectors import build_vectors
from platform_defs.declared_vectors import declared_vectors
from platform_defs.settings import load_settings
from resources.clock import SystemClock
from resources.object_store.s3 import S3ObjectStore
from resources.vectors.network_indexes import NetworkIndexes
from tests.platform_defs.settings_files import SMALL, write_settings

TABLES = """
[vectors]
refresh_age_s = 60
keep_generations = 5

[networks.strict]
[networks.strict.vectors]
recall_target = 0.99
refresh_age_s = 5
leftover_hours = 2
memory_mib = 1024
gpu = "off"

[indexes.products]
path = "srv/products.faiss"
network = "watch"
region = "us-west-2"
metric = "l2"
dimensions = 384
"""


def declared(tmp_path: Path, text: str = TABLES) -> VectorDeclaration:
    """What a file with these tables declares."""
    return declared_vectors(load_settings(write_settings(tmp_path, SMALL + text), {}))


def test_a_network_has_its_own_values_over_the_common_ones(tmp_path: Path) -> None:
    """What it leaves out is as `[vectors]` says, and what that leaves out as the core has it."""
    found = declared(tmp_path)
    watch, strict = found.network("watch"), found.network("strict")
    assert watch.policy == VectorPolicy(keep_generations=5)
    assert watch.thresholds == RefreshThresholds(age_s=60.0)
    assert strict.policy == VectorPolicy(
        recall_target=0.99,
        keep_generations=5,
        leftover_age_s=7200.0,
        memory_max_bytes=1024**3,
    )
    assert strict.thresholds == RefreshThresholds(age_s=5.0)
    assert (watch.gpu, strict.gpu) == ("auto", "off")
    assert found.path == str(tmp_path / "state/vectors")
    assert found.copies_path == str(tmp_path / "state/vector_copies")


def test_an_adopted_file_is_resolved_beside_the_settings(tmp_path: Path) -> None:
    """With what its owner says of it; zero and `any` mean that nothing is demanded."""
    (one,) = declared(tmp_path).adopted
    assert (one.path, one.metric, one.dimensions) == (
        str(tmp_path / "srv/products.faiss"),
        Metric.L2,
        384,
    )
    (bare,) = declared(tmp_path, '\n[indexes.bare]\npath = "a"\n').adopted
    assert (bare.metric, bare.dimensions, bare.ntotal_min) == (None, None, 0)


def test_a_bucket_takes_the_place_of_the_folder(tmp_path: Path) -> None:
    """Opening it asks nobody."""
    text = '\n[vectors]\nbucket = "b"\nprefix = "v/"\naws_region = "us-west-2"\n'
    found = declared(tmp_path, text)
    assert found.place == "s3://b/v/"
    assert isinstance(NetworkIndexes(found, SystemClock()).objects, S3ObjectStore)


@pytest.mark.parametrize("enabled", [True, False])
def test_what_is_disabled_is_there_and_stopped(enabled: bool) -> None:
    """Commands and people can start it all the same."""
    made = build_vectors(VectorDeclaration(enabled=enabled))
    assert {sensor.default_status for sensor in made.sensors} == {
        dg.DefaultSensorStatus.RUNNING if enabled else dg.DefaultSensorStatus.STOPPED
    }
    assert {one.default_status for one in made.schedules} == {
        dg.DefaultScheduleStatus.RUNNING if enabled else dg.DefaultScheduleStatus.STOPPED
    }
    assert len(made.jobs) == 4
