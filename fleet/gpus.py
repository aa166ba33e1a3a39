"""GPU health: the state of one GPU, the action that is advised, and why.

Invariants, all held by properties in the tests:

- a further fault never makes a state or an action better;
- a reading that is absent (None) counts for nothing: it is never taken for 0, and by itself it
  makes a GPU `unknown` at worst;
- `unhealthy` and `lost` are left only when the driver was reloaded or the machine restarted
  (`is_cleared`), because faults do not mend themselves, only their signs go away.

NVIDIA's own verdict, the recovery action, is judged first; the other rules find what older drivers
do not report. The state is the worst that any rule finds, the action the most disruptive.

Sources: NVIDIA, "GPU Memory Error Management" (recovery flags, row remapping) and "Dynamic Page
Retirement" (60 pages: replace); the Xid catalogue in `fleet.xids`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from fleet.inventory import Gpu, GpuAction, GpuState
from fleet.xids import xid_advice

CLOCK_CALL = "nvmlDeviceGetCurrentClocksEventReasons"
"""Name under which `Gpu.denied` lists that the throttle reasons could not be read."""

THROTTLE_FAULTS = frozenset(
    {"hw_slowdown", "hw_thermal_slowdown", "sw_thermal_slowdown", "hw_power_brake_slowdown"}
)
"""Reasons that mean too hot or too little power; caps and idling are normal operation."""

SEVERITY = {state: rank for rank, state in enumerate(GpuState)}
ACTION_RANK = {action: rank for rank, action in enumerate(GpuAction)}

RECOVERY_ACTIONS: dict[str, tuple[GpuState, GpuAction, str]] = {
    "gpu_reset": (GpuState.UNHEALTHY, GpuAction.DRAIN_AND_RESET, "reset the GPU"),
    "node_reboot": (GpuState.UNHEALTHY, GpuAction.DRAIN_AND_REBOOT, "reboot the node"),
    "system_reboot": (GpuState.UNHEALTHY, GpuAction.DRAIN_AND_REBOOT, "reboot the system"),
    "bus_reset": (GpuState.UNHEALTHY, GpuAction.DRAIN_AND_RESET, "reset its PCIe bus"),
    "drain_p2p": (
        GpuState.UNHEALTHY,
        GpuAction.RESTART_APPLICATION,
        "end the programs that use peer-to-peer traffic, then look again",
    ),
    "drain_and_reset": (
        GpuState.UNHEALTHY,
        GpuAction.DRAIN_AND_RESET,
        "it runs at reduced capacity: no new work, then reset",
    ),
    "recover_imex_domain": (
        GpuState.UNHEALTHY,
        GpuAction.DRAIN_AND_RESET,
        "recover the IMEX domain on all its nodes",
    ),
}
"""NVIDIA's recovery action -> verdict. `none` is not here; a value not listed is a reboot."""


@dataclass(frozen=True, slots=True)
class GpuHealthPolicy:
    """Thresholds of the rules; where NVIDIA publishes one, it is the default."""

    silent_reports: int = 3
    """Reports without a reading, one after the other, until the state is `unknown`."""
    report_interval_s: float = 15.0
    throttled_share: float = 0.2
    """Share of the readings at hand (this one and the earlier ones given) that may be throttled."""
    corrected_per_hour: float = 1000.0
    """Corrected ECC errors an hour that make a storm (a choice of this house)."""
    pages_retired_max: int = 60
    """NVIDIA replaces a GPU from this many retired pages on."""
    application_xid_s: float = 600.0
    """How long an application's Xid is worth mentioning."""
    start_grace_s: float = 60.0
    """A node that started this recently may not have read its GPUs yet; none is `lost`."""


DEFAULT_POLICY = GpuHealthPolicy()


class GpuFinding(NamedTuple):
    """What one rule found."""

    state: GpuState
    action: GpuAction
    reason: str


class HeldFault(NamedTuple):
    """A fault that was seen, with what proves later that the driver or machine began anew."""

    reason: str
    action: GpuAction
    boot_id: str | None = None
    driver_version: str | None = None
    energy_mj: int | None = None
    ecc_uncorrected_volatile: int | None = None
    ecc_corrected_volatile: int | None = None


