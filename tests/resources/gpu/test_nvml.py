"""The NVML probe under faults: refused calls, lost GPUs, hanging drivers, absent drivers, Xids."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pynvml
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.gpus import CLOCK_CALL, THROTTLE_FAULTS, classify_gpu
from fleet.inventory import Gpu, GpuState
from fleet.ports.gpu import GpuProbe, GpuReading
from resources.gpu.deadline import DriverStuckError, DriverThread
from resources.gpu.nvml import ABSENT_ADVICE, NvmlGpuProbe, read_boot_id
from resources.gpu.readings import (
    CLOCK_REASONS,
    RECOVERY_FIELD,
    RECOVERY_FIELD_ID,
    RECOVERY_NAMES,
    clock_reasons,
)
from resources.gpu.xid_watcher import XIDS_KEPT
from tests.examples import examples
from tests.fakes.nvml import GIB, FakeGpu, FakeMig, FakeNvml

T0 = datetime(2026, 11, 21, 12, tzinfo=UTC)
PATIENT_S = 30.0
"""Time limit where nothing hangs: a busy test machine must not look like a hanging driver."""

Make = Callable[..., NvmlGpuProbe]


@pytest.fixture
def make() -> Iterator[Make]:
    """Builds probes and closes them."""
    probes: list[NvmlGpuProbe] = []

    def build(nvml: object, *, timeout_s: float = PATIENT_S, watch: bool = False) -> NvmlGpuProbe:
        probe = NvmlGpuProbe(
            nvml,
            read_timeout_s=timeout_s,
            watch_xids=watch,
            boot_id=lambda: "boot-1",
            utc_now=lambda: T0,
        )
        probes.append(probe)
        return probe

    yield build
    for probe in probes:
        probe.close()


def _read(probe: GpuProbe, now: datetime = T0) -> GpuReading:
    return probe.read("node-1", "eu-central-1", now)


def _until(condition: Callable[[], bool]) -> None:
    """Wait for another thread; the limit only ends a broken test."""
    limit = time.monotonic() + PATIENT_S
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.002)


# What is read


def test_every_reading_arrives_in_its_field_and_unit(make: Make) -> None:
    """Milliwatts become watts, bits names, tuples fields; nothing is denied on a perfect GPU."""
    reading = _read(make(FakeNvml([FakeGpu("GPU-a", clock_reasons=0x44, recovery_action=4)])))
    assert reading == GpuReading(
        [
            Gpu(
                gpu_uuid="GPU-a",
                node_id="node-1",
                region="eu-central-1",
                device_index=0,
                model="NVIDIA H200",
                memory_total_bytes=141 * GIB,
                memory_used_bytes=7 * GIB,
                memory_reserved_bytes=GIB,
                utilization_percent=42.0,
                temperature_c=41.0,
                power_w=123.456,
                energy_mj=9_000_000,
                throttle_reasons=("sw_power_cap", "hw_thermal_slowdown"),
                ecc_uncorrected_volatile=3,
                ecc_corrected_volatile=5,
                rows_remapped_uncorrected=2,
                row_remap_pending=False,
                row_remap_failed=False,
                pages_retired=3,
                pages_retired_pending=False,
                pcie_width=16,
                pcie_width_max=16,
                recovery_action="drain_and_reset",
                driver_version="580.65.06",
                boot_id="boot-1",
                observed_at=T0,
            )
        ],
        "580.65.06",
        "",
    )


def test_the_uuid_is_the_key_when_the_order_of_devices_changes(make: Make) -> None:
    """After a reset the driver may number the GPUs otherwise."""
    fake = FakeNvml([FakeGpu("GPU-a"), FakeGpu("GPU-b")])
    probe = make(fake)
    _read(probe)
    fake.gpus.reverse()
    assert [(gpu.gpu_uuid, gpu.device_index) for gpu in _read(probe).gpus] == [
        ("GPU-b", 0),
        ("GPU-a", 1),
    ]


def test_a_machine_with_a_driver_and_no_gpu_has_nothing_to_explain(make: Make) -> None:
    """The driver answered, so there is no reason of absence."""
    assert _read(make(FakeNvml([]))) == GpuReading([], "580.65.06", "")


def test_the_numbers_and_names_are_those_of_nvml() -> None:
    """Our tables agree with the constants of the binding."""
    assert pynvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION == RECOVERY_FIELD_ID
    for value, name in enumerate(RECOVERY_NAMES):
        assert getattr(pynvml, f"NVML_GPU_RECOVERY_ACTION_{name.upper()}") == value
    for bit, name in CLOCK_REASONS.items():
        constant = "nvmlClocksThrottleReason" + name.title().replace("_", "")
        assert getattr(pynvml, constant) == bit
    assert {pynvml.NVMLError(code).value for code in ABSENT_ADVICE} == set(ABSENT_ADVICE)
    assert set(CLOCK_REASONS.values()) >= THROTTLE_FAULTS


@given(st.integers(0, 2**64 - 1))
def test_every_bit_of_the_clock_mask_has_a_name_of_its_own(bits: int) -> None:
    """None is dropped, also those that a newer driver invents."""
    assert len(set(clock_reasons(bits))) == bits.bit_count()


# What is refused

CALLS = {
    "nvmlDeviceGetMemoryInfo": ("memory_total_bytes", "memory_used_bytes"),
    "nvmlDeviceGetUtilizationRates": ("utilization_percent",),
    "nvmlDeviceGetPowerUsage": ("power_w",),
    "nvmlDeviceGetTotalEnergyConsumption": ("energy_mj",),
    "nvmlDeviceGetRemappedRows": (
        "rows_remapped_uncorrected",
        "row_remap_pending",
        "row_remap_failed",
    ),
    "nvmlDeviceGetRetiredPages": ("pages_retired",),
    "nvmlDeviceGetRetiredPagesPendingStatus": ("pages_retired_pending",),
    "nvmlDeviceGetCurrPcieLinkWidth": ("pcie_width",),
    "nvmlDeviceGetMaxPcieLinkWidth": ("pcie_width_max",),
    "nvmlDeviceGetName": ("model",),
}


@pytest.mark.parametrize(
    "error", [pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_NO_PERMISSION]
)
@pytest.mark.parametrize("call", CALLS)
def test_a_refused_call_costs_its_own_readings_and_no_other(
    make: Make, call: str, error: int
) -> None:
    """None and its name in `denied`; the other fields and the other GPU are as ever."""
    whole = _read(make(FakeNvml([FakeGpu("GPU-a"), FakeGpu("GPU-b")]))).gpus
    fake = FakeNvml([FakeGpu("GPU-a", faults={call: error}), FakeGpu("GPU-b")])
    first, second = _read(make(fake)).gpus
    missing = dict.fromkeys(CALLS[call])
    if "memory_used_bytes" in missing:
        missing["memory_reserved_bytes"] = None
    assert first == whole[0]._replace(denied=(call,), **missing)
    assert second == whole[1]


def test_older_functions_stand_in_for_newer_ones(make: Make) -> None:
    """Without memory v2 the reserved part counts as used, and is not called 0."""
    gone = dict.fromkeys(
        (
            "nvmlDeviceGetMemoryInfo_v2",
            "nvmlDeviceGetTemperatureV",
            "nvmlDeviceGetCurrentClocksEventReasons",
        ),
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    )
    (gpu,) = _read(make(FakeNvml([FakeGpu("GPU-a", faults=gone)]))).gpus
    assert (gpu.memory_used_bytes, gpu.memory_reserved_bytes) == (8 * GIB, None)
    assert (gpu.temperature_c, gpu.throttle_reasons, gpu.denied) == (41.0, ("sw_power_cap",), ())


def test_nvmls_mark_for_no_value_is_not_taken_for_a_number(make: Make) -> None:
    """0xFFFFFFFF is not 4 GW."""
    odd = FakeGpu("GPU-a", power_mw=0xFFFFFFFF, energy_mj=2**64 - 1, temperature=-1)
    (gpu,) = _read(make(FakeNvml([odd]))).gpus
    assert (gpu.power_w, gpu.energy_mj, gpu.temperature_c) == (None, None, None)
    assert len(gpu.denied) == 3


def test_a_driver_too_old_for_the_recovery_action_lists_it_as_denied(make: Make) -> None:
    """The field's own error counts, although the call succeeded; a newer value keeps its number."""
    old = FakeGpu("GPU-a", field_return=pynvml.NVML_ERROR_NOT_SUPPORTED)
    new = FakeGpu("GPU-b", recovery_action=11)
    first, second = _read(make(FakeNvml([old, new]))).gpus
    assert (first.recovery_action, first.denied) == (None, (RECOVERY_FIELD,))
    assert second.recovery_action == "unknown_11"


