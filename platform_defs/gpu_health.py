"""What `stateroom doctor` looks at of GPUs: which library computes on one, wheels, leases."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata

from fleet.gpu_leases import GpuLease
from fleet.gpu_memory import gib
from platform_defs.health_finding import Context, Finding
from platform_defs.settings import Settings

FAISS_WHEELS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cuvs")
"""They all bring the module `faiss`; two of them overwrite each other's files."""


def check_gpu(context: Context) -> Iterator[Finding]:
    """What builds of vector indexes compute on, and why; under `require`, that it is a GPU."""
    from resources.gpu.devices import GpuDevices

    wheels = [name for name in FAISS_WHEELS if _is_installed(name)]
    if len(wheels) > 1:
        said = f"{' and '.join(wheels)} are installed and overwrite each other's files"
        remedy = f"pip uninstall {' '.join(wheels)}, then install one of them (docs/gpu.md)"
        yield Finding("gpu", "wrong", said, remedy)
    policies = gpu_policies(context.settings)
    asking = next((one for one in ("require", "auto") if one in policies), "off")
    devices = GpuDevices(asking)
    if devices.backend != "cpu":
        yield Finding("gpu", "ok", f"indexes are built with {devices.backend}: {devices.reason}")
    elif asking == "require":
        remedy = "Install what is missing (docs/gpu.md), or set `gpu` of [vectors] to `auto`."
        yield Finding("gpu", "wrong", f"no library can compute on a GPU: {devices.reason}", remedy)
    else:
        said = f"indexes are built on the processor: {devices.reason}"
        yield Finding("gpu", "skipped", said)
    yield from _check_leases(context.settings)


def gpu_policies(settings: Settings) -> frozenset[str]:
    """The GPU policies of all networks."""
    own = (one.vectors.gpu for one in settings.networks)
    return frozenset({settings.vectors.gpu, *(one for one in own if one)})


def _check_leases(settings: Settings) -> Iterator[Finding]:
    from platform_defs.command.store_access import fleet_store, has_store

    if not has_store(settings):
        return
    with fleet_store(settings) as store:
        leases, fallbacks = store.gpu_leases(), store.gpu_fallbacks()
    if leases:
        told = "; ".join(_lease_text(one) for one in leases)
        yield Finding("gpu_leases", "ok", told)
    if fallbacks:
        told = ", ".join(f"{one.fallbacks} ({one.reason}) on {one.node_id}" for one in fallbacks)
        said = f"the processor took over from a GPU: {told}"
        yield Finding("gpu_fallbacks", "ok", said)


def _lease_text(lease: GpuLease) -> str:
    until = f"{lease.expires_at:%H:%M:%S} UTC"
    return f"{gib(lease.memory_bytes)} GiB of {lease.gpu_uuid} by {lease.holder} until {until}"


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