class GpuVerdict(NamedTuple):
    """The health of one GPU; keep `held` and hand it to the next judgement."""

    gpu_uuid: str
    node_id: str
    region: str
    state: GpuState
    action: GpuAction
    reasons: tuple[str, ...]
    """Worst first; empty when nothing was found."""
    held: HeldFault | None = None

    @property
    def takes_new_work(self) -> bool:
        """Whether the scheduler may place work on it."""
        return self.state in {GpuState.HEALTHY, GpuState.DEGRADED}


def has_reading(gpu: Gpu) -> bool:
    """Tell whether the driver gave at least one measured value."""
    return any(
        value is not None
        for value in (
            gpu.memory_used_bytes,
            gpu.utilization_percent,
            gpu.temperature_c,
            gpu.power_w,
            gpu.energy_mj,
            gpu.ecc_uncorrected_volatile,
            gpu.ecc_corrected_volatile,
            gpu.rows_remapped_uncorrected,
            gpu.row_remap_pending,
            gpu.row_remap_failed,
            gpu.pages_retired,
            gpu.pcie_width,
            gpu.recovery_action,
        )
    )


def _recovery(gpu: Gpu) -> Iterator[GpuFinding]:
    wanted = gpu.recovery_action
    if wanted is None or wanted == "none":
        return
    state, action, words = RECOVERY_ACTIONS.get(
        wanted,
        (GpuState.UNHEALTHY, GpuAction.DRAIN_AND_REBOOT, "an action this version does not know"),
    )
    yield GpuFinding(state, action, f"the driver asks for {wanted}: {words}")


def _xids(gpu: Gpu, policy: GpuHealthPolicy) -> Iterator[GpuFinding]:
    last = () if gpu.xid_last is None else (gpu.xid_last,)
    for code in dict.fromkeys((*gpu.xids, *last)):
        advice = xid_advice(code)
        if advice.state is GpuState.HEALTHY and not _is_recent(gpu, code, policy):
            continue
        if advice.state is GpuState.HEALTHY and advice.action is GpuAction.NONE:
            continue
        source = "application error, " if advice.is_application else ""
        yield GpuFinding(advice.state, advice.action, f"Xid {code}: {source}{advice.name}")


def _is_recent(gpu: Gpu, code: int, policy: GpuHealthPolicy) -> bool:
    """Tell whether `code` is the last Xid and young enough to be worth a word."""
    if code != gpu.xid_last:
        return False
    if gpu.xid_at is None or gpu.observed_at is None:
        return True
    return (gpu.observed_at - gpu.xid_at).total_seconds() <= policy.application_xid_s


def _memory(gpu: Gpu, policy: GpuHealthPolicy) -> Iterator[GpuFinding]:
    """Judge the ECC counters, remapped rows and retired pages.

    The volatile counter starts at 0 when the driver loads, so any value above 0 is an increase
    since then; no earlier record is needed.
    """
    if gpu.ecc_uncorrected_volatile:
        reason = f"{gpu.ecc_uncorrected_volatile} uncorrected ECC errors since the driver loaded"
        yield GpuFinding(GpuState.UNHEALTHY, GpuAction.DRAIN_AND_RESET, reason)
    if gpu.row_remap_failed:
        yield GpuFinding(
            GpuState.UNHEALTHY, GpuAction.REPLACE, "row remapping failed: no spare rows are left"
        )
    if gpu.row_remap_pending:
        yield GpuFinding(
            GpuState.DEGRADED, GpuAction.RESET_WHEN_IDLE, "a row remap waits for the next reset"
        )
    if gpu.pages_retired_pending:
        yield GpuFinding(
            GpuState.DEGRADED, GpuAction.RESET_WHEN_IDLE, "a page retirement waits for a reset"
        )
    if gpu.pages_retired is not None and gpu.pages_retired >= policy.pages_retired_max:
        reason = f"{gpu.pages_retired} retired pages, replaced from {policy.pages_retired_max} on"
        yield GpuFinding(GpuState.DEGRADED, GpuAction.REPLACE, reason)


def _link(gpu: Gpu) -> Iterator[GpuFinding]:
    if gpu.pcie_width is None or gpu.pcie_width_max is None:
        return
    if gpu.pcie_width < gpu.pcie_width_max:
        yield GpuFinding(
            GpuState.DEGRADED,
            GpuAction.RESET_WHEN_IDLE,
            f"PCIe width is x{gpu.pcie_width} of x{gpu.pcie_width_max}",
        )


