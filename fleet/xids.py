"""The Xid catalogue: what each of the NVIDIA driver's error numbers asks of the operator.

An Xid is the number under which the driver reports a GPU error to the kernel log and to NVML
events. NVIDIA files each under a *resolution bucket* (its advice for the first response);
`BUCKETS` says what a bucket means for us, and `HOUSE_RULES` lists the numbers where we judge
otherwise, each with its reason. A number that is in neither is a warning, never ignored.

Source: NVIDIA, "Analyzing Xid Errors with the Xid Catalog" (`XID_SOURCE`), column "Resolution
Bucket (Immediate Action)", as of `XID_CATALOG_DATE`. The six application errors are those of
NVIDIA's k8s-device-plugin, internal/rm/health.go.
"""

from __future__ import annotations

from typing import NamedTuple

from fleet.inventory import GpuAction, GpuState

XID_SOURCE = "https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html"
XID_CATALOG_DATE = "2026-11-21"
"""Day on which this table was compiled; compare it with the source when a driver is upgraded."""


class XidAdvice(NamedTuple):
    """What one Xid says about the GPU that reported it."""

    code: int
    name: str
    bucket: str
    """NVIDIA's resolution bucket; empty where the catalogue gives none or has no such number."""
    state: GpuState
    """State that the Xid alone puts the GPU in."""
    action: GpuAction
    is_application: bool = False
    """True: caused by a program, not by the GPU, which stays healthy."""


BUCKETS: dict[str, tuple[GpuState, GpuAction]] = {
    "IGNORE": (GpuState.HEALTHY, GpuAction.NONE),
    "RESTART_APP": (GpuState.DEGRADED, GpuAction.RESTART_APPLICATION),
    "UPDATE_SWFW": (GpuState.DEGRADED, GpuAction.NONE),
    "CHECK_UVM": (GpuState.DEGRADED, GpuAction.NONE),
    "XID_154": (GpuState.DEGRADED, GpuAction.NONE),
    "": (GpuState.DEGRADED, GpuAction.NONE),
    "RESET_GPU": (GpuState.UNHEALTHY, GpuAction.DRAIN_AND_RESET),
    "WORKFLOW_XID_45": (GpuState.DEGRADED, GpuAction.RESTART_APPLICATION),
    "WORKFLOW_XID_48": (GpuState.UNHEALTHY, GpuAction.DRAIN_AND_RESET),
    "WORKFLOW_NVLINK_ERR": (GpuState.UNHEALTHY, GpuAction.DRAIN_AND_RESET),
    "WORKFLOW_NVLINK5_ERR": (GpuState.UNHEALTHY, GpuAction.DRAIN_AND_RESET),
    "RESTART_VM": (GpuState.UNHEALTHY, GpuAction.DRAIN_AND_REBOOT),
    "RESTART_BM": (GpuState.UNHEALTHY, GpuAction.DRAIN_AND_REBOOT),
    "CHECK_MECHANICALS": (GpuState.UNHEALTHY, GpuAction.DRAIN_AND_REBOOT),
    "CONTACT_SUPPORT": (GpuState.UNHEALTHY, GpuAction.REPLACE),
}
"""Bucket -> what it means here. Buckets that NVIDIA calls a workflow begin with a reset."""

HOUSE_RULES: dict[int, tuple[GpuState, GpuAction]] = {
    # Application errors: a faulty program must not take a GPU out of service. NVIDIA's catalogue
    # asks for a reset after 109, its own device plugin does not; a GPU that really hangs also
    # raises 119, 120 or the recovery action, which do count.
    **dict.fromkeys((13, 31, 43, 45, 68, 109), (GpuState.HEALTHY, GpuAction.RESTART_APPLICATION)),
    # A row or page was set aside: nothing is wrong yet, the repair takes effect at the next reset.
    63: (GpuState.DEGRADED, GpuAction.RESET_WHEN_IDLE),
    # There was no spare row left to repair with: resets do not help.
    64: (GpuState.UNHEALTHY, GpuAction.REPLACE),
    # Many corrected errors: harmless alone, but they announce 48 and 64, so they are shown.
    92: (GpuState.DEGRADED, GpuAction.NONE),
}
"""Numbers that are judged otherwise than by their bucket."""

APPLICATION_XIDS = frozenset({13, 31, 43, 45, 68, 109})

