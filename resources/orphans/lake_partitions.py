"""Rows in the lake of regions and networks that are not declared any more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator

from fleet.cleanup import LeftKind, Orphan
from fleet.errors import InvalidInputError, VersionConflictError
from fleet.failover_tables import FLEET
from fleet.ports.lake import Lake, LakeObject

WHOLE = frozenset({"all", FLEET})
"""Partitions of tables that are about everything at once."""


class LakePartitions:
    """Compares the partitions of every table with the declared names.

    Args:
        lake: the lake.
        names: regions and networks that are declared.
    """

    def __init__(self, lake: Lake, names: Collection[str]) -> None:
        """Remember."""
        self._lake = lake
        self._names = WHOLE.union(names)
        self.kind = LeftKind.LAKE_PARTITION

    def orphans(self) -> Iterator[Orphan]:
        """See the port; by table and partition."""
        for table in self._lake.tables():
            partitions: dict[str, list[LakeObject]] = defaultdict(list)
            for one in self._lake.objects(table):
                if one.partition not in self._names:
                    partitions[one.partition].append(one)
            for partition in sorted(partitions):
                objects = partitions[partition]
                yield Orphan(
                    LeftKind.LAKE_PARTITION.value,
                    f"{table}/{partition}",
                    "",
                    sum(one.size_bytes for one in objects),
                    max(one.written_at for one in objects),
                    f"{len(objects)} objects of {partition}, which is not declared",
                )

    def remove(self, orphan: Orphan) -> int:
        """See the port; object by object, and none that was written since the look."""
        table, _, partition = orphan.subject.partition("/")
        if not partition or partition in self._names:
            raise InvalidInputError(
                "subject",
                orphan.subject,
                "table/partition of a region or network that is not declared",
            )
        objects = self._lake.objects(table, partition)
        if any(one.written_at > orphan.newest_at for one in objects):
            raise VersionConflictError(
                f"{orphan.subject} has been written since it was looked at; nothing was removed",
                hint="Whoever writes there still needs it.",
            )
        self._lake.remove(objects)
        return sum(one.size_bytes for one in objects)
