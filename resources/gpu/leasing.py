"""A turn on a GPU: memory is leased before it is taken, kept while it is used, given back after.

The lease is renewed by a thread of its own. When it is lost (the process was frozen for longer than
its ttl and somebody else got the memory), `check` raises, and what was computed is not published.
A turn that finds no GPU is a turn on the processor, with the reason; only under the policy
`require` is it an error.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

from fleet.errors import (
    GpuBusyError,
    LeaseLostError,
    PermanentError,
    StateroomError,
    TransientError,
)
from fleet.gpu_leases import DEFAULT_RENEW_EVERY_S, DEFAULT_TTL_S, GpuLease, GpuLeaseWish
from fleet.gpu_memory import GpuOffer, MemoryNeed, choose_gpu, granted_bytes
from fleet.gpus import classify_gpu
from fleet.inventory import Gpu
from fleet.ports.gpu import GpuReading
from fleet.ports.gpu_lease_store import GpuLeaseStore
from resources.gpu.cuda_devices import CudaDevice, visible_devices
from resources.gpu.devices import NVML_TIMEOUT_S, GpuDevices
from resources.gpu.nvml import NvmlGpuProbe

LOG = logging.getLogger(__name__)


def read_gpus() -> GpuReading:
    """This machine's GPUs as the driver sees them now."""
    with NvmlGpuProbe(read_timeout_s=NVML_TIMEOUT_S, watch_xids=False) as probe:
        return probe.read(machine_name(), "local", datetime.now(UTC))


def machine_name() -> str:
    """The name under which this machine's GPUs are leased."""
    return socket.gethostname()


def holder_name(purpose: str) -> str:
    """A holder's name that no other turn has: purpose, machine, process, chance."""
    return f"{purpose}@{machine_name()}/{os.getpid()}/{secrets.token_hex(4)}"


class GpuSight(NamedTuple):
    """How a turn sees the machine; tests see another one."""

    read: Callable[[], GpuReading] = read_gpus
    visible: Callable[[], list[CudaDevice]] = visible_devices
    node_id: str = ""
    """Empty: the machine's own name."""


DEFAULT_SIGHT = GpuSight()


class GpuTurn:
    """A right to compute: on one GPU up to so much memory, or on the processor.

    Args:
        reason: why there, in words.
        offer: the GPU; None for the processor.
        lease: of its memory; None for the processor.
        leases: where it is kept.
    """

    def __init__(
        self,
        reason: str,
        offer: GpuOffer | None = None,
        lease: GpuLease | None = None,
        leases: GpuLeaseStore | None = None,
    ) -> None:
        """Nothing is renewed yet."""
        self.reason = reason
        self._offer = offer
        self._lease = lease
        self._leases = leases
        self._lock = threading.Lock()
        self._lost: LeaseLostError | None = None

    @property
    def device(self) -> int | None:
        """Number of the GPU for torch and FAISS; None: compute on the processor."""
        return None if self._offer is None else self._offer.device

    @property
    def gpu_uuid(self) -> str:
        """Of the GPU; empty for the processor."""
        return "" if self._offer is None else self._offer.gpu_uuid

    @property
    def memory_bytes(self) -> int:
        """How much of the GPU may be taken, context included; 0 on the processor."""
        return 0 if self._lease is None else self._lease.memory_bytes

    @property
    def fence(self) -> int:
        """Of the lease: comparable with other fences of the same GPU only; 0 on the processor."""
        return 0 if self._lease is None else self._lease.fence

    def check(self) -> None:
        """Prove to the store that the memory is still ours; to be called before a publication.

        Raises:
            LeaseLostError: it is not: publish nothing.
            StoreUnavailableError: it cannot be proven now.
        """
        with self._lock:
            if self._lost is not None:
                raise self._lost
            if self._lease is None or self._leases is None:
                return
            try:
                self._lease = self._leases.renew_gpu(self._lease)
            except LeaseLostError as error:
                self._lost = error
                raise

    def describe(self) -> Mapping[str, str | int]:
        """For the metadata of an asset."""
        return {
            "gpu_uuid": self.gpu_uuid or "none",
            "gpu_memory_bytes": self.memory_bytes,
            "gpu_fence": self.fence,
            "gpu_reason": self.reason,
        }

    def keep(self, stopping: threading.Event, every_s: float) -> None:
        """Renew until told to stop or lost; a store that does not answer is asked again."""
        while not stopping.wait(every_s):
            try:
                self.check()
            except LeaseLostError as error:
                LOG.warning("GPU turn: %s", error)
                return
            except TransientError as error:
                LOG.warning("GPU turn: the lease could not be renewed yet: %s", error)

    def give_back(self) -> None:
        """Release the lease; one that cannot be released now ends by itself."""
        with self._lock:
            lease, self._lease = self._lease, None
            if lease is None or self._leases is None or self._lost is not None:
                return
            try:
                self._leases.release_gpu(lease)
            except StateroomError as error:
                LOG.warning("GPU turn: the lease runs out at %s: %s", lease.expires_at, error)


