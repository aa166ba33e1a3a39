"""Removes rows of the lake that belong to nothing, once somebody has approved it."""

from collections.abc import Collection

from fleet.errors import InvalidInputError
from fleet.ports.lake import Lake
from resources.orphans.lake_partitions import WHOLE


def remove_lake_partition(lake: Lake, subject: str, declared: Collection[str]) -> int:
    """Delete every object of one partition that is not declared; how many there were.

    Deletion is object by object: a call that was cut off leaves the rest, and is repeated.

    Args:
        lake: the lake.
        subject: `table/partition`.
        declared: names of regions and networks: their rows are never removed.

    Raises:
        InvalidInputError: the partition is declared (again), or the subject is none.
    """
    table, _, partition = subject.partition("/")
    if not partition or partition == WHOLE or partition in declared:
        raise InvalidInputError(
            "subject", subject, "table/partition of a region or network that is not declared"
        )
    return lake.remove(lake.objects(table, partition))
