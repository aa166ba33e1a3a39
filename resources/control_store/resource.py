"""The control store as a Dagster resource."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from pydantic import Field

from fleet.ports.control_store import ControlStore
from resources.clock import SystemClock


class ControlStoreResource(dg.ConfigurableResource[ControlStore]):
    """The control store behind a URL; ops and assets take `dg.ResourceParam[ControlStore]`."""

    url: str = Field(description="sqlite:///<path> or postgresql://<user>:<password>@<host>/<db>.")
    busy_timeout_s: float = Field(default=10.0, gt=0, description="Longest wait for locks.")

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[ControlStore]:
        """An open store for one run or one tick; closed afterwards.

        Raises:
            StoreUnavailableError: it cannot be opened.
        """
        del context
        from resources.control_store.opening import open_control_store

        clock = SystemClock()
        store = open_control_store(self.url, clock=clock, busy_timeout_s=self.busy_timeout_s)
        try:
            yield store
        finally:
            store.close()
