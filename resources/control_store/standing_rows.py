"""Rows of standings as they stand there: none of them keeps the others from being read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from fleet.ports.scaling_store import ScalingKey
from fleet.rescaling.state_json import PackedStanding
from resources.control_store.database import Database
from resources.control_store.dialects import Dialect
from resources.control_store.fleet_views import driver_rows
from resources.control_store.schema import scaling_standings

_TEXTS = frozenset({"state_json", "pending_json"})


def select_standings(dialect: Dialect) -> sa.Select[Any]:
    """All standings, by workload and region; the columns of `PackedStanding`, unread."""
    table = scaling_standings
    columns = [
        dialect.text_unread(table.c[name]) if name in _TEXTS else table.c[name]
        for name in PackedStanding._fields
    ]
    return sa.select(*columns).order_by(table.c.workload, table.c.region)


def standing_rows(connection: sa.Connection, statement: sa.Select[Any]) -> list[tuple[Any, ...]]:
    """Its rows for `fleet.rescaling.state_json.standing_of_row`; what is no text stays bytes."""
    return [
        (workload, region, _text(state), scales, _text(pending), decided_us, term)
        for workload, region, state, scales, pending, decided_us, term in driver_rows(
            connection, statement
        )
    ]


def lock_standings(
    database: Database, connection: sa.Connection, keys: Iterable[ScalingKey]
) -> list[tuple[Any, ...]]:
    """The rows of some standings, as `standing_rows`; locked, all in one order."""
    wanted = set(keys)
    workloads = sorted({workload for workload, _ in wanted})
    statement = (
        select_standings(database.dialect)
        .where(database.one_of(scaling_standings.c.workload, workloads))
        .with_for_update()
    )
    return [row for row in standing_rows(connection, statement) if row[:2] in wanted]


def _text(stored: object) -> object:
    if not isinstance(stored, bytes):
        return stored
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return stored