def _throttling(readings: Sequence[Gpu], policy: GpuHealthPolicy) -> Iterator[GpuFinding]:
    known = [one for one in readings if has_reading(one) and CLOCK_CALL not in one.denied]
    throttled = [one for one in known if not THROTTLE_FAULTS.isdisjoint(one.throttle_reasons)]
    if not throttled or len(throttled) < policy.throttled_share * len(known):
        return
    names = sorted(THROTTLE_FAULTS.intersection(throttled[-1].throttle_reasons))
    yield GpuFinding(
        GpuState.DEGRADED,
        GpuAction.NONE,
        f"clocks held down by {', '.join(names)} in {len(throttled)} of {len(known)} readings",
    )


def _corrected_storm(readings: Sequence[Gpu], policy: GpuHealthPolicy) -> Iterator[GpuFinding]:
    counted = [
        (one.observed_at, one.ecc_corrected_volatile)
        for one in readings
        if one.observed_at is not None and one.ecc_corrected_volatile is not None
    ]
    if len(counted) < 2:
        return
    (since, before), (until, after) = counted[-2], counted[-1]
    elapsed_s = (until - since).total_seconds()
    if elapsed_s <= 0 or after <= before:
        return
    per_hour = (after - before) * 3600 / elapsed_s
    if per_hour > policy.corrected_per_hour:
        reason = f"{after - before} corrected ECC errors in {elapsed_s:.0f} s"
        yield GpuFinding(GpuState.DEGRADED, GpuAction.NONE, reason)


def _silence(
    readings: Sequence[Gpu], now: datetime | None, policy: GpuHealthPolicy
) -> Iterator[GpuFinding]:
    observed_at = readings[-1].observed_at
    if now is not None and observed_at is not None:
        age_s = (now - observed_at).total_seconds()
        if age_s > policy.silent_reports * policy.report_interval_s:
            reason = f"the last report is {age_s:.0f} s old"
            yield GpuFinding(GpuState.UNKNOWN, GpuAction.NONE, reason)
            return
    newest = readings[-policy.silent_reports :]
    enough = len(newest) >= policy.silent_reports or not any(map(has_reading, readings))
    if enough and not any(map(has_reading, newest)):
        why = f" (denied: {', '.join(readings[-1].denied)})" if readings[-1].denied else ""
        reason = f"no readings in {len(newest)} report{'s' if len(newest) > 1 else ''}{why}"
        yield GpuFinding(GpuState.UNKNOWN, GpuAction.NONE, reason)


def _findings(
    readings: Sequence[Gpu], now: datetime | None, policy: GpuHealthPolicy
) -> Iterator[GpuFinding]:
    gpu = readings[-1]
    if gpu.lost:
        reason = "the driver has lost the GPU (fallen off the bus)"
        yield GpuFinding(GpuState.LOST, GpuAction.DRAIN_AND_REBOOT, reason)
    # A report without readings does not undo what the last one with readings showed.
    judged = gpu if has_reading(gpu) else next(filter(has_reading, reversed(readings)), gpu)
    for one in (gpu,) if judged is gpu else (gpu, judged):
        yield from _recovery(one)
        yield from _xids(one, policy)
        yield from _memory(one, policy)
        yield from _link(one)
    yield from _throttling(readings, policy)
    yield from _corrected_storm(readings, policy)
    yield from _silence(readings, now, policy)


def _went_back(before: int | None, after: int | None) -> bool:
    return before is not None and after is not None and after < before


def _differs(before: str | None, after: str | None) -> bool:
    return before is not None and after is not None and before != after


def is_cleared(held: HeldFault, gpu: Gpu) -> bool:
    """Tell whether the driver was reloaded, or the machine restarted, after a fault was held.

    A new kernel boot id or driver version says so directly. The energy counter starts at 0 with
    the driver, so one that went back says so too (a reset of the one GPU cannot be told from a
    reload by it, and is just as good). GPUs without that counter are judged by the volatile ECC
    counters, which `nvidia-smi --reset-ecc-errors` can also set back: where there is an energy
    counter they prove nothing. Nor does a counter that is absent.
    """
    if _differs(held.boot_id, gpu.boot_id) or _differs(held.driver_version, gpu.driver_version):
        return True
    if held.energy_mj is not None or gpu.energy_mj is not None:
        return _went_back(held.energy_mj, gpu.energy_mj)
    return _went_back(held.ecc_uncorrected_volatile, gpu.ecc_uncorrected_volatile) or _went_back(
        held.ecc_corrected_volatile, gpu.ecc_corrected_volatile
    )