def test_calls_refused_until_a_reset_say_that_a_reset_is_wanted(make: Make) -> None:
    """RESET_REQUIRED is a recovery action in other words."""
    fault = {"nvmlDeviceGetPowerUsage": pynvml.NVML_ERROR_RESET_REQUIRED}
    (gpu,) = _read(make(FakeNvml([FakeGpu("GPU-a", faults=fault)]))).gpus
    assert gpu.recovery_action == "gpu_reset"


@pytest.mark.parametrize(
    "error", [AttributeError("no such function"), OSError(5, "I/O"), TypeError()]
)
def test_a_broken_binding_costs_only_the_call(make: Make, error: Exception) -> None:
    """Exceptions that are not NVML's stay local too."""
    fake = FakeNvml([FakeGpu("GPU-a")])
    fake.raises["nvmlDeviceGetPowerUsage"] = error
    (gpu,) = _read(make(fake)).gpus
    assert (gpu.power_w, gpu.denied) == (None, ("nvmlDeviceGetPowerUsage",))


# Lost GPUs


@pytest.mark.parametrize("calls_before", range(0, 24, 3))
def test_a_gpu_that_is_lost_between_calls_is_lost_and_alone(make: Make, calls_before: int) -> None:
    """Wherever it happens: marked lost, no further call about it, its neighbours complete."""
    fake = FakeNvml([FakeGpu("GPU-a"), FakeGpu("GPU-b"), FakeGpu("GPU-c")])
    probe = make(fake)
    before = _read(probe).gpus
    fake.gpus[1].calls_until_lost = calls_before
    after = _read(probe).gpus
    assert [gpu.gpu_uuid for gpu in after] == ["GPU-a", "GPU-b", "GPU-c"]
    assert [gpu.lost for gpu in after] == [False, calls_before < 20, False]
    assert (after[0], after[2]) == (before[0], before[2])
    assert fake.gpus[1].calls_until_lost >= -1
    assert (classify_gpu(after[1]).state is GpuState.LOST) == after[1].lost