_NAMES: dict[str, dict[int, str]] = {
    "IGNORE": {
        37: "FECS unimplemented firmware method",
        38: "FECS watchdog timeout",
        43: "GPU stopped processing",
        44: "fault during context switch",
        63: "GPU memory remapping event",
        66: "FECS illegal register access",
        67: "FECS verification violation",
        92: "high single-bit ECC error rate",
        93: "InfoROM erase limit exceeded",
        106: "SMBPBI test message",
        107: "SMBPBI silent test message",
        108: "NVLink remote translation error",
        121: "C2C link error",
        137: "NVLink privilege error",
        141: "fast path error",
        152: "DLA SMMU error",
        153: "DLA timeout",
        157: "resource retirement failure",
        160: "channel retirement event",
        161: "channel retirement failure",
    },
    "RESTART_APP": {
        8: "GPU stopped processing (idle timeout)",
        13: "graphics engine exception",
        31: "GPU memory page fault",
        32: "corrupted push buffer stream",
        60: "video processor exception",
        68: "NVDEC0 exception",
        69: "graphics engine class error",
        80: "push buffer checksum mismatch",
        82: "NVJPG0 error",
        83: "NVDEC1 error",
        84: "NVDEC2 error",
        86: "OFA0 error",
        88: "NVDEC3 error",
        89: "NVDEC4 error",
        94: "contained memory error",
        139: "OFA1 error",
        **{code: f"copy engine {code - 39} error" for code in (39, 40, 41)},
        **{code: f"copy engine {code - 67} error" for code in (70, 71, 72)},
        **{code: f"copy engine {code - 69} error" for code in (75, 76, 77)},
        85: "copy engine 9 error",
        **{code: f"NVDEC{code - 91} error" for code in (96, 97, 98)},
        **{code: f"NVJPG{code - 98} error" for code in range(99, 106)},
        **{code: f"copy engine {code - 116} error" for code in range(126, 136)},
    },
    "RESET_GPU": {
        46: "GPU stopped processing",
        62: "internal micro-controller halt",
        64: "GPU memory remapping failure",
        95: "uncontained memory error",
        109: "context switch timeout",
        110: "security fault",
        119: "GSP RPC timeout",
        120: "GSP error",
        136: "link training failed",
        140: "unrecovered ECC error",
        143: "GPU initialization error",
        155: "NVLink error defined by software",
        156: "resource retirement event",
        158: "GPU fatal timeout",
    },
    "WORKFLOW_XID_45": {45: "preemptive cleanup, due to previous errors"},
    "WORKFLOW_XID_48": {48: "double-bit ECC error"},
    "WORKFLOW_NVLINK_ERR": {74: "NVLink error"},
    "WORKFLOW_NVLINK5_ERR": {
        144: "NVLink SAW error",
        145: "NVLink RLW error",
        146: "NVLink TLW error",
        147: "NVLink TREX error",
        148: "NVLink NVLPW control error",
        149: "NVLink NETIR error",
        150: "NVLink MSE error",
    },
    "RESTART_BM": {79: "GPU has fallen off the bus"},
    "RESTART_VM": {151: "key rotation error"},
    "CHECK_MECHANICALS": {54: "auxiliary power is not connected"},
    "CONTACT_SUPPORT": {142: "NVENC3 error"},
    "UPDATE_SWFW": {78: "vGPU start error"},
    "CHECK_UVM": {159: "CHI non-data error"},
    "XID_154": {154: "GPU recovery action changed"},
    "": {
        162: "power smoothing engaged again",
        163: "power smoothing disengaged",
        164: "power smoothing: low lifetime",
        165: "power smoothing: no lifetime left",
        166: "NVLink secure crypto error",
        167: "PCIe fatal timeout",
        168: "reduced GPU memory capacity",
        169: "SEC2 halt",
        170: "NVLink security error",
        171: "uncorrectable DRAM error",
        172: "uncorrectable SRAM error",
    },
}

XID_CATALOG: dict[int, XidAdvice] = {
    code: XidAdvice(
        code, name, bucket, *HOUSE_RULES.get(code, BUCKETS[bucket]), code in APPLICATION_XIDS
    )
    for bucket, names in _NAMES.items()
    for code, name in names.items()
}
"""Xid -> advice, for every number of the catalogue that is in use."""


def xid_advice(code: int) -> XidAdvice:
    """Look an Xid up; one that the catalogue does not hold is a warning.

    Args:
        code: the number that the driver reported.

    Returns:
        Its advice; `degraded` and no action for an unknown number, because a newer driver may
        report errors that nobody here has heard of.
    """
    found = XID_CATALOG.get(code)
    if found is not None:
        return found
    return XidAdvice(code, "not in the catalogue", "", *BUCKETS[""])