def _hold_fault(gpu: Gpu, grave: Sequence[GpuFinding], held: HeldFault | None) -> HeldFault | None:
    """Keep the first reason, the most disruptive action and the newest counters of a fault.

    Args:
        gpu: the record in which it was seen, or is still held.
        grave: what makes the GPU unhealthy or lost, worst first; nothing is held when empty.
        held: what was held before.
    """
    if not grave:
        return None
    action = max((one.action for one in grave), key=ACTION_RANK.__getitem__)
    first = held or HeldFault(grave[0].reason, action, gpu.boot_id, gpu.driver_version)
    uncorrected, corrected = gpu.ecc_uncorrected_volatile, gpu.ecc_corrected_volatile
    return HeldFault(
        reason=first.reason,
        action=max(first.action, action, key=ACTION_RANK.__getitem__),
        boot_id=first.boot_id or gpu.boot_id,
        driver_version=first.driver_version or gpu.driver_version,
        energy_mj=first.energy_mj if gpu.energy_mj is None else gpu.energy_mj,
        ecc_uncorrected_volatile=(
            first.ecc_uncorrected_volatile if uncorrected is None else uncorrected
        ),
        ecc_corrected_volatile=first.ecc_corrected_volatile if corrected is None else corrected,
    )


def _held_finding(held: HeldFault, found: Sequence[GpuFinding]) -> Iterator[GpuFinding]:
    """Repeat a held fault unless its own signs are still there and say as much."""
    if any(
        one.reason == held.reason and ACTION_RANK[one.action] >= ACTION_RANK[held.action]
        for one in found
    ):
        return
    reason = f"held until the driver is reloaded or the machine restarted: {held.reason}"
    yield GpuFinding(GpuState.UNHEALTHY, held.action, reason)


def classify_gpu(
    gpu: Gpu,
    previous: Sequence[Gpu] = (),
    held: HeldFault | None = None,
    *,
    now: datetime | None = None,
    silent: bool = False,
    policy: GpuHealthPolicy = DEFAULT_POLICY,
) -> GpuVerdict:
    """Judge one GPU by its newest record.

    Args:
        gpu: the newest record.
        previous: earlier records of the same GPU, oldest first; they give rates, the share of
            throttled readings and the number of silent reports. May be empty.
        held: `GpuVerdict.held` of the judgement before. None forgets a fault: that is how an
            operator who has repaired the GPU otherwise says so.
        now: the moment of judgement, to notice that reports have stopped; None: not judged.
        silent: its node does not report any more, so the record must not be believed.
        policy: thresholds.

    Returns:
        State, action and reasons, worst first. `held` is set for as long as the GPU must stay
        `unhealthy` although the signs of its fault may have gone.
    """
    if held is not None and is_cleared(held, gpu):
        held, previous = None, ()
    found = list(_findings((*previous, gpu), now, policy))
    if silent:
        reason = f"node {gpu.node_id} is silent"
        found.append(GpuFinding(GpuState.UNKNOWN, GpuAction.NONE, reason))
    if held is not None:
        found.extend(_held_finding(held, found))
    if not found:
        return GpuVerdict(
            gpu.gpu_uuid, gpu.node_id, gpu.region, GpuState.HEALTHY, GpuAction.NONE, ()
        )
    found.sort(key=lambda one: (-SEVERITY[one.state], -ACTION_RANK[one.action]))
    grave = [one for one in found if SEVERITY[one.state] >= SEVERITY[GpuState.UNHEALTHY]]
    return GpuVerdict(
        gpu_uuid=gpu.gpu_uuid,
        node_id=gpu.node_id,
        region=gpu.region,
        state=found[0].state,
        action=max((one.action for one in found), key=ACTION_RANK.__getitem__),
        reasons=tuple(dict.fromkeys(one.reason for one in found)),
        held=_hold_fault(gpu, grave, held),
    )