def test_a_gpu_lost_before_it_was_ever_seen_is_named_after_its_place(make: Make) -> None:
    """There is no UUID to be had, but the GPU is not left out."""
    fake = FakeNvml([FakeGpu("GPU-a"), FakeGpu("GPU-b", calls_until_lost=0)])
    gpus = _read(make(fake)).gpus
    assert [(gpu.gpu_uuid, gpu.lost) for gpu in gpus] == [
        ("GPU-a", False),
        ("node-1:gpu-1", True),
    ]


def test_a_gpu_without_uuid_is_not_mistaken_for_its_successor(make: Make) -> None:
    """When devices have vanished indices shift, so an old index proves nothing."""
    fake = FakeNvml([FakeGpu("GPU-a"), FakeGpu("GPU-b"), FakeGpu("GPU-c")])
    probe = make(fake)
    _read(probe)
    del fake.gpus[1]
    fake.gpus[1].faults["nvmlDeviceGetUUID"] = pynvml.NVML_ERROR_UNKNOWN
    assert [gpu.gpu_uuid for gpu in _read(probe).gpus] == ["GPU-a", "node-1:gpu-1"]


def test_a_uuid_never_stands_twice_in_a_reading(make: Make) -> None:
    """The UUID known at an index has meanwhile been found at another one."""
    fake = FakeNvml([FakeGpu("GPU-a"), FakeGpu("GPU-b")])
    probe = make(fake)
    _read(probe)
    fake.gpus.reverse()
    fake.gpus[1].faults["nvmlDeviceGetUUID"] = pynvml.NVML_ERROR_UNKNOWN
    assert [gpu.gpu_uuid for gpu in _read(probe).gpus] == ["GPU-b", "node-1:gpu-1"]


