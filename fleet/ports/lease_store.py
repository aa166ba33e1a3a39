"""Who may act, and until when: leases judged by the store's clock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from fleet.errors import LeaseLostError
from fleet.leases import Lease


class LeaseWish(NamedTuple):
    """A request for a lease."""

    name: str
    holder: str
    ttl_s: float


class LeaseResult(NamedTuple):
    """Outcome of one request of a batch, as `acquire_lease` would have given it."""

    name: str
    lease: Lease | None
    """None when somebody else holds it."""
    error: LeaseLostError | None
    """Who holds it, and until when; None when it was had."""


class LeaseStore(Protocol):
    """Leases with monotonic terms, judged by one clock: the store's."""

    def acquire_lease(self, name: str, holder: str, ttl_s: float) -> Lease:
        """Take a free or expired lease (term + 1), or renew one's own.

        Raises:
            LeaseLostError: somebody else holds it; the message says who and until when.
        """
        ...

    def acquire_leases(self, wishes: Sequence[LeaseWish]) -> list[LeaseResult]:
        """Take or renew many leases in one transaction, in order, each as `acquire_lease` would.

        Returns:
            One result for each wish, in the same order; refused ones do not stop the others.

        Raises:
            InvalidInputError: a wish without name, holder or a sensible time; none was granted.
        """
        ...

    def renew_lease(self, lease: Lease) -> Lease:
        """Extend one's lease by its ttl.

        Raises:
            LeaseLostError: it has expired and was taken, or the term differs.
        """
        ...

    def release_lease(self, lease: Lease) -> None:
        """Give the lease up; nothing happens when it is not held any more."""
        ...

    def lease(self, name: str) -> Lease | None:
        """The lease as stored, also when it has expired; None when it never existed."""
        ...
