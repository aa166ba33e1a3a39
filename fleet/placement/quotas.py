"""What a network may use, and how big its agents may be: quotas and limits, as namespaces have.

A `ResourceQuota` bounds what all placed agents of a network are allocated together; a `LimitRange`
bounds each single one, and gives the size of those that name none. Moving an agent uses nothing
more; so a quota that was lowered below what is in use stops new agents and touches no old one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fleet.errors import InvalidInputError, QuotaExceededError
from fleet.reports import AgentDeclaration

QUANTITIES = ("cpu_milli", "memory_bytes", "gpu_milli")
"""What quotas and limits speak of, beside the number of agents."""


class ResourceQuota(NamedTuple):
    """The most that a network's placed agents may be allocated together; None: as much as fits."""

    agents: int | None = None
    cpu_milli: int | None = None
    memory_bytes: int | None = None
    gpu_milli: int | None = None


class LimitRange(NamedTuple):
    """The smallest and biggest that one agent of a network may be; None: any."""

    cpu_milli_min: int | None = None
    cpu_milli_max: int | None = None
    memory_bytes_min: int | None = None
    memory_bytes_max: int | None = None
    gpu_milli_min: int | None = None
    gpu_milli_max: int | None = None


class NetworkLimits(NamedTuple):
    """All that bounds one network."""

    network_id: str
    quota: ResourceQuota = ResourceQuota()
    limits: LimitRange = LimitRange()


class ResourceUse(NamedTuple):
    """What placed agents of a network are allocated together."""

    agents: int = 0
    cpu_milli: int = 0
    memory_bytes: int = 0
    gpu_milli: int = 0

    def plus(self, agent: AgentDeclaration, count: int = 1) -> ResourceUse:
        """With so many agents of this shape more."""
        return ResourceUse(
            self.agents + count,
            self.cpu_milli + count * agent.cpu_milli,
            self.memory_bytes + count * agent.memory_bytes,
            self.gpu_milli + count * agent.gpu_milli,
        )


class QuotaRefusal(NamedTuple):
    """Why a quota refuses a request."""

    network_id: str
    quantity: str
    """`agents`, `cpu_milli`, `memory_bytes` or `gpu_milli`."""
    quota: int
    used: int
    """Before the request."""
    requested: int
    """By the request."""

    def __str__(self) -> str:
        return (
            f"quota of network {self.network_id}: {self.quantity} {self.used} of {self.quota} "
            f"used, {self.requested} requested"
        )


def validate_limits(limits: NetworkLimits) -> NetworkLimits:
    """Refuse what no agent could ever keep to.

    Raises:
        InvalidInputError: a negative quantity, or a minimum above its maximum.
    """
    where = f"networks.{limits.network_id}"
    for part, record in (("quota", limits.quota), ("limits", limits.limits)):
        for name, value in record._asdict().items():
            if value is not None and value < 0:
                raise InvalidInputError(f"{where}.{part}.{name}", value, "0 or more")
    for quantity in QUANTITIES:
        low = getattr(limits.limits, f"{quantity}_min")
        high = getattr(limits.limits, f"{quantity}_max")
        if low is not None and high is not None and low > high:
            allowed = f"at most {quantity}_max, {high}"
            raise InvalidInputError(f"{where}.limits.{quantity}_min", low, allowed)
    return limits


def check_limits(agent: AgentDeclaration, limits: NetworkLimits | None) -> str:
    """Say what is wrong with the size of one agent; empty when nothing is."""
    if limits is None:
        return ""
    for quantity in QUANTITIES:
        value = getattr(agent, quantity)
        low = getattr(limits.limits, f"{quantity}_min")
        high = getattr(limits.limits, f"{quantity}_max")
        if (low is not None and value < low) or (high is not None and value > high):
            word, bound = ("min", low) if low is not None and value < low else ("max", high)
            return f"limits of network {limits.network_id}: {quantity} {word} {bound}, has {value}"
    return ""


def check_quota(
    used: ResourceUse, asked: ResourceUse, limits: NetworkLimits | None
) -> list[QuotaRefusal]:
    """Which quantities of a quota a request would pass; empty when it may be.

    What is not asked for is not judged: a request without GPUs passes an overdrawn GPU quota.

    Args:
        used: by all placed agents of the network.
        asked: by the request on top of it.
        limits: of the network; None when it has none.
    """
    if limits is None:
        return []
    return [
        QuotaRefusal(limits.network_id, quantity, bound, had, more)
        for quantity, bound, had, more in zip(
            ResourceQuota._fields, limits.quota, used, asked, strict=True
        )
        if bound is not None and more > 0 and had + more > bound
    ]


def require_quota(used: ResourceUse, asked: ResourceUse, limits: NetworkLimits | None) -> None:
    """Return when the quota allows the request.

    Raises:
        QuotaExceededError: it does not; names quota, use and request of each quantity.
    """
    refusals = check_quota(used, asked, limits)
    if refusals:
        raise QuotaExceededError(
            "; ".join(map(str, refusals)),
            hint=f"Raise [networks.{refusals[0].network_id}.quota], or stop agents of the network.",
        )


class QuotaLedger:
    """What quotas still allow while a plan is made; asked once for a class of agents."""

    def __init__(self, limits: Iterable[NetworkLimits], used: Mapping[str, ResourceUse]) -> None:
        """Begin with what is in use.

        Args:
            limits: of the networks that have some.
            used: by network, of placed agents.
        """
        self._limits = {one.network_id: one for one in limits}
        self._used = dict(used)

    def limits_of(self, network_id: str) -> NetworkLimits | None:
        """The network's limits; None when it has none."""
        return self._limits.get(network_id)

    def allowed(self, agent: AgentDeclaration, count: int) -> int:
        """How many of `count` agents of this shape the quota lets be placed now."""
        limits = self._limits.get(agent.network_id)
        if limits is None:
            return count
        used = self._used.get(agent.network_id, ResourceUse())
        one = ResourceUse().plus(agent)
        for bound, had, each in zip(limits.quota, used, one, strict=True):
            if bound is not None and each > 0:
                count = min(count, max(0, (bound - had) // each))
        return count

    def take(self, agent: AgentDeclaration, count: int) -> None:
        """Count agents that the plan places; a negative count gives back."""
        if agent.network_id in self._limits:
            used = self._used.get(agent.network_id, ResourceUse())
            self._used[agent.network_id] = used.plus(agent, count)

    def refusal(self, agent: AgentDeclaration, count: int) -> str:
        """Why `count` more are not allowed: the first quantity that would be passed, in words."""
        used = self._used.get(agent.network_id, ResourceUse())
        asked = ResourceUse().plus(agent, count)
        return str(check_quota(used, asked, self._limits.get(agent.network_id))[0])
