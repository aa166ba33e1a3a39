"""Tables of GPUs' leases: a part of `schema_columns.METADATA`."""

from __future__ import annotations

import sqlalchemy as sa

from resources.control_store.schema_columns import METADATA, id_column, number_column, real_column

gpu_fences = sa.Table(
    "gpu_fences",
    METADATA,
    id_column("gpu_uuid", key=True),
    # Highest fence given out; the row stays, because fences must not start again.
    number_column("fence"),
)

gpu_leases = sa.Table(
    "gpu_leases",
    METADATA,
    id_column("gpu_uuid", key=True),
    id_column("holder", key=True),
    id_column("node_id"),
    number_column("memory_bytes"),
    number_column("fence"),
    real_column("ttl_s"),
    number_column("renewed_at"),
    number_column("expires_at"),
)

gpu_fallbacks = sa.Table(
    "gpu_fallbacks",
    METADATA,
    id_column("node_id", key=True),
    id_column("reason", key=True),
    number_column("fallbacks"),
)
