"""The door to this machine's GPUs for ops and assets."""

import dagster as dg
from pydantic import Field

from resources.gpu.devices import GpuDevices


class GpuResource(dg.ConfigurableResource[GpuDevices]):
    """Gives `GpuDevices`: which library can compute on a GPU here, and why the others cannot.

    Nothing is asked of a driver until an op does, except under `require`, where a run on a machine
    without a GPU fails before its first step.
    """

    policy: str = Field(
        default="auto",
        description="auto: a GPU where there is one; require: fail without one; off: never ask.",
    )

    def create_resource(self, context: dg.InitResourceContext) -> GpuDevices:
        """Build the plain object.

        Raises:
            InvalidInputError: there is no such policy.
            PermanentError: the policy is `require` and no library can compute on a GPU.
        """
        del context
        devices = GpuDevices(self.policy)
        devices.check()
        return devices
