"""What people order about scaling, in SQL; each journaled in the transaction that keeps it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import sqlalchemy as sa

from fleet.incidents import validate_person, validate_words
from fleet.journal import JournalEntry
from fleet.ports.scaling_store import ScalingKey
from fleet.rescaling.standing import (
    ScalingOrder,
    forgotten_step,
    scales_journaled,
    scaling_subject,
    validate_order,
)
from fleet.rescaling.state_json import PackedStanding, emptied_standing
from resources.control_store import schema
from resources.control_store.database import Feature
from resources.control_store.journal import insert_steps, journal_rows
from resources.control_store.standing_rows import lock_standings
from resources.control_store.times import from_us, from_us_or_none, to_us, to_us_or_none

_ORDERS, _STANDINGS = schema.scaling_orders, schema.scaling_standings


class SqlScalingOrders(Feature):
    """The part of the control store that takes people's word about scaling."""

    def order_scaling(self, orders: Sequence[ScalingOrder]) -> None:
        """Keep orders and journal them."""
        for one in orders:
            validate_person("ordered_by", one.ordered_by)
            validate_words("reason", one.reason)
            validate_order(one)
        if not orders:
            return
        rows = [
            one._asdict() | {"ordered_at": to_us(one.ordered_at), "until": to_us_or_none(one.until)}
            for one in orders
        ]
        with self._database.write() as connection:
            connection.execute(self._database.upsert(_ORDERS), rows)
            steps = [_step(one, row["ordered_at"]) for one, row in zip(orders, rows, strict=True)]
            insert_steps(self._database, connection, journal_rows(steps))

    def lift_scaling(self, keys: Collection[ScalingKey], kind: str, by: str, why: str) -> int:
        """Remove orders of a kind and journal it."""
        validate_person("lifted_by", by)
        validate_words("reason", why)
        wanted = set(keys)
        regions = sorted({region for _, region in wanted})
        with self._database.write() as connection:
            now = self._database.dialect.now_us(connection)
            found = connection.execute(
                sa.select(_ORDERS.c.workload, _ORDERS.c.region).where(
                    _ORDERS.c.kind == kind, self._database.one_of(_ORDERS.c.region, regions)
                )
            ).all()
            lifted = sorted((row[0], row[1]) for row in found if (row[0], row[1]) in wanted)
            for workload, region in lifted:
                connection.execute(
                    _ORDERS.delete().where(
                        _ORDERS.c.workload == workload,
                        _ORDERS.c.region == region,
                        _ORDERS.c.kind == kind,
                    )
                )
            steps = [
                JournalEntry(
                    scaling_subject(*key),
                    f"lifted-{kind}/{now}",
                    "done",
                    scaling_subject(*key),
                    f"{by}: {why}",
                    from_us(now),
                )
                for key in lifted
            ]
            insert_steps(self._database, connection, journal_rows(steps))
        return len(lifted)

    def forget_scaling(self, keys: Collection[ScalingKey], by: str, why: str) -> list[ScalingKey]:
        """Empty standings, and journal them as they stood there."""
        validate_person("forgotten_by", by)
        validate_words("reason", why)
        with self._database.write() as connection:
            now = from_us(self._database.dialect.now_us(connection))
            rows = lock_standings(self._database, connection, keys)
            for row in rows:
                self._forget(connection, row[:2], row[3])
            steps = [
                forgotten_step(
                    row[:2], dict(zip(PackedStanding._fields, row, strict=True)), by, why, now
                )
                for row in rows
            ]
            insert_steps(self._database, connection, journal_rows(steps))
        return [(row[0], row[1]) for row in rows]

    def _forget(self, connection: sa.Connection, key: ScalingKey, scales: object) -> None:
        """Empty one standing; its number of changes goes on above all that were journaled."""
        journal = schema.journal
        told = connection.scalars(
            sa.select(journal.c.step).where(journal.c.action_id == scaling_subject(*key))
        )
        emptied = emptied_standing(key, scales, scales_journaled(told))
        connection.execute(self._database.upsert(_STANDINGS), [emptied._asdict()])

    def scaling_orders(self) -> list[ScalingOrder]:
        """All orders, by workload, region and kind."""
        statement = sa.select(*(_ORDERS.c[name] for name in ScalingOrder._fields)).order_by(
            _ORDERS.c.workload, _ORDERS.c.region, _ORDERS.c.kind
        )
        with self._database.read() as connection:
            rows = connection.execute(statement).all()
        return [
            ScalingOrder._make((*row[:-2], from_us(row[-2]), from_us_or_none(row[-1])))
            for row in rows
        ]


def _step(order: ScalingOrder, at_us: int) -> JournalEntry:
    subject = scaling_subject(*order.key)
    until = "" if order.until is None else f" until {order.until.isoformat()}"
    words = f"{order.ordered_by}, {order.replicas} replicas{until}: {order.reason}"
    return JournalEntry(subject, f"{order.kind}/{at_us}", "done", subject, words, order.ordered_at)