@contextmanager
def gpu_turn(
    devices: GpuDevices,
    leases: GpuLeaseStore,
    need: MemoryNeed,
    *,
    purpose: str,
    ttl_s: float = DEFAULT_TTL_S,
    renew_every_s: float = DEFAULT_RENEW_EVERY_S,
    sight: GpuSight = DEFAULT_SIGHT,
    library: str = "",
) -> Iterator[GpuTurn]:
    """Hold memory of the GPU with most of it available, for as long as the block runs.

    Args:
        devices: policy, and what each library sees.
        leases: the control store.
        need: memory of the work; see `exact_search_need`, `list_build_need`.
        purpose: what it is for, in the holder's name: `vector-index/host-watch`.
        ttl_s: after the death of this process its memory is given out again so much later.
        renew_every_s: well below `ttl_s`.
        sight: how the machine is seen.
        library: the one that computes: `faiss` or `torch`; empty: the best that sees a GPU.

    Yields:
        The turn; with `device` None where the processor is to compute.

    Raises:
        PermanentError: the policy is `require` and no library can compute on a GPU.
        GpuBusyError: the policy is `require` and no GPU has the memory now: try again later.
        StoreUnavailableError: the store does not answer, so nothing can be leased.
    """
    devices.check()
    if library and library in devices.findings and not devices.findings[library].gpus:
        turn = GpuTurn(f"{library} sees no GPU; {devices.reason}")
    else:
        turn = _take(devices, leases, need, purpose, ttl_s, sight)
    if turn.device is None:
        if devices.policy == "require":
            raise GpuBusyError(
                f"the GPU policy is `require`, but {turn.reason}",
                hint="`stateroom doctor` shows the leases; wait, or set the policy to `auto`.",
            )
        yield turn
        return
    stopping = threading.Event()
    renewer = threading.Thread(
        target=turn.keep, args=(stopping, renew_every_s), name="gpu-lease", daemon=True
    )
    renewer.start()
    try:
        yield turn
    finally:
        stopping.set()
        renewer.join()
        turn.give_back()


def _take(
    devices: GpuDevices,
    leases: GpuLeaseStore,
    need: MemoryNeed,
    purpose: str,
    ttl_s: float,
    sight: GpuSight,
) -> GpuTurn:
    """A turn on the first GPU that still fits when its lease is asked for."""
    if devices.backend == "cpu":
        return GpuTurn(devices.reason)
    node_id = sight.node_id or machine_name()
    try:
        offers = gpu_offers(sight.read(), sight.visible(), leases)
    except PermanentError as error:
        return GpuTurn(f"{devices.reason}, but no GPU can be told from another: {error}")
    choice = choose_gpu(offers, need)
    refusals = []
    for offer in choice.fitting:
        wish = GpuLeaseWish(
            gpu_uuid=offer.gpu_uuid,
            node_id=node_id,
            holder=holder_name(purpose),
            memory_bytes=granted_bytes(offer.available_bytes, need),
            total_bytes=offer.total_bytes,
            used_bytes=offer.used_bytes,
            ttl_s=ttl_s,
        )
        result = leases.acquire_gpu(wish)
        if result.lease is not None:
            told = choice.reason if offer is choice.fitting[0] else f"{offer.gpu_uuid}"
            return GpuTurn(f"{devices.reason}; {told}", offer, result.lease, leases)
        refusals.append(result.reason)
    return GpuTurn(f"no GPU has room: {'; '.join(refusals) or choice.reason}")


def gpu_offers(
    reading: GpuReading, visible: list[CudaDevice], leases: GpuLeaseStore
) -> list[GpuOffer]:
    """The GPUs that CUDA shows this process, with what the driver and the store know of each.

    Args:
        reading: of NVML: memory and health.
        visible: to this process.
        leases: the control store.

    Raises:
        PermanentError: the driver does not answer.
    """
    if reading.absent_reason:
        raise PermanentError(reading.absent_reason)
    seen = {gpu.gpu_uuid.partition("-")[2]: gpu for gpu in reading.gpus}
    leased: dict[str, int] = {}
    for lease in leases.gpu_leases():
        leased[lease.gpu_uuid] = leased.get(lease.gpu_uuid, 0) + lease.memory_bytes
    return [
        _offer(one.device, seen[one.uuid_digits], leased)
        for one in visible
        if one.uuid_digits in seen
    ]


def _offer(device: int, gpu: Gpu, leased: Mapping[str, int]) -> GpuOffer:
    verdict = classify_gpu(gpu)
    unfit = "" if verdict.takes_new_work else f"{verdict.state}: {'; '.join(verdict.reasons)}"
    if gpu.memory_total_bytes is None or gpu.memory_used_bytes is None:
        unfit = unfit or "the driver does not say how much of its memory is in use"
    return GpuOffer(
        gpu_uuid=gpu.gpu_uuid,
        device=device,
        total_bytes=gpu.memory_total_bytes or 0,
        used_bytes=(gpu.memory_used_bytes or 0) + (gpu.memory_reserved_bytes or 0),
        leased_bytes=leased.get(gpu.gpu_uuid, 0),
        unfit=unfit,
    )
