"""A turn on a GPU: memory is leased, kept, given back; without one the processor computes."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from fleet.errors import (
    GpuBusyError,
    LeaseLostError,
    PermanentError,
    StateroomError,
    StoreUnavailableError,
)
from fleet.gpu_leases import GpuLease, GpuLeaseWish
from fleet.gpu_memory import GIB, MemoryNeed
from fleet.ports.gpu import GpuReading
from fleet.vectors.declaration import NetworkVectors, VectorDeclaration
from fleet.vectors.records import Metric
from resources.gpu import devices as gpu_devices
from resources.gpu.cuda_devices import CudaDevice, visible_devices
from resources.gpu.devices import Finding, GpuDevices
from resources.gpu.leasing import GpuSight, gpu_turn
from resources.gpu.nvml import NvmlGpuProbe
from resources.vectors import backends
from resources.vectors.backends import choose_backend
from resources.vectors.building import IndexBuilder
from resources.vectors.leased_backend import leased_backend, memory_need
from resources.vectors.network_indexes import NetworkIndexes
from tests.fakes.clock import ManualClock
from tests.fakes.control_store import InMemoryControlStore
from tests.fakes.cuda import FakeCuda
from tests.fakes.nvml import FakeGpu, FakeMig, FakeNvml
from tests.fakes.torch_device import FakeTorch, OutOfMemoryError
from tests.resources.vectors.test_faiss_backend import ASKED, BACKEND, DATA, SPECS
from tests.resources.vectors.world import AT, MODEL, NETWORK, VectorWorld

FIRST, SECOND, THIRD = (f"{n}{n}{n}{n}{n}{n}{n}{n}-0000-4000-8000-000000000000" for n in "123")
SEEN = {"nvml": Finding(2, "2 GPUs"), "torch": Finding(2, "2 devices"), "faiss": Finding(0, "no")}
NEED = MemoryNeed(20 * GIB, 0, 0, 0, 10 * GIB)
SOON_S = 0.01


def sound(digits: str, used_gib: int = 0, **other: object) -> FakeGpu:
    """A GPU of 81 GiB without a fault."""
    gpu = FakeGpu(f"GPU-{digits}", memory_total=81 * GIB, memory_used=used_gib * GIB)
    gpu.memory_reserved = gpu.ecc_uncorrected = gpu.ecc_corrected = 0
    gpu.remapped_rows, gpu.retired_pages = (0, 0, 0, 0), ()
    for name, value in other.items():
        setattr(gpu, name, value)
    return gpu


def sight(gpus: Sequence[FakeGpu], visible: Sequence[str]) -> GpuSight:
    """A machine with these GPUs, of which CUDA shows some, in its own order."""

    def read() -> GpuReading:
        nvml = FakeNvml(list(gpus))
        with NvmlGpuProbe(nvml, read_timeout_s=60, watch_xids=False) as probe:
            return probe.read("m", "here", datetime(2026, 3, 1, tzinfo=UTC))

    return GpuSight(read, lambda: visible_devices(lambda: FakeCuda(visible)), "m")


class World:
    """A store with its clock, and GPUs that torch sees."""

    def __init__(self, *, policy: str = "auto") -> None:
        """Nobody computes."""
        self.clock = ManualClock()
        self.store = InMemoryControlStore(self.clock)
        self.devices = GpuDevices(policy, lambda: SEEN)

    def lease(self, digits: str, memory_gib: int) -> GpuLease:
        """Somebody else's lease."""
        wish = GpuLeaseWish(f"GPU-{digits}", "m", "other", memory_gib * GIB, 81 * GIB, ttl_s=1e4)
        lease = self.store.acquire_gpu(wish).lease
        assert lease is not None
        return lease


def test_a_turn_is_on_the_emptiest_gpu_that_cuda_shows() -> None:
    """Numbered as CUDA numbers, found by UUID; leased for the block, and given back after."""
    world = World()
    world.lease(FIRST, 50)
    machine = sight([sound(FIRST), sound(SECOND, 40), sound(THIRD)], [SECOND, FIRST])
    with gpu_turn(world.devices, world.store, NEED, purpose="build", sight=machine) as turn:
        assert (turn.device, turn.gpu_uuid) == (0, f"GPU-{SECOND}")
        assert turn.memory_bytes == 20 * GIB
        assert turn.fence == 1
        assert f"GPU-{SECOND}: 20.00 of 40.00 GiB available" in turn.reason
        turn.check()
        mine = world.store.gpu_leases("m")[1]
        assert mine.holder.startswith("build@")
        assert turn.describe()["gpu_memory_bytes"] == 20 * GIB
    assert [one.holder for one in world.store.gpu_leases()] == ["other"]


