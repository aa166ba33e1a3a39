"""The lake's names and decisions: keys, which objects are live, what to compact, what to remove.

Invariant: everything a listing answers is in the key, and all readers of one listing agree on
which objects count. The format is described in `docs/formats/lake.md`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from itertools import groupby
from typing import NamedTuple

from fleet.errors import InvalidInputError
from fleet.names import is_name, validate_name
from fleet.ports.lake import LakeObject

RESERVED_COLUMNS = ("partition", "tick")
"""Columns that the lake adds to every object; rows handed in must not have them."""

HISTORY_SUFFIX = "_history"
"""`<table>_history` names the SQL view over all live objects of a table."""

_TABLE = re.compile(r"[a-z][a-z0-9_]{0,62}", re.ASCII)
_FILE = re.compile(
    r"(\d{8}T\d{12})Z-(0|[1-9]\d{0,17})-([0-9a-f]{64})\.(tick|day)\.parquet", re.ASCII
)


class ObjectKind(StrEnum):
    """What one object of the lake holds."""

    TICK = "tick"
    """The rows of one write."""
    DAY = "day"
    """The merged rows of the ticks of one UTC day."""


class LakePolicy(NamedTuple):
    """How long the lake keeps single ticks and how long it keeps anything."""

    keep_ticks_hours: int = 48
    """Hours after the end of a UTC day until its ticks are merged into one object."""
    keep_days: int = 90
    """Days after the end of a UTC day until its objects are removed."""


class Compaction(NamedTuple):
    """One day of one partition whose objects are to be merged."""

    table: str
    partition: str
    day: datetime
    """Midnight UTC at which the day begins."""
    objects: int
    size_bytes: int
    reason: str


class LakeRetentionVerdict(NamedTuple):
    """Whether one object is removed, and why."""

    object: LakeObject
    remove: bool
    reason: str


def validate_table(table: str) -> str:
    """Return `table` unchanged when it may name a table: it becomes a folder and an SQL name.

    Raises:
        InvalidInputError: anything else, also a name that ends in `_history`.
    """
    if _TABLE.fullmatch(table) is None or table.endswith(HISTORY_SUFFIX):
        raise InvalidInputError(
            "table",
            table,
            "1 to 63 of a-z, 0-9 and '_', beginning with a letter, "
            f"not ending in {HISTORY_SUFFIX!r} (the view over a table's history)",
        )
    return table


def validate_partition(partition: str) -> str:
    """Return `partition` unchanged when it is a name of the fleet.

    Raises:
        InvalidInputError: it is not.
    """
    return validate_name("partition", partition)


def validate_tick(field: str, at: datetime) -> datetime:
    """Return `at` in UTC.

    Raises:
        InvalidInputError: it has no time zone, or no clock of a fleet can show it.
    """
    if at.tzinfo is None or not 1970 <= at.year <= 9998:
        raise InvalidInputError(field, at.isoformat(), "a time with its zone, from 1970 to 9998")
    return at.astimezone(UTC)


def validate_columns(columns: Iterable[str]) -> None:
    """Accept the column names of rows that are to be written.

    SQL does not tell `A` from `a`, so names must differ by more than their case.

    Raises:
        InvalidInputError: there is none, one is empty or reserved, or two are alike.
    """
    seen: set[str] = set()
    for column in columns:
        plain = column.lower()
        if not plain or plain in seen or plain in RESERVED_COLUMNS:
            raise InvalidInputError(
                "column",
                column,
                f"a name that occurs once, whatever its case, and is none of {RESERVED_COLUMNS}",
            )
        seen.add(plain)
    if not seen:
        raise InvalidInputError("columns", [], "at least one column")


def day_prefix(table: str, partition: str, at: datetime) -> str:
    """Key prefix, without a last slash, of the day folder that holds the tick `at`."""
    return f"{table}/{partition}/{at.astimezone(UTC).date().isoformat()}"


def tick_text(at: datetime) -> str:
    """`at` as it stands in file names: UTC, microseconds, sortable as text."""
    utc = at.astimezone(UTC)
    return f"{utc.year:04d}{utc:%m%dT%H%M%S%f}Z"


def object_key(
    table: str, partition: str, at: datetime, rows: int, sha256: str, kind: str = ObjectKind.TICK
) -> str:
    """Key of an object; `parse_key` is its inverse."""
    return f"{day_prefix(table, partition, at)}/{tick_text(at)}-{rows}-{sha256}.{kind}.parquet"


def parse_key(key: str, size_bytes: int) -> LakeObject | None:
    """What a key says about its object; None when it is no key of this format.

    Args:
        key: path below the lake's `objects/`, with '/'.
        size_bytes: as the listing gave it.
    """
    parts = key.split("/")
    if len(parts) != 4:
        return None
    table, partition, day, name = parts
    match = _FILE.fullmatch(name)
    if match is None or _TABLE.fullmatch(table) is None or not is_name(partition):
        return None
    tick, rows, sha256, kind = match.groups()
    try:
        at = datetime.fromisoformat(f"{tick[:15]}.{tick[15:]}+00:00")  # 20 x quicker than strptime
    except ValueError:
        return None
    if at.date().isoformat() != day:
        return None
    return LakeObject(key, table, partition, int(rows), size_bytes, sha256, at, kind)


def file_name(key: str) -> str:
    """Last part of a key: what a `day` object lists of its sources."""
    return key.rpartition("/")[2]


def is_same_tick(name: str, other: str) -> bool:
    """Tell whether two file names are those of `tick` objects of one tick."""
    ticks = name.endswith(".tick.parquet") and other.endswith(".tick.parquet")
    return ticks and name.partition("-")[0] == other.partition("-")[0]


def order_of(found: LakeObject) -> tuple[datetime, bool, str]:
    """Sort key: oldest first; at one tick the `day` object comes last, as the newest."""
    return (found.written_at, found.kind == ObjectKind.DAY, found.key)


def select_live(
    listed: Iterable[LakeObject], sources: Mapping[str, frozenset[str]]
) -> list[LakeObject]:
    """The objects of one partition that count, oldest first.

    Args:
        listed: every object found, in any order.
        sources: key of each `day` object among them -> the file names it was merged from.

    Returns:
        What is neither superseded by a `day` object nor the loser of two writers of one tick. Of
        two `day` objects where one has all sources of the other, the larger one counts.
    """
    superseded = frozenset[str]().union(*sources.values(), _nested_days(sources))
    live: list[LakeObject] = []
    for found in sorted(listed, key=order_of):
        if file_name(found.key) in superseded:
            continue
        rival = live[-1] if live else None
        same = rival is not None and rival.written_at == found.written_at
        if same and found.kind == ObjectKind.TICK:
            continue
        live.append(found)
    return live


def _nested_days(sources: Mapping[str, frozenset[str]]) -> set[str]:
    """Names of day objects whose sources another one has as well (two compactions raced)."""
    nested: set[str] = set()
    kept: list[frozenset[str]] = []
    for key in sorted(sources, key=lambda key: (-len(sources[key]), key)):
        if any(sources[key] <= larger for larger in kept):
            nested.add(file_name(key))
        else:
            kept.append(sources[key])
    return nested


def select_newest(live: Iterable[LakeObject]) -> dict[str, LakeObject]:
    """The newest object of each partition, by partition."""
    newest: dict[str, LakeObject] = {}
    for found in live:
        best = newest.get(found.partition)
        if best is None or order_of(found) > order_of(best):
            newest[found.partition] = found
    return newest


def plan_compaction(
    objects: Iterable[LakeObject], policy: LakePolicy, now: datetime
) -> list[Compaction]:
    """Days whose objects are to be merged, in order of table, partition and day.

    A day is due once it ended `keep_ticks_hours` ago or earlier and it has more than one live
    object. Running the plan again after it was carried out finds nothing.

    Args:
        objects: live objects of any tables (`Lake.objects`).
        policy: how long single ticks are kept.
        now: the moment of the decision.
    """
    before = now - timedelta(hours=policy.keep_ticks_hours)
    plan = []
    for (table, partition, day), members in groupby(sorted(objects, key=_folder), key=_folder):
        group = list(members)
        ended_at = _day_end(day)
        if len(group) < 2 or ended_at > before:
            continue
        reason = (
            f"{len(group)} objects of {day}, which ended {_hours(now - ended_at)} h ago; "
            f"single ticks are kept {policy.keep_ticks_hours} h"
        )
        begins_at = datetime(day.year, day.month, day.day, tzinfo=UTC)
        size_bytes = sum(found.size_bytes for found in group)
        plan.append(Compaction(table, partition, begins_at, len(group), size_bytes, reason))
    return plan


def plan_lake_retention(
    objects: Iterable[LakeObject], policy: LakePolicy, now: datetime
) -> list[LakeRetentionVerdict]:
    """Say of every object whether it is removed, in order of table, partition and tick.

    The newest object of each partition always stays, however old: it is the last that is known.

    Args:
        objects: live objects of any tables (`Lake.objects`).
        policy: how long objects are kept.
        now: the moment of the decision.
    """
    before = now - timedelta(days=policy.keep_days)
    verdicts = []
    by_partition = sorted(objects, key=lambda found: (found.table, found.partition))
    for _, members in groupby(by_partition, key=lambda found: (found.table, found.partition)):
        group = sorted(members, key=order_of)
        for found in group:
            ended_at = _day_end(found.written_at.date())
            age = f"its day ended {_hours(now - ended_at) // 24} days ago"
            if ended_at > before:
                verdict = LakeRetentionVerdict(found, False, f"younger than {policy.keep_days} d")
            elif found is group[-1]:
                reason = f"newest object of its partition, though {age}"
                verdict = LakeRetentionVerdict(found, False, reason)
            else:
                reason = f"{age}; kept {policy.keep_days} days"
                verdict = LakeRetentionVerdict(found, True, reason)
            verdicts.append(verdict)
    return verdicts


def _folder(found: LakeObject) -> tuple[str, str, date]:
    """Table, partition and UTC day of an object."""
    return (found.table, found.partition, found.written_at.date())


def _day_end(day: date) -> datetime:
    """The first moment after a UTC day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)


def _hours(span: timedelta) -> int:
    """Whole hours of a span."""
    return int(span.total_seconds() // 3600)
