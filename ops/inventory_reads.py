"""Reads the newest inventory of every region back from the lake, damaged or not."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

from fleet.errors import CorruptObjectError, NotFoundError
from fleet.inventory_checks import CheckVerdict, Offender, Severity
from fleet.ports.lake import Lake
from ops.bulk import collector_paused

R = TypeVar("R", bound=tuple[Any, ...])


class Inventory(NamedTuple, Generic[R]):
    """The newest rows of a table, of all regions that could be read."""

    records: list[R]
    observed_at: dict[str, datetime]
    """Region -> when its rows were observed; regions that could not be read are absent."""
    unread: list[Offender]
    """Regions whose rows are missing or damaged, and why."""


def read_inventory(lake: Lake, table: str, regions: Sequence[str], record: type[R]) -> Inventory[R]:
    """Read each region's newest object; a missing or damaged one does not hide the others.

    Raises:
        LakeUnavailableError: the lake as a whole cannot be read.
    """
    from resources.lake.records import from_table

    read: Inventory[R] = Inventory([], {}, [])
    for region in regions:
        try:
            rows = lake.read_latest(table, region)
            observed_at = lake.objects(table, region)[-1].written_at
        except NotFoundError:
            read.unread.append(Offender(table, region, "never recorded"))
        except CorruptObjectError as error:
            read.unread.append(Offender(table, region, str(error)))
        else:
            with collector_paused():
                read.records.extend(from_table(rows, record))
            read.observed_at[region] = observed_at
    return read


def qualify(verdict: CheckVerdict, unread: Sequence[Offender]) -> CheckVerdict:
    """A claim about all regions does not hold while some of them cannot be read."""
    if not unread:
        return verdict
    named = "; ".join(f"{each.subject} of {each.region}: {each.detail}" for each in unread)
    return verdict._replace(
        passed=False,
        severity=Severity.ERROR,
        reason=f"cannot be judged for all regions: {named}; of the others: {verdict.reason}",
        offenders=(*unread, *verdict.offenders),
        numbers={**verdict.numbers, "unread_regions": len(unread)},
    )