def test_what_does_not_fit_whole_gets_what_there_is() -> None:
    """Then it goes in blocks; with less than the least it does not go at all."""
    world = World()
    machine = sight([sound(FIRST, 65)], [FIRST])
    with gpu_turn(world.devices, world.store, NEED, purpose="b", sight=machine) as turn:
        assert turn.memory_bytes == 15 * GIB
        assert turn.reason.endswith("in blocks")
    machine = sight([sound(FIRST, 75)], [FIRST])
    with gpu_turn(world.devices, world.store, NEED, purpose="b", sight=machine) as turn:
        assert turn.device is None
        assert "10.00 GiB needed" in turn.reason
        assert world.store.gpu_leases() == []
        assert choose_backend(world.devices, 1, turn).reason == turn.reason


UNUSABLE = {
    "unhealthy": ([sound(FIRST, ecc_uncorrected=3)], "3 uncorrected ECC errors"),
    "without readings of memory": (
        [sound(FIRST, faults={"nvmlDeviceGetMemoryInfo": 999})],
        "does not say how much of its memory",
    ),
    "not shown by CUDA": ([sound(THIRD)], "there is no GPU"),
    "without a driver": ([], "there is no GPU"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_gpu_that_takes_no_work_is_named_with_its_fault(case: str) -> None:
    """Under `auto` the processor computes, under `require` the run is told to try again."""
    gpus, told = UNUSABLE[case]
    machine = sight(gpus, [FIRST])
    world = World()
    with gpu_turn(world.devices, world.store, NEED, purpose="b", sight=machine) as turn:
        assert turn.device is None
        assert told in turn.reason
    required = GpuDevices("require", lambda: SEEN)
    with (
        pytest.raises(GpuBusyError, match="require"),
        gpu_turn(required, world.store, NEED, purpose="b", sight=machine),
    ):
        pytest.fail("the block must not run")


def test_a_slice_of_a_gpu_is_leased_as_itself() -> None:
    """CUDA shows the MIG instance, NVML its memory."""
    world = World()
    gpu = sound(FIRST, migs=[FakeMig(f"MIG-{SECOND}", memory_total=16 * GIB, memory_used=0)])
    with gpu_turn(
        world.devices, world.store, NEED, purpose="b", sight=sight([gpu], [SECOND])
    ) as turn:
        assert turn.gpu_uuid == f"MIG-{SECOND}"
        assert turn.memory_bytes == 15 * GIB


class RacedStore(InMemoryControlStore):
    """Somebody else takes the memory between the look and the wish, once or always."""

    def __init__(self, clock: ManualClock, rivals: int) -> None:
        """How many wishes come too late."""
        super().__init__(clock)
        self.rivals = rivals

    def acquire_gpu(self, wish: GpuLeaseWish):  # noqa: ANN201
        """After a rival's."""
        if self.rivals:
            self.rivals -= 1
            super().acquire_gpu(wish._replace(holder="rival", memory_bytes=75 * GIB))
        return super().acquire_gpu(wish)


def test_who_comes_too_late_takes_the_next_gpu() -> None:
    """And none, when all are gone; each refusal is told."""
    machine = sight([sound(FIRST), sound(SECOND, 1)], [FIRST, SECOND])
    store = RacedStore(ManualClock(), 1)
    with gpu_turn(World().devices, store, NEED, purpose="b", sight=machine) as turn:
        assert turn.gpu_uuid == f"GPU-{SECOND}"
    store = RacedStore(ManualClock(), 2)
    with gpu_turn(World().devices, store, NEED, purpose="b", sight=machine) as turn:
        assert turn.device is None
        assert turn.reason.count("wants 20.00") == 2


def test_a_lost_lease_stops_the_publication() -> None:
    """The process was frozen past its lease and another got the memory; nothing else is touched."""
    world = World()
    machine = sight([sound(FIRST)], [FIRST])
    with gpu_turn(world.devices, world.store, NEED, purpose="b", sight=machine) as turn:
        world.clock.advance(61)
        other = world.lease(FIRST, 70)
        for _ in range(2):
            with pytest.raises(LeaseLostError, match="any more"):
                turn.check()
    assert world.store.gpu_leases() == [other]


def test_a_turn_renews_itself_until_it_ends() -> None:
    """By its own thread, also after the store was away; the thread ends with the turn."""
    world = World()
    renewed = threading.Event()

    class AwayStore(InMemoryControlStore):
        failures = 2

        def renew_gpu(self, lease: GpuLease) -> GpuLease:
            """Away twice, then there."""
            if self.failures:
                self.failures -= 1
                raise StoreUnavailableError("away")
            renewed.set()
            return super().renew_gpu(lease)

    store = AwayStore(world.clock)
    machine = sight([sound(FIRST)], [FIRST])
    with gpu_turn(
        world.devices, store, NEED, purpose="b", renew_every_s=SOON_S, sight=machine
    ) as turn:
        assert renewed.wait(60)
        assert turn.device == 0
    assert not [one for one in threading.enumerate() if one.name == "gpu-lease"]
    assert store.gpu_leases() == []


def test_the_memory_comes_back_after_a_failure_in_the_block() -> None:
    """At once when the store answers, else when the lease runs out; the block's error is kept."""
    world = World()

    class Unreleasing(InMemoryControlStore):
        def release_gpu(self, lease: GpuLease) -> None:
            """Away."""
            raise StoreUnavailableError("away")

    machine = sight([sound(FIRST)], [FIRST])
    for store, left in ((world.store, 0), (Unreleasing(world.clock), 1)):
        with (
            pytest.raises(ValueError, match="own"),
            gpu_turn(world.devices, store, NEED, purpose="b", sight=machine),
        ):
            raise ValueError("own")
        assert len(store.gpu_leases()) == left
        world.clock.advance(61)
        assert store.gpu_leases() == []


def test_no_gpu_is_asked_for_where_no_library_computes() -> None:
    """The policy `off`, and machines without a GPU, touch neither driver nor store."""

    def never() -> GpuReading:
        raise AssertionError("a driver was touched")

    off = GpuDevices("off", dict)
    blind = GpuSight(never, list, "m")
    with gpu_turn(off, InMemoryControlStore(), NEED, purpose="b", sight=blind) as turn:
        assert turn.device is None
        assert turn.reason == "policy off; no GPU was asked"
        turn.check()
        assert turn.describe()["gpu_uuid"] == "none"


def test_a_refresh_leases_what_it_computes_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the first large piece of work, once; what fell back is counted in the store."""
    monkeypatch.setattr(backends, "GPU_ROWS_MIN", 500)
    full: list[Exception | None] = [OutOfMemoryError("CUDA out of memory")] * 2
    torch = FakeTorch(failures=full)
    monkeypatch.setattr("resources.vectors.torch_backend.load_torch", lambda: torch)
    world = World()
    machine = sight([sound(FIRST)], [FIRST])
    wanted = BACKEND.exact(DATA, ASKED, 5, Metric.L2)
    with leased_backend(world.devices, world.store, purpose="b", sight=machine) as backend:
        small = BACKEND.exact(DATA[:400], ASKED, 5, Metric.L2)
        assert np.array_equal(backend.exact(DATA[:400], ASKED, 5, Metric.L2).rows, small.rows)
        backend.check()
        assert backend.told() == "fewer than 500 vectors at a time: the processor"
        assert world.store.gpu_leases() == []
        for _ in range(2):
            assert np.array_equal(backend.exact(DATA, ASKED, 5, Metric.L2).rows, wanted.rows)
            (lease,) = world.store.gpu_leases()
        need = memory_need("torch", len(DATA), 16, 1000, 11)
        assert (lease.memory_bytes, lease.fence) == (need.wanted_bytes, 1)
        assert backend.build(SPECS["flat"], DATA, Metric.L2, 1).ntotal == len(DATA)
        backend.check()
        assert "fell back to the processor (memory 1)" in backend.told()
        assert "torch fake on cuda:0" in backend.name
    assert world.store.gpu_leases() == []
    assert [tuple(one) for one in world.store.gpu_fallbacks()] == [("m", "memory", 1)]


def test_counts_that_cannot_be_stored_undo_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is away at the end: the search was done, the lease runs out by itself."""
    monkeypatch.setattr(backends, "GPU_ROWS_MIN", 500)
    lost: list[Exception | None] = [RuntimeError("CUDA error: unspecified launch failure")]
    torch = FakeTorch(failures=lost)
    monkeypatch.setattr("resources.vectors.torch_backend.load_torch", lambda: torch)

    class Uncounting(InMemoryControlStore):
        def count_gpu_fallbacks(self, node_id: str, counts: Mapping[str, int]) -> None:
            """Away."""
            raise StoreUnavailableError("away")

    store, machine = Uncounting(ManualClock()), sight([sound(FIRST)], [FIRST])
    with leased_backend(World().devices, store, purpose="b", sight=machine) as backend:
        assert (backend.exact(DATA, ASKED, 5, Metric.L2).rows >= 0).all()
        assert "lost 1" in backend.told()
    assert store.gpu_fallbacks() == []
    assert store.gpu_leases() == []


def test_a_network_that_requires_a_gpu_neither_embeds_nor_builds_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run fails before anything is written, and says of each library why."""
    absent = {name: Finding(0, f"no {name}") for name in ("nvml", "torch", "faiss")}
    monkeypatch.setattr(gpu_devices, "_found", absent)
    networks = (NetworkVectors(network_id="net", gpu="require"),)
    declared = VectorDeclaration(path=str(tmp_path / "store"), networks=networks)
    indexes = NetworkIndexes(declared, ManualClock())
    store = InMemoryControlStore()
    for block in (indexes.leased_embedder("net", store), indexes.leased_builder("net", store)):
        with pytest.raises(PermanentError, match="no torch; faiss: no faiss"), block:
            pytest.fail("the block must not run")
    assert not (tmp_path / "store").exists()


def test_a_build_on_a_gpu_is_published_only_under_its_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A builder frozen past its lease, while another took the memory, publishes nothing."""
    monkeypatch.setattr(backends, "GPU_ROWS_MIN", 100)
    torch = FakeTorch()
    monkeypatch.setattr("resources.vectors.torch_backend.load_torch", lambda: torch)
    vectors = VectorWorld(tmp_path)
    vectors.write(range(500))
    world = World()
    machine = sight([sound(FIRST)], [FIRST])
    with leased_backend(world.devices, world.store, purpose="b", sight=machine) as backend:

        def told() -> str:
            """The manifest is being written: time passes, and somebody else comes."""
            if frozen:
                world.clock.advance(61)
                world.lease(FIRST, 79)
            return backend.told()

        builder = IndexBuilder(
            vectors.store, backend, vectors.policy, lambda: AT, vectors.work, told, backend.check
        )
        frozen = True
        with pytest.raises(LeaseLostError, match="any more"):
            builder.refresh(NETWORK, MODEL)
        assert vectors.store.current(NETWORK) is None
    for lease in world.store.gpu_leases():
        world.store.release_gpu(lease)
    with leased_backend(world.devices, world.store, purpose="b", sight=machine) as backend:
        frozen = False
        builder = IndexBuilder(
            vectors.store, backend, vectors.policy, lambda: AT, vectors.work, told, backend.check
        )
        manifest = builder.refresh(NETWORK, MODEL).manifest
    assert manifest is not None
    assert "exact by torch fake on cuda:0" in manifest.backend
    assert f"GPU-{FIRST}" in manifest.backend_reason
    assert vectors.store.current(NETWORK) is not None
    assert torch.emptied == 2, "each turn gives back what torch has kept for later"


def test_cuda_is_asked_for_the_uuids_of_its_devices() -> None:
    """Old drivers by the old function; errors have CUDA's number, a missing library its name."""
    wanted = [CudaDevice(0, SECOND), CudaDevice(1, FIRST)]
    for is_old in (False, True):
        assert visible_devices(lambda old=is_old: FakeCuda([SECOND, FIRST], is_old=old)) == wanted
    for name in ("cuInit", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetUuid"):
        broken = FakeCuda([FIRST], {name: 100}, is_old=True)
        with pytest.raises(PermanentError, match=f"{name} failed with error 100"):
            visible_devices(lambda broken=broken: broken)

    def missing() -> FakeCuda:
        raise OSError("libcuda.so.1: cannot open")

    with pytest.raises(PermanentError, match="cannot be loaded") as caught:
        visible_devices(missing)
    assert isinstance(caught.value, StateroomError)
    assert "driver" in caught.value.hint