# MIG


def test_mig_instances_are_items_of_their_own(make: Make) -> None:
    """UUID, profile and memory of the instance; the place of its GPU; empty slots are no fault."""
    migs = [FakeMig("MIG-1"), None, FakeMig("MIG-2", name="NVIDIA H200 MIG 3g.71gb")]
    gpus = _read(make(FakeNvml([FakeGpu("GPU-a"), FakeGpu("GPU-b", migs=migs)]))).gpus
    assert [(gpu.gpu_uuid, gpu.parent_uuid, gpu.mig_profile) for gpu in gpus] == [
        ("GPU-a", None, None),
        ("GPU-b", None, None),
        ("MIG-1", "GPU-b", "1g.18gb"),
        ("MIG-2", "GPU-b", "3g.71gb"),
    ]
    assert [gpu.denied for gpu in gpus] == [(), (), (), ()]
    assert (gpus[2].memory_total_bytes, gpus[2].model) == (16 * GIB, "NVIDIA H200")
    assert (gpus[2].device_index, gpus[2].utilization_percent) == (1, None)


def test_a_broken_instance_is_left_out_and_named_at_its_gpu(make: Make) -> None:
    """The other instances stay; one without UUID has no key."""
    denied = {"nvmlDeviceGetUUID": pynvml.NVML_ERROR_NO_PERMISSION}
    poor = {"nvmlDeviceGetMemoryInfo": pynvml.NVML_ERROR_NO_PERMISSION}
    migs = [FakeMig("MIG-1", faults=denied), FakeMig("MIG-2", faults=poor), FakeMig("MIG-3")]
    gpus = _read(make(FakeNvml([FakeGpu("GPU-a", migs=list(migs))]))).gpus
    assert [gpu.gpu_uuid for gpu in gpus] == ["GPU-a", "MIG-2", "MIG-3"]
    assert (gpus[1].memory_used_bytes, gpus[1].denied) == (None, ("nvmlDeviceGetMemoryInfo",))
    assert gpus[0].denied == ("nvmlDeviceGetUUID(instance 0)",)


@pytest.mark.parametrize("calls_before", [0, 5])
def test_instances_of_a_lost_gpu_are_still_listed(make: Make, calls_before: int) -> None:
    """They are known from the read before, and now without readings."""
    fake = FakeNvml([FakeGpu("GPU-a", migs=[FakeMig("MIG-1")])])
    probe = make(fake)
    _read(probe)
    fake.gpus[0].calls_until_lost = calls_before
    parent, child = _read(probe).gpus
    assert (parent.gpu_uuid, parent.lost) == ("GPU-a", True)
    assert (child.gpu_uuid, child.parent_uuid) == ("MIG-1", "GPU-a")
    assert child.memory_used_bytes is None


# Absent drivers


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "no NVIDIA driver is installed"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "run `modprobe nvidia`"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "different versions"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "no permission"),
        (pynvml.NVML_ERROR_UNKNOWN, "the driver does not start"),
        (pynvml.NVML_ERROR_MEMORY, "Insufficient Memory"),
    ],
)
def test_each_way_of_having_no_driver_has_its_own_advice(
    make: Make, error: int, advice: str
) -> None:
    """Installing, loading, restarting and permitting are different things to do."""
    reading = _read(make(FakeNvml([FakeGpu("GPU-a")], init_error=error)))
    assert (reading.gpus, reading.driver_version) == ([], None)
    assert advice in reading.absent_reason
    assert "NVMLError" in reading.absent_reason


def test_a_foreign_module_of_the_same_name_is_recognised(make: Make) -> None:
    """`pynvml` and `nvidia-ml-py3` overwrite the module of nvidia-ml-py."""
    assert "uninstall `pynvml`" in _read(make(ModuleType("pynvml"))).absent_reason


