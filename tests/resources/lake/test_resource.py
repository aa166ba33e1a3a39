"""The lake comes to ops and assets as a plain object."""

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
from pydantic import ValidationError

from fleet.ports.lake import Lake
from resources.lake.parquet_lake import ParquetLake
from resources.lake.resource import LakeResource


def test_an_asset_gets_the_lake_itself(tmp_path: Path) -> None:
    """And writes to the folder that the resource names."""

    @dg.asset
    def nodes(lake: dg.ResourceParam[Lake]) -> None:
        assert isinstance(lake, ParquetLake)
        lake.write("nodes", "eu", pa.table({"a": [1]}), datetime(2026, 3, 1, tzinfo=UTC))

    with dg.DagsterInstance.ephemeral() as instance:
        resources = {"lake": LakeResource(path=str(tmp_path / "lake"))}
        assert dg.materialize([nodes], instance=instance, resources=resources).success
    assert (tmp_path / "lake" / "objects" / "nodes" / "eu" / "2026-03-01").is_dir()


@pytest.mark.parametrize("wrong", [{"query_timeout_s": 0}, {"query_memory_mib": 1}])
def test_limits_that_allow_nothing_are_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    """When the definitions are made, not when somebody asks."""
    with pytest.raises(ValidationError):
        LakeResource(path=str(tmp_path), **wrong)
