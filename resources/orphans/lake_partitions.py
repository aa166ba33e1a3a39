"""Rows in the lake of regions and networks that are not declared any more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator

from fleet.cleanup import LeftKind, Orphan
from fleet.ports.lake import Lake, LakeObject

WHOLE = "all"
"""Partition of tables that are about everything at once."""


class LakePartitions:
    """Compares the partitions of every table with the declared names.

    Args:
        lake: the lake.
        names: regions and networks that are declared.
    """

    def __init__(self, lake: Lake, names: Collection[str]) -> None:
        """Remember."""
        self._lake = lake
        self._names = {*names, WHOLE}

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
