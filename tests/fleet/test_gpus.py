"""GPU health: a golden table of faults, hysteresis, and properties of all records."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet import xids
from fleet.gpus import (
    ACTION_RANK,
    CLOCK_CALL,
    RECOVERY_ACTIONS,
    SEVERITY,
    THROTTLE_FAULTS,
    GpuHealthPolicy,
    HeldFault,
    classify_gpu,
    has_reading,
    is_cleared,
)
from fleet.inventory import Gpu, GpuAction, GpuState
from fleet.xids import APPLICATION_XIDS, BUCKETS, HOUSE_RULES, XID_CATALOG, xid_advice

T0 = datetime(2026, 11, 21, 12, tzinfo=UTC)

WELL = Gpu(
    gpu_uuid="GPU-a",
    node_id="node-1",
    region="eu-central-1",
    device_index=0,
    model="NVIDIA H200",
    memory_total_bytes=150_000_000_000,
    memory_used_bytes=7_000_000_000,
    utilization_percent=42.0,
    temperature_c=41.0,
    power_w=123.0,
    throttle_reasons=("sw_power_cap",),
    ecc_uncorrected_volatile=0,
    ecc_corrected_volatile=5,
    rows_remapped_uncorrected=0,
    row_remap_pending=False,
    row_remap_failed=False,
    pcie_width=16,
    pcie_width_max=16,
    recovery_action="none",
    driver_version="580.65.06",
    observed_at=T0,
    boot_id="boot-1",
    energy_mj=1_000_000,
)
"""A healthy GPU under load; the power cap is normal there."""

BLANK = Gpu("GPU-a", "node-1", "eu-central-1", 0, observed_at=T0)
"""A report without any reading."""

H, D, U, L = GpuState.HEALTHY, GpuState.DEGRADED, GpuState.UNHEALTHY, GpuState.LOST
NO, IDLE, APP = GpuAction.NONE, GpuAction.RESET_WHEN_IDLE, GpuAction.RESTART_APPLICATION
RESET, REBOOT, REPLACE = (
    GpuAction.DRAIN_AND_RESET,
    GpuAction.DRAIN_AND_REBOOT,
    GpuAction.REPLACE,
)

GOLDEN: list[tuple[dict[str, Any], GpuState, GpuAction, str]] = [
    ({}, H, NO, ""),
    ({"recovery_action": "gpu_reset"}, U, RESET, "the driver asks for gpu_reset"),
    ({"recovery_action": "node_reboot"}, U, REBOOT, "the driver asks for node_reboot"),
    ({"recovery_action": "system_reboot"}, U, REBOOT, "the driver asks for system_reboot"),
    ({"recovery_action": "bus_reset"}, U, RESET, "the driver asks for bus_reset"),
    ({"recovery_action": "drain_p2p"}, U, APP, "the driver asks for drain_p2p"),
    ({"recovery_action": "drain_and_reset"}, U, RESET, "the driver asks for drain_and_reset"),
    ({"recovery_action": "recover_imex_domain"}, U, RESET, "the driver asks for recover_imex"),
    ({"recovery_action": "unknown_9"}, U, REBOOT, "the driver asks for unknown_9"),
    ({"ecc_uncorrected_volatile": 1}, U, RESET, "1 uncorrected ECC errors"),
    ({"row_remap_pending": True}, D, IDLE, "a row remap waits"),
    ({"row_remap_failed": True}, U, REPLACE, "row remapping failed"),
    ({"pages_retired_pending": True}, D, IDLE, "a page retirement waits"),
    ({"pages_retired": 59}, H, NO, ""),
    ({"pages_retired": 60}, D, REPLACE, "60 retired pages"),
    ({"throttle_reasons": ("gpu_idle", "sw_power_cap", "sync_boost")}, H, NO, ""),
    ({"throttle_reasons": ("hw_thermal_slowdown",)}, D, NO, "clocks held down by hw_thermal"),
    ({"throttle_reasons": ("sw_thermal_slowdown",)}, D, NO, "clocks held down by sw_thermal"),
    ({"throttle_reasons": ("hw_power_brake_slowdown",)}, D, NO, "clocks held down by hw_power"),
    ({"pcie_width": 8}, D, IDLE, "PCIe width is x8 of x16"),
    ({"pcie_width": None}, H, NO, ""),
    ({"lost": True}, L, REBOOT, "the driver has lost the GPU"),
    *(({"xid_last": code}, H, APP, f"Xid {code}: application") for code in (13, 31, 43, 45)),
    *(({"xid_last": code}, H, APP, f"Xid {code}: application") for code in (68, 109)),
    *(({"xid_last": code}, U, RESET, f"Xid {code}: ") for code in (46, 48, 62, 74, 95, 119, 120)),
    ({"xid_last": 63}, D, IDLE, "Xid 63: GPU memory remapping event"),
    ({"xid_last": 64}, U, REPLACE, "Xid 64: GPU memory remapping failure"),
    ({"xid_last": 79}, U, REBOOT, "Xid 79: GPU has fallen off the bus"),
    ({"xid_last": 92}, D, NO, "Xid 92: high single-bit"),
    ({"xid_last": 94}, D, APP, "Xid 94: contained memory error"),
    ({"xid_last": 154}, D, NO, "Xid 154: GPU recovery action changed"),
    ({"xid_last": 106}, H, NO, ""),
    ({"xid_last": 9999}, D, NO, "Xid 9999: not in the catalogue"),
    ({"xids": (79, 45), "xid_last": 45}, U, REBOOT, "Xid 79"),
    ({"xids": (13,), "xid_last": 106}, H, NO, ""),
]


@pytest.mark.parametrize(("fault", "state", "action", "reason"), GOLDEN)
def test_each_fault_has_its_state_its_action_and_its_reason(
    fault: dict[str, Any], state: GpuState, action: GpuAction, reason: str
) -> None:
    """The golden table: one sign on an otherwise healthy GPU."""
    verdict = classify_gpu(WELL._replace(**fault))
    assert (verdict.state, verdict.action) == (state, action)
    assert verdict.reasons[0].startswith(reason) if reason else verdict.reasons == ()
    assert verdict.takes_new_work == (state in {H, D})
    assert (verdict.held is not None) == (state in {U, L})


def test_a_gpu_without_any_reading_is_unknown_and_says_which_calls_failed() -> None:
    """Nothing known is neither healthy nor faulty."""
    verdict = classify_gpu(BLANK._replace(denied=("nvmlDeviceGetUUID",)))
    assert verdict.state is GpuState.UNKNOWN
    assert verdict.reasons == ("no readings in 1 report (denied: nvmlDeviceGetUUID)",)
    assert not verdict.takes_new_work


def test_a_gpu_becomes_unknown_with_the_third_silent_report_not_before() -> None:
    """Two reports without readings are judged by the last one with readings."""
    seen = [WELL._replace(row_remap_pending=True)]
    states = []
    for _ in range(3):
        verdict = classify_gpu(BLANK, seen)
        states.append(verdict.state)
        seen.append(BLANK)
    assert states == [D, D, GpuState.UNKNOWN]
    assert "a row remap waits for the next reset" in verdict.reasons


def test_a_gpu_whose_reports_stopped_is_unknown() -> None:
    """The age of the last report counts, whatever it said."""
    policy = GpuHealthPolicy(report_interval_s=15.0, silent_reports=3)
    at_limit = T0 + timedelta(seconds=45)
    assert classify_gpu(WELL, now=at_limit, policy=policy).state is H
    late = classify_gpu(WELL, now=at_limit + timedelta(seconds=1), policy=policy)
    assert late.state is GpuState.UNKNOWN
    assert late.reasons == ("the last report is 46 s old",)


def test_a_gpu_of_a_silent_node_is_unknown_unless_it_was_worse() -> None:
    """Silence hides health, never a fault."""
    assert classify_gpu(WELL, silent=True).state is GpuState.UNKNOWN
    assert classify_gpu(WELL._replace(lost=True), silent=True).state is L


def test_an_old_application_xid_is_not_mentioned_for_ever() -> None:
    """After ten minutes it is history; a fault of the GPU is not."""
    old = WELL._replace(xid_at=T0 - timedelta(seconds=601))
    assert classify_gpu(old._replace(xid_last=13)).reasons == ()
    assert classify_gpu(old._replace(xid_last=79)).state is U
    young = WELL._replace(xid_at=T0 - timedelta(seconds=600), xid_last=13)
    assert classify_gpu(young).action is APP


def test_throttling_in_few_readings_is_not_yet_a_degradation() -> None:
    """The share of throttled readings decides; readings without clocks do not count."""
    hot = WELL._replace(throttle_reasons=("hw_slowdown",))
    blind = WELL._replace(throttle_reasons=(), denied=(CLOCK_CALL,))
    assert classify_gpu(hot, [WELL] * 5).state is H
    assert classify_gpu(hot, [WELL] * 4).state is D
    assert classify_gpu(hot, [blind] * 50).state is D
    assert classify_gpu(blind, [hot]).reasons == (
        "clocks held down by hw_slowdown in 1 of 1 readings",
    )


def test_a_storm_of_corrected_errors_degrades() -> None:
    """It is the rate that counts: the same number over a day is nothing."""

    def after(seconds: float, errors: int) -> Gpu:
        at = T0 + timedelta(seconds=seconds)
        return WELL._replace(observed_at=at, ecc_corrected_volatile=5 + errors)

    assert classify_gpu(after(60, 100), [WELL]).state is D
    assert classify_gpu(after(86_400, 100), [WELL]).state is H
    assert classify_gpu(after(0, 100), [WELL]).state is H
    assert classify_gpu(after(60, -1), [WELL]).state is H
    assert classify_gpu(after(60, 0)._replace(observed_at=None), [WELL]).state is H


# Hysteresis


def _fail_then(later: Gpu) -> GpuState:
    faulty = classify_gpu(WELL._replace(xid_last=79))
    return classify_gpu(later, held=faulty.held).state


@pytest.mark.parametrize(
    ("later", "state"),
    [
        (WELL, U),
        (WELL._replace(energy_mj=2_000_000), U),
        (WELL._replace(ecc_corrected_volatile=0), U),
        (WELL._replace(boot_id=None, driver_version=None, energy_mj=None), U),
        (WELL._replace(boot_id="boot-2"), H),
        (WELL._replace(driver_version="590.1"), H),
        (WELL._replace(energy_mj=5), H),
        (BLANK, U),
    ],
)
def test_unhealthy_is_left_only_by_a_driver_reload_or_a_new_boot(
    later: Gpu, state: GpuState
) -> None:
    """When the signs of a fault vanish (the watcher was restarted), the fault has not."""
    assert _fail_then(later) is state


def test_a_gpu_without_energy_counter_is_cleared_by_its_ecc_counters() -> None:
    """Older GPUs: volatile counters that went back prove a reload; absent ones prove nothing."""
    held = HeldFault("x", RESET, ecc_uncorrected_volatile=3, ecc_corrected_volatile=5)
    old = WELL._replace(energy_mj=None, ecc_uncorrected_volatile=3)
    assert not is_cleared(held, old)
    assert is_cleared(held, old._replace(ecc_uncorrected_volatile=0))
    assert is_cleared(held, old._replace(ecc_corrected_volatile=0))
    assert not is_cleared(held, BLANK)


def test_a_lost_gpu_that_answers_again_stays_unhealthy() -> None:
    """What fell off the bus once is not trusted before the machine has been restarted."""
    lost = classify_gpu(WELL._replace(lost=True))
    back = classify_gpu(WELL, held=lost.held)
    assert (back.state, back.action) == (U, REBOOT)
    assert back.reasons[0].startswith("held until the driver is reloaded")
    again = classify_gpu(WELL, held=back.held)
    assert again == back
    assert classify_gpu(WELL._replace(boot_id="boot-2"), held=again.held).state is H


def test_a_lasting_fault_outlives_the_reboot_and_loses_only_what_was_held() -> None:
    """Failed row remapping is read anew after each boot."""
    worn = WELL._replace(row_remap_failed=True, xid_last=79)
    held = classify_gpu(worn).held
    rebooted = worn._replace(xid_last=None, boot_id="boot-2")
    verdict = classify_gpu(rebooted, [worn], held)
    assert (verdict.state, verdict.action) == (U, REPLACE)
    assert len(verdict.reasons) == 1


def test_a_held_action_is_not_softened_by_a_later_lesser_fault() -> None:
    """First replace, then only a reset: the GPU is still to be replaced."""
    first = classify_gpu(WELL._replace(xid_last=64))
    second = classify_gpu(WELL._replace(xid_last=48), held=first.held)
    assert second.action is REPLACE
    assert second.held is not None
    assert second.held.action is REPLACE
    assert second.held.reason == first.reasons[0]


def test_the_counters_of_a_held_fault_follow_the_readings() -> None:
    """A reload is noticed even if the counter has passed its value at the time of the fault."""
    held = classify_gpu(WELL._replace(xid_last=79)).held
    grown = classify_gpu(WELL._replace(energy_mj=9_000_000), held=held).held
    blind = classify_gpu(BLANK, held=grown).held
    assert blind is not None
    assert (blind.energy_mj, blind.boot_id) == (9_000_000, "boot-1")
    assert classify_gpu(WELL._replace(energy_mj=2_000_000), held=blind).state is H


# Properties

faults = st.one_of(
    st.just({"lost": True}),
    st.builds(
        lambda action: {"recovery_action": action},
        st.sampled_from([*RECOVERY_ACTIONS, "unknown_12"]),
    ),
    st.builds(lambda n: {"ecc_uncorrected_volatile": n}, st.integers(1, 10**6)),
    st.just({"row_remap_pending": True}),
    st.just({"row_remap_failed": True}),
    st.just({"pages_retired_pending": True}),
    st.builds(lambda n: {"pages_retired": n}, st.integers(60, 64)),
    st.builds(lambda name: {"throttle_reasons": (name,)}, st.sampled_from(sorted(THROTTLE_FAULTS))),
    st.builds(lambda n: {"pcie_width": n}, st.sampled_from([1, 2, 4, 8])),
    st.builds(lambda code: {"xids": (code,)}, st.sampled_from([*XID_CATALOG, 9999])),
)

maybe = st.none
gpus = st.builds(
    WELL._replace,
    temperature_c=maybe(),
    power_w=maybe(),
    rows_remapped_uncorrected=maybe(),
    memory_used_bytes=maybe() | st.integers(0, 10**12),
    utilization_percent=maybe() | st.floats(0, 100),
    throttle_reasons=st.lists(st.sampled_from([*THROTTLE_FAULTS, "gpu_idle"])).map(tuple),
    ecc_uncorrected_volatile=maybe() | st.integers(0, 5),
    ecc_corrected_volatile=maybe() | st.integers(0, 10**6),
    row_remap_pending=maybe() | st.booleans(),
    row_remap_failed=maybe() | st.booleans(),
    pcie_width=maybe() | st.sampled_from([1, 8, 16]),
    pcie_width_max=maybe() | st.sampled_from([8, 16]),
    xid_last=maybe() | st.sampled_from([*XID_CATALOG, 9999]),
    recovery_action=maybe() | st.sampled_from(["none", *RECOVERY_ACTIONS]),
    driver_version=maybe() | st.sampled_from(["580", "590"]),
    lost=st.booleans(),
    denied=st.lists(st.sampled_from([CLOCK_CALL, "other"])).map(tuple),
    xid_at=maybe() | st.just(T0) | st.just(T0 - timedelta(hours=1)),
    observed_at=maybe() | st.just(T0) | st.just(T0 + timedelta(seconds=15)),
    boot_id=maybe() | st.sampled_from(["boot-1", "boot-2"]),
    energy_mj=maybe() | st.integers(0, 10),
    pages_retired=maybe() | st.integers(0, 64),
    pages_retired_pending=maybe() | st.booleans(),
    xids=st.lists(st.sampled_from([*XID_CATALOG, 9999]), max_size=3).map(tuple),
)

READINGS = (
    "memory_used_bytes",
    "utilization_percent",
    "ecc_uncorrected_volatile",
    "ecc_corrected_volatile",
    "row_remap_pending",
    "row_remap_failed",
    "pcie_width",
    "pcie_width_max",
    "recovery_action",
    "energy_mj",
    "pages_retired",
    "pages_retired_pending",
)


@given(st.lists(faults, max_size=6), faults)
def test_a_further_fault_never_makes_the_verdict_better(
    present: list[dict[str, Any]], added: dict[str, Any]
) -> None:
    """Order of severity: state and action only rise as signs are added, none displacing another."""
    gpu = WELL
    for fault in present:
        gpu = gpu._replace(**{**fault, "xids": (*gpu.xids, *fault.get("xids", ()))})
    worse = gpu._replace(
        **{
            name: (*gpu.xids, *value) if name == "xids" else value
            for name, value in added.items()
            if name not in {"recovery_action", "pcie_width"} or getattr(gpu, name) in {"none", 16}
        }
    )
    before, after = classify_gpu(gpu), classify_gpu(worse)
    assert SEVERITY[after.state] >= SEVERITY[before.state]
    assert ACTION_RANK[after.action] >= ACTION_RANK[before.action]


@given(gpus, st.sets(st.sampled_from(READINGS)))
def test_an_absent_reading_never_makes_a_gpu_worse_than_unknown(gpu: Gpu, absent: set[str]) -> None:
    """Taking readings away removes findings or ends in unknown; it never invents a fault."""
    before = classify_gpu(gpu)
    after = classify_gpu(gpu._replace(**dict.fromkeys(absent)))
    limit = max(SEVERITY[before.state], SEVERITY[GpuState.UNKNOWN])
    assert SEVERITY[after.state] <= limit
    assert ACTION_RANK[after.action] <= ACTION_RANK[before.action]


@given(gpus)
def test_a_record_without_readings_is_never_healthy(gpu: Gpu) -> None:
    """Absent is not 0: a GPU of which nothing is known is not called fit for work."""
    blank = gpu._replace(**dict.fromkeys(READINGS))
    assert not has_reading(blank)
    assert not classify_gpu(blank).takes_new_work


@given(st.lists(gpus, min_size=1, max_size=12))
def test_once_unhealthy_a_gpu_takes_no_work_before_it_began_anew(records: list[Gpu]) -> None:
    """Hysteresis over any history: only proof of a fresh start ends what is held."""
    held, history = None, []
    for gpu in records:
        verdict = classify_gpu(gpu, history, held)
        assert bool(verdict.reasons) or verdict.state is H
        if held is not None and not is_cleared(held, gpu):
            assert SEVERITY[verdict.state] >= SEVERITY[U]
            assert ACTION_RANK[verdict.action] >= ACTION_RANK[held.action]
        assert (verdict.held is not None) == (SEVERITY[verdict.state] >= SEVERITY[U])
        held, history = verdict.held, [*history, gpu]


@given(st.integers(-5, 2000))
def test_every_xid_has_an_advice_and_an_unknown_one_is_a_warning(code: int) -> None:
    """No number is ignored because nobody knew it."""
    advice = xid_advice(code)
    assert advice.code == code
    if code not in XID_CATALOG:
        assert (advice.state, advice.action) == (D, NO)
    assert advice.is_application == (code in APPLICATION_XIDS)
    if advice.is_application:
        assert advice.state is H


def test_the_catalogue_is_whole() -> None:
    """Each number stands in one bucket, each bucket has a meaning, each house rule a number."""
    assert {advice.bucket for advice in XID_CATALOG.values()} == set(BUCKETS)
    assert set(HOUSE_RULES) <= set(XID_CATALOG)
    assert all(1 <= code <= 200 and advice.name for code, advice in XID_CATALOG.items())
    assert sum(map(len, xids._NAMES.values())) == len(XID_CATALOG) == 108


def test_states_and_actions_know_their_order() -> None:
    """Definition order is the order of severity and of disruption."""
    assert [state.severity for state in GpuState] == [0, 1, 2, 3, 4]
    assert [action.rank for action in GpuAction] == [0, 1, 2, 3, 4, 5]
    assert min(GpuState, key=lambda state: state.severity) is H
