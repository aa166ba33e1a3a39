"""What is asked of a placement: agents of one size, how many, and where they may go.

An agent that needs less than one GPU gets a share of a single device; one that needs 1000 or more
thousandths gets whole devices, rounded up: two halves of different devices are no GPU, and 1.5 of
them are two.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from fleet.agents import Workload
from fleet.errors import InvalidInputError

GPU_MILLI = 1000
"""One whole device."""

AMOUNT_MAX = 1 << 60
"""Of any quantity, so that sums over a node's agents stay inside 64 bits."""


class AgentSize(NamedTuple):
    """What one agent is allocated."""

    cpu_milli: int
    memory_bytes: int
    bandwidth_bps: int = 0
    gpu_milli: int = 0
    gpu_memory_bytes: int = 0

    @property
    def needs_gpu(self) -> bool:
        """Whether only a node with GPUs can take it."""
        return self.gpu_milli > 0 or self.gpu_memory_bytes > 0

    @property
    def whole_gpus(self) -> int:
        """How many whole devices it gets; 0 when it shares one or needs none."""
        return -(-self.gpu_milli // GPU_MILLI) if self.gpu_milli >= GPU_MILLI else 0

    @property
    def device_memory_bytes(self) -> int:
        """Needed of each of its devices."""
        return -(-self.gpu_memory_bytes // max(1, self.whole_gpus))


class PlacementRules(NamedTuple):
    """What a workload's agents ask for beside their size."""

    gpu_models: tuple[str, ...] = ()
    """Any of these models; empty: any."""
    spread_zones: bool = False
    """Deal the workload's agents evenly over the zones of a region, where room allows."""
    gang: str = ""
    """Agents of a network and region with the same gang start together or not at all."""
    pack: bool = False
    """Without GPUs: on as few nodes as hold them. Otherwise evenly over all nodes, so that the loss
    of one costs each workload least. Agents with GPUs are packed always."""


NO_RULES = PlacementRules()


class PlacementRequest(NamedTuple):
    """Identical agents that want a node."""

    name: str
    """Unique in a plan; the order in which requests alike are served."""
    region: str
    size: AgentSize
    agents: int
    priority: int = 0
    rules: PlacementRules = NO_RULES
    network_id: str = ""
    workload: str = ""


class Sized(Protocol):
    """Whatever is allocated to an agent: a declaration, a shape."""

    @property
    def cpu_milli(self) -> int: ...  # noqa: D102
    @property
    def memory_bytes(self) -> int: ...  # noqa: D102
    @property
    def bandwidth_bps(self) -> int: ...  # noqa: D102
    @property
    def gpu_milli(self) -> int: ...  # noqa: D102
    @property
    def gpu_memory_bytes(self) -> int: ...  # noqa: D102


def size_of(agent: Sized) -> AgentSize:
    """What an agent is allocated, as declared."""
    return AgentSize(
        agent.cpu_milli,
        agent.memory_bytes,
        agent.bandwidth_bps,
        agent.gpu_milli,
        agent.gpu_memory_bytes,
    )


def rules_of(workload: Workload) -> PlacementRules:
    """What a workload asks for beside the size of its agents."""
    return PlacementRules(workload.gpu_models, workload.spread_zones, workload.gang, workload.pack)


def validate_request(request: PlacementRequest) -> PlacementRequest:
    """Refuse what cannot be meant.

    Raises:
        InvalidInputError: a negative or absurd amount or count.
    """
    for name, value in (*request.size._asdict().items(), ("agents", request.agents)):
        if not 0 <= value <= AMOUNT_MAX:
            field = f"request {request.name}: {name}"
            raise InvalidInputError(field, value, f"0 to {AMOUNT_MAX}")
    return request
