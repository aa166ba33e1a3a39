"""The clock as a Dagster resource, so that tests can bring their own."""

import dagster as dg

from fleet.ports.clock import Clock
from resources.clock import SystemClock


class ClockResource(dg.ConfigurableResource[Clock]):
    """The clock of this machine; ops and assets take `dg.ResourceParam[Clock]`."""

    def create_resource(self, context: dg.InitResourceContext) -> Clock:
        """A clock that reads the machine's time."""
        del context
        return SystemClock()
