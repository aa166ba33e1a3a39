"""The lake as a Dagster resource."""

import dagster as dg
from pydantic import Field

from fleet.ports.lake import Lake
from resources.lake.directory_store import DirectoryStore
from resources.lake.parquet_lake import ParquetLake
from resources.lake.query import QueryLimits


class LakeResource(dg.ConfigurableResource[Lake]):
    """A lake in a local directory; ops and assets take `dg.ResourceParam[Lake]`."""

    path: str = Field(description="Folder of the lake; created when it is missing.")
    query_timeout_s: float = Field(default=30.0, gt=0, description="Time limit of one SQL query.")
    query_memory_mib: int = Field(default=1024, ge=64, description="Memory limit of a query.")

    def create_resource(self, context: dg.InitResourceContext) -> Lake:  # noqa: ARG002  Dagster's signature
        """A plain lake; it holds no connection and needs no closing."""
        limits = QueryLimits(
            timeout_s=self.query_timeout_s, memory_bytes=self.query_memory_mib * 1024 * 1024
        )
        return ParquetLake(DirectoryStore(self.path), limits)
