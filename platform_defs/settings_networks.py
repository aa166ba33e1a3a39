"""Settings of what a network may use: its quota, and limits and defaults of its agents' sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fleet.placement.quotas import LimitRange, NetworkLimits, ResourceQuota
from platform_defs import settings_kinds as kinds
from platform_defs.settings_keys import key
from platform_defs.settings_vectors import NetworkVectorSettings

if TYPE_CHECKING:
    from platform_defs.settings_fleet import WorkloadSettings
    from platform_defs.settings_rules import Violation

_MIB = 1024 * 1024
_CPU = kinds.whole(0, 1 << 40, "thousandths of a core")
_MEMORY = kinds.whole(0, 1 << 40, "MiB")
_GPU = kinds.whole(0, 1 << 40, "thousandths of a GPU")
_CPU_UNIT, _MEMORY_UNIT, _GPU_UNIT = "thousandths of a core", "MiB", "thousandths of a GPU"

_SIZES = ("cpu_milli", "memory_mib", "gpu_milli")
"""Keys of a workload that limits speak of."""


def _bound(kind: kinds.Kind, meaning: str, unit: str) -> int | None:
    bound: int | None = key(kind, meaning, default=None, unit=unit)
    return bound


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkQuotaSettings:
    """What all placed agents of a network may be allocated together; absent: as much as fits."""

    agents: int | None = _bound(
        kinds.whole(0, 10_000_000), "Agents of the network that have a node.", "agents"
    )
    cpu_milli: int | None = _bound(_CPU, "CPU that they are allocated together.", _CPU_UNIT)
    memory_mib: int | None = _bound(_MEMORY, "Memory that they are allocated together.", "MiB")
    gpu_milli: int | None = _bound(_GPU, "GPU shares that they are allocated together.", _GPU_UNIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkLimitSettings:
    """How small and big one agent of a network may be, and how big one is that says nothing."""

    cpu_milli_min: int | None = _bound(_CPU, "Least CPU of one agent.", _CPU_UNIT)
    cpu_milli_max: int | None = _bound(_CPU, "Most CPU of one agent.", _CPU_UNIT)
    cpu_milli_default: int | None = _bound(
        _CPU, "CPU of one agent whose workload names none.", _CPU_UNIT
    )
    memory_mib_min: int | None = _bound(_MEMORY, "Least memory of one agent.", _MEMORY_UNIT)
    memory_mib_max: int | None = _bound(_MEMORY, "Most memory of one agent.", _MEMORY_UNIT)
    memory_mib_default: int | None = _bound(
        _MEMORY, "Memory of one agent whose workload names none.", _MEMORY_UNIT
    )
    gpu_milli_min: int | None = _bound(_GPU, "Least GPU share of one agent.", _GPU_UNIT)
    gpu_milli_max: int | None = _bound(_GPU, "Most GPU share of one agent.", _GPU_UNIT)
    gpu_milli_default: int | None = _bound(
        _GPU, "GPU share of one agent whose workload names none.", _GPU_UNIT
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """A group of agents that belong together."""

    name: str
    description: str = key(
        kinds.optional_text(), "What the network is for, in a sentence.", default=""
    )
    quota: NetworkQuotaSettings = field(default_factory=NetworkQuotaSettings)
    limits: NetworkLimitSettings = field(default_factory=NetworkLimitSettings)
    vectors: NetworkVectorSettings = field(default_factory=NetworkVectorSettings)

    def network_limits(self) -> NetworkLimits | None:
        """Quota and limits as the core knows them, in bytes; None when it has neither."""
        quota, limits = self.quota, self.limits
        found = NetworkLimits(
            self.name,
            ResourceQuota(quota.agents, quota.cpu_milli, _bytes(quota.memory_mib), quota.gpu_milli),
            LimitRange(
                limits.cpu_milli_min,
                limits.cpu_milli_max,
                _bytes(limits.memory_mib_min),
                _bytes(limits.memory_mib_max),
                limits.gpu_milli_min,
                limits.gpu_milli_max,
            ),
        )
        return None if found == NetworkLimits(self.name) else found


def with_network_defaults(
    workloads: Sequence[WorkloadSettings | None],
    networks: Sequence[NetworkSettings | None],
    sources: dict[str, str],
) -> tuple[WorkloadSettings | None, ...]:
    """Workloads with their networks' default sizes where they name none themselves.

    Args:
        workloads: in the order of the file; None where one has problems.
        networks: the same.
        sources: of the keys that are set; those that are filled in are added.
    """
    limits = {one.name: one.limits for one in networks if one is not None}
    return tuple(one if one is None else _with_defaults(one, limits, sources) for one in workloads)


def _with_defaults(
    workload: WorkloadSettings, limits: Mapping[str, NetworkLimitSettings], sources: dict[str, str]
) -> WorkloadSettings:
    for name in _SIZES:
        value = getattr(limits.get(workload.network), f"{name}_default", None)
        own = f"workloads.{workload.name}.{name}"
        if value is not None and own not in sources:
            sources[own] = sources[f"networks.{workload.network}.limits.{name}_default"]
            workload = replace(workload, **{name: value})
    return workload


def network_violations(
    networks: Sequence[NetworkSettings], workloads: Sequence[WorkloadSettings]
) -> Iterator[Violation]:
    """Limits that can be kept to, and workloads that keep to them."""
    from platform_defs.settings_rules import Violation

    limits = {one.name: one.limits for one in networks}
    for network in networks:
        for name in _SIZES:
            low, high = (getattr(network.limits, f"{name}_{end}") for end in ("min", "max"))
            if low is not None and high is not None and low > high:
                here = ("networks", network.name, "limits", f"{name}_min")
                yield Violation(here, f"{low} is more than {name}_max ({high})")
    for workload in workloads:
        for name in _SIZES:
            value, bounds = getattr(workload, name), limits.get(workload.network)
            low, high = (getattr(bounds, f"{name}_{end}", None) for end in ("min", "max"))
            if (low is not None and value < low) or (high is not None and value > high):
                allowed = f"{0 if low is None else low} to {'any' if high is None else high}"
                yield Violation(
                    ("workloads", workload.name, name),
                    f"{value} is outside the limits of network {workload.network} ({allowed})",
                )


def _bytes(mib: int | None) -> int | None:
    return None if mib is None else mib * _MIB
