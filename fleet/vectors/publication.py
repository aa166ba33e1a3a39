"""Who may publish next: terms never go back, and numbers leave no gap."""

from __future__ import annotations

from fleet.errors import LeaseLostError, VersionConflictError
from fleet.vectors.records import IndexPointer


def demand_next(current: IndexPointer | None, pointer: IndexPointer) -> None:
    """Refuse a publisher that was overtaken.

    Args:
        current: what readers use now; None before the first publication.
        pointer: what is to come next; one that is there already may come again.

    Raises:
        LeaseLostError: a later term has published.
        VersionConflictError: the number is not the next one.
    """
    if current is None:
        current = pointer._replace(number=0, fence=0, generation="none")
    if pointer.fence < current.fence:
        raise LeaseLostError(
            f"index of {pointer.network_id}: term {pointer.fence} has ended; pointer "
            f"{current.number} was published under term {current.fence}",
            hint="This builder must stop; the other one publishes.",
        )
    if current == pointer:
        return
    if pointer.number != current.number + 1:
        raise beaten(pointer, current)


def beaten(pointer: IndexPointer, current: IndexPointer) -> VersionConflictError:
    """The error of a publisher whose number another pointer has taken."""
    return VersionConflictError(
        f"index of {pointer.network_id}: pointer {pointer.number} cannot follow; current is "
        f"{current.number} ({current.generation}, term {current.fence})",
        hint="Another builder has published: read its generation and refresh from there.",
    )
