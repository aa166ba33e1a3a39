"""What a node does beside its heartbeat, in a thread, because it may be slow: logs and GPUs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from fleet.inventory import Gpu
from fleet.ports.clock import Clock
from resources.local.agent_logs import cut_logs
from resources.local.node_readings import close_gpu_probe, load_gpu_probe, read_gpus
from resources.local.node_spec import NodeSpec

INTERVAL_S = 5.0
"""Between two looks at the GPUs and at the sizes of the agents' logs."""

_log = logging.getLogger(__name__)


class Upkeep:
    """Cuts logs and reads GPUs for ever."""

    def __init__(self, spec: NodeSpec, log_paths: Callable[[], list[Path]], clock: Clock) -> None:
        """Load the probe that the spec names; read nothing yet.

        Raises:
            InvalidInputError: the probe exists but cannot be made.
        """
        self._node = spec.node
        self._log_paths = log_paths
        self._clock = clock
        self._probe, absent = load_gpu_probe(spec.gpu_probe)
        if spec.gpu_probe and self._probe is None:
            _log.warning("no GPUs are read: %s", absent)
        self.gpus: tuple[Gpu, ...] = ()
        """As last read."""

    async def run(self) -> None:
        """Work until cancelled."""
        node = self._node
        while True:
            self.gpus = await asyncio.to_thread(
                read_gpus, self._probe, node.node_id, node.region, self._clock.now()
            )
            await asyncio.to_thread(cut_logs, self._log_paths())
            await asyncio.sleep(INTERVAL_S)

    async def close(self) -> None:
        """Let the driver go."""
        await asyncio.to_thread(close_gpu_probe, self._probe)