def test_a_missing_package_is_named(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The binding is imported with the first read, not before."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    probe = make(None)
    assert "nvidia-ml-py is not installed" in _read(probe).absent_reason


def test_a_driver_that_is_installed_later_is_found(make: Make) -> None:
    """Each read tries again."""
    fake = FakeNvml([FakeGpu("GPU-a")], init_error=pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
    probe = make(fake)
    assert _read(probe).gpus == []
    fake.init_error = None
    assert [gpu.gpu_uuid for gpu in _read(probe).gpus] == ["GPU-a"]


@pytest.mark.parametrize("watch", [False, True])
def test_a_driver_that_was_unloaded_is_opened_again(make: Make, watch: bool) -> None:
    """Until then the GPUs stay listed, without readings and with the reason."""
    fake = FakeNvml([FakeGpu("GPU-a")])
    probe = make(fake, watch=watch)
    _read(probe)
    fake.is_open = False
    gone = _read(probe)
    assert gone.absent_reason.startswith("nvmlDeviceGetCount: ")
    assert [(gpu.gpu_uuid, gpu.power_w) for gpu in gone.gpus] == [("GPU-a", None)]
    assert [gpu.power_w for gpu in _read(probe).gpus] == [123.456]


def test_a_driver_that_cannot_count_its_gpus_loses_none(make: Make) -> None:
    """An error of the one call that everything depends on."""
    fake = FakeNvml([FakeGpu("GPU-a")])
    probe = make(fake)
    _read(probe)
    fake.system_faults["nvmlDeviceGetCount"] = pynvml.NVML_ERROR_UNKNOWN
    fake.system_faults["nvmlSystemGetDriverVersion"] = pynvml.NVML_ERROR_UNKNOWN
    reading = _read(probe)
    assert [gpu.gpu_uuid for gpu in reading.gpus] == ["GPU-a"]
    assert "nvmlDeviceGetCount" in reading.absent_reason


# Hanging drivers


@pytest.mark.parametrize(
    "call", ["nvmlDeviceGetPowerUsage", "nvmlDeviceGetCount", "nvmlDeviceGetMigMode"]
)
def test_a_hanging_call_stops_neither_the_caller_nor_starts_more_threads(
    make: Make, call: str
) -> None:
    """GPUs stay listed without readings, the reason names the call, and one thread is enough."""
    fake = FakeNvml([FakeGpu("GPU-a"), FakeGpu("GPU-b")])
    probe = make(fake, timeout_s=0.5)
    _until(lambda: _read(probe).absent_reason == "")
    release = fake.hang(call)
    try:
        readings = [_read(probe, T0 + timedelta(seconds=second)) for second in range(4)]
        alive = [thread for thread in threading.enumerate() if thread.name == "gpu-driver"]
    finally:
        release.set()
    for reading in readings:
        assert "has not returned for" in reading.absent_reason
        assert f"in {call}: look at `dmesg`" in reading.absent_reason
        assert [gpu.gpu_uuid for gpu in reading.gpus] == ["GPU-a", "GPU-b"]
        assert all(gpu.power_w is None and gpu.denied for gpu in reading.gpus)
    history = [reading.gpus[0] for reading in readings]
    assert classify_gpu(history[2], history[:2]).state is GpuState.UNKNOWN
    assert len(alive) == 1
    assert fake.calls[call] >= 1


def test_a_late_result_is_handed_out_by_the_next_read_with_its_own_time(make: Make) -> None:
    """A driver that takes longer than the limit is slow, not silent."""
    fake = FakeNvml([FakeGpu("GPU-a")])
    probe = make(fake, timeout_s=0.2)
    release = fake.hang("nvmlDeviceGetPowerUsage")
    first = _read(probe, T0)
    assert first.gpus == []
    assert "nvmlDeviceGetPowerUsage" in first.absent_reason
    release.set()
    job = probe._thread._job
    assert job is not None
    _until(job.done.is_set)
    late = _read(probe, T0 + timedelta(seconds=1))
    assert (late.absent_reason, late.gpus[0].observed_at) == ("", T0)
    assert late.gpus[0].power_w == 123.456


def test_an_unforeseen_error_becomes_a_reason(make: Make) -> None:
    """The port's promise holds even where the probe's own surroundings break."""
    probe = make(FakeNvml([FakeGpu("GPU-a")]))
    probe._boot_id = lambda: str(1 // 0)
    assert _read(probe).absent_reason.startswith("ZeroDivisionError: ")


def test_closing_a_probe_whose_driver_hangs_returns(make: Make) -> None:
    """The thread is left to die with the process; NVML is not shut down beneath it."""
    fake = FakeNvml([FakeGpu("GPU-a")])
    probe = make(fake, timeout_s=0.1)
    release = fake.hang("nvmlDeviceGetCount")
    try:
        assert "nvmlDeviceGetCount" in _read(probe).absent_reason
        probe.close()
        assert fake.calls["nvmlShutdown"] == 0
    finally:
        release.set()


def test_a_late_failure_is_reported_not_raised() -> None:
    """An exception of a call that was given up comes out where it is collected."""
    gate = threading.Event()

    def fail() -> None:
        gate.wait(PATIENT_S)
        raise OSError("late")

    thread = DriverThread("test-driver")
    with pytest.raises(DriverStuckError, match="has not returned"):
        thread.call(fail, 0.01)
    with pytest.raises(DriverStuckError):
        thread.call(fail, 0.01)
    assert thread.collect_late() is None
    gate.set()
    job = thread._job
    assert job is not None
    _until(job.done.is_set)
    with pytest.raises(OSError, match="late"):
        thread.collect_late()
    assert thread.collect_late() is None
    assert thread.call(lambda: 7, PATIENT_S) == 7
    assert thread.close(PATIENT_S)
    assert thread.close(PATIENT_S)


# Xids


def _wait_for_xids(probe: NvmlGpuProbe, ready: Callable[[list[Gpu]], bool]) -> list[Gpu]:
    found: list[Gpu] = []

    def check() -> bool:
        found[:] = _read(probe).gpus
        return ready(found)

    _until(check)
    return found


def test_xids_are_remembered_per_gpu_in_order(make: Make) -> None:
    """79 is not forgotten because a harmless 45 follows it."""
    fake = FakeNvml([FakeGpu("GPU-a"), FakeGpu("GPU-b")])
    probe = make(fake, watch=True)
    assert [gpu.xid_last for gpu in _read(probe).gpus] == [None, None]
    for code in (79, 45, 45):
        fake.events.put((fake.gpus[1], code))
    first, second = _wait_for_xids(probe, lambda gpus: gpus[1].xid_last == 45)
    assert (first.xid_last, first.xids) == (None, ())
    assert (second.xids, second.xid_at) == ((79, 45), T0)
    assert classify_gpu(second).state is GpuState.UNHEALTHY


def test_an_xid_of_an_unidentified_gpu_is_held_against_all(make: Make) -> None:
    """The device of the event does not answer: any of them may be it, as in NVIDIA's own plugin."""
    fake = FakeNvml([FakeGpu("GPU-a"), FakeGpu("GPU-b")])
    probe = make(fake, watch=True)
    _read(probe)
    fake.events.put((FakeGpu("GPU-gone", calls_until_lost=0), 79))
    gpus = _wait_for_xids(probe, lambda gpus: gpus[0].xid_last is not None)
    assert [gpu.xids for gpu in gpus] == [(79,), (79,)]


def test_xids_end_with_the_driver_session_they_belong_to(make: Make) -> None:
    """The energy counter went back: the GPU began anew, its old errors are over."""
    fake = FakeNvml([FakeGpu("GPU-a")])
    probe = make(fake, watch=True)
    _read(probe)
    fake.events.put((fake.gpus[0], 48))
    _wait_for_xids(probe, lambda gpus: gpus[0].xids == (48,))
    fake.gpus[0].energy_mj = 10
    assert _read(probe).gpus[0].xids == ()


def test_a_gpu_without_events_says_so_and_is_asked_once(make: Make) -> None:
    """WSL and some virtual GPUs have no events; the other GPU is watched all the same."""
    refused = {"nvmlDeviceRegisterEvents": pynvml.NVML_ERROR_NOT_SUPPORTED}
    fake = FakeNvml([FakeGpu("GPU-a", faults=refused), FakeGpu("GPU-b")])
    probe = make(fake, watch=True)
    for _ in range(3):
        first, second = _read(probe).gpus
    assert (first.denied, second.denied) == (("nvmlDeviceRegisterEvents",), ())
    assert fake.calls["nvmlDeviceRegisterEvents"] == 2
    fake.events.put((fake.gpus[1], 63))
    _wait_for_xids(probe, lambda gpus: gpus[1].xid_last == 63)


def test_the_watch_goes_on_after_an_error_of_waiting(make: Make) -> None:
    """A lost GPU makes waiting fail for a while; it neither ends the thread nor spins it."""
    fake = FakeNvml([FakeGpu("GPU-a")])
    fake.wait_error = pynvml.NVML_ERROR_GPU_IS_LOST
    probe = make(fake, watch=True)
    _read(probe)
    _until(lambda: fake.calls["nvmlEventSetWait_v2"] >= 1)
    fake.wait_error = None
    fake.events.put((fake.gpus[0], 119))
    _wait_for_xids(probe, lambda gpus: gpus[0].xid_last == 119)
    assert fake.calls["nvmlEventSetWait_v2"] < 20


def test_the_number_of_remembered_xids_is_bounded(make: Make) -> None:
    """A driver gone mad does not fill the memory; the newest numbers stay."""
    fake = FakeNvml([FakeGpu("GPU-a")])
    probe = make(fake, watch=True)
    _read(probe)
    for code in range(200):
        fake.events.put((fake.gpus[0], code))
    (gpu,) = _wait_for_xids(probe, lambda gpus: gpus[0].xid_last == 199)
    assert gpu.xids == tuple(range(200 - XIDS_KEPT, 200))


def test_closing_ends_both_threads_and_the_driver_session() -> None:
    """Twice is as good as once, and unopened is as good as opened."""
    fake = FakeNvml([FakeGpu("GPU-a")])
    with NvmlGpuProbe(fake, read_timeout_s=PATIENT_S) as probe:
        _read(probe)
        _until(lambda: fake.calls["nvmlEventSetWait_v2"] >= 1)
        watcher = probe._watcher
        assert watcher is not None
        assert watcher._thread is not None
        thread = watcher._thread
    probe.close()
    assert not thread.is_alive()
    assert (fake.is_open, fake.calls["nvmlEventSetFree"]) == (False, 1)
    assert fake.threads == {"gpu-driver"}
    NvmlGpuProbe(fake).close()


def test_a_closed_probe_opens_again_when_it_is_read(make: Make) -> None:
    """Closing lets go of the devices, for a reset; reading goes on afterwards."""
    fake = FakeNvml([FakeGpu("GPU-a")])
    probe = make(fake, watch=True)
    _read(probe)
    probe.close()
    assert not fake.is_open
    assert [gpu.gpu_uuid for gpu in _read(probe).gpus] == ["GPU-a"]


def test_the_times_of_xids_are_aware_utc() -> None:
    """The watcher's own clock, when none is handed in."""
    fake = FakeNvml([FakeGpu("GPU-a")])
    with NvmlGpuProbe(fake, read_timeout_s=PATIENT_S) as probe:
        _read(probe)
        fake.events.put((fake.gpus[0], 13))
        (gpu,) = _wait_for_xids(probe, lambda gpus: gpus[0].xid_last == 13)
    assert gpu.xid_at is not None
    assert gpu.xid_at.utcoffset() == timedelta(0)


# Fuzzing: whole machines that break at random

ERRORS = [
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_NO_PERMISSION,
    pynvml.NVML_ERROR_GPU_IS_LOST,
    pynvml.NVML_ERROR_RESET_REQUIRED,
    pynvml.NVML_ERROR_UNKNOWN,
    pynvml.NVML_ERROR_TIMEOUT,
    pynvml.NVML_ERROR_UNINITIALIZED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    12345,
]
FUNCTIONS = sorted(name for name in dir(FakeNvml) if name.startswith("nvmlDevice"))
NUMBERS = (
    "memory_total_bytes",
    "memory_used_bytes",
    "utilization_percent",
    "temperature_c",
    "power_w",
    "energy_mj",
    "ecc_uncorrected_volatile",
    "ecc_corrected_volatile",
    "rows_remapped_uncorrected",
    "pages_retired",
    "pcie_width",
    "pcie_width_max",
)
"""Readings that are never 0 on the fake: a 0 could only be an invention."""

plans = st.fixed_dictionaries(
    {
        "faults": st.dictionaries(st.sampled_from(FUNCTIONS), st.sampled_from(ERRORS), max_size=6),
        "calls_until_lost": st.none() | st.integers(0, 25),
        "migs": st.integers(0, 3),
        "mig_faults": st.dictionaries(
            st.sampled_from(FUNCTIONS), st.sampled_from(ERRORS), max_size=2
        ),
    }
)


def _is_sound(plan: dict[str, object]) -> bool:
    return not plan["faults"] and plan["calls_until_lost"] is None and not plan["migs"]


@settings(max_examples=examples(200))
@given(st.lists(st.lists(plans, min_size=1, max_size=4), min_size=1, max_size=3), st.data())
def test_no_plan_of_faults_makes_the_probe_raise_invent_or_forget(
    rounds: list[list[dict[str, object]]], data: st.DataObject
) -> None:
    """Over several reads: one record per device, no invented 0, sound devices whole, no twins."""
    fake = FakeNvml([])
    system = st.dictionaries(
        st.sampled_from(["nvmlDeviceGetCount", "nvmlSystemGetDriverVersion"]),
        st.sampled_from(ERRORS),
        max_size=1,
    )
    with NvmlGpuProbe(fake, read_timeout_s=PATIENT_S, watch_xids=False) as probe:
        for plan_list in rounds:
            fake.system_faults = data.draw(system)
            fake.gpus = [_broken(index, plan) for index, plan in enumerate(plan_list)]
            reading = _read(probe)
            uuids = [gpu.gpu_uuid for gpu in reading.gpus]
            assert len(set(uuids)) == len(uuids)
            for gpu in reading.gpus:
                assert all(getattr(gpu, name) != 0 for name in NUMBERS)
                assert gpu.throttle_reasons or CLOCK_CALL in gpu.denied or not _answered(gpu)
                classify_gpu(gpu)
            if reading.absent_reason:
                continue
            whole = [gpu for gpu in reading.gpus if gpu.parent_uuid is None]
            assert [gpu.device_index for gpu in whole] == list(range(len(plan_list)))
            for gpu, plan in zip(whole, plan_list, strict=True):
                if _is_sound(plan):
                    assert (gpu.denied, gpu.lost) == ((), False)
                    assert gpu.gpu_uuid == f"GPU-{gpu.device_index}"


def _answered(gpu: Gpu) -> bool:
    """A whole GPU that was read, not one only remembered or named after its place."""
    return gpu.parent_uuid is None and gpu.power_w is not None


def _broken(index: int, plan: dict[str, object]) -> FakeGpu:
    migs = [
        FakeMig(f"MIG-{index}-{slot}", faults=dict(plan["mig_faults"]))  # type: ignore[call-overload]
        for slot in range(plan["migs"])  # type: ignore[call-overload]
    ]
    return FakeGpu(
        f"GPU-{index}",
        faults=dict(plan["faults"]),  # type: ignore[call-overload]
        calls_until_lost=plan["calls_until_lost"],  # type: ignore[arg-type]
        migs=migs,
    )


def test_the_boot_id_is_the_kernels_or_none(tmp_path: Path) -> None:
    """A missing, empty or garbled file gives None."""
    path = tmp_path / "boot_id"
    assert read_boot_id(path) is None
    path.write_bytes(b"\n")
    assert read_boot_id(path) is None
    path.write_bytes(b"\xff\xfe")
    assert read_boot_id(path) is None
    path.write_bytes(b"4a1c-77\n")
    assert read_boot_id(path) == "4a1c-77"
