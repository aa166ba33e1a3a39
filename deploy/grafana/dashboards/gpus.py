"""GPUs under the names of NVIDIA's dcgm-exporter."""

from __future__ import annotations

from dashboards.shape import Dashboard, Panel

GPUS = Dashboard(
    "gpus",
    "Stateroom / GPUs",
    (
        Panel(
            "Utilization",
            [("avg by (Hostname, gpu) (DCGM_FI_DEV_GPU_UTIL)", "{{Hostname}} {{gpu}}")],
            "percent",
        ),
        Panel(
            "Memory in use",
            [
                (
                    "DCGM_FI_DEV_FB_USED / (DCGM_FI_DEV_FB_USED + DCGM_FI_DEV_FB_FREE)",
                    "{{Hostname}} {{gpu}}",
                )
            ],
            "percentunit",
            thresholds=(0.9, 0.97),
        ),
        Panel(
            "Temperature",
            [("max by (Hostname, gpu) (DCGM_FI_DEV_GPU_TEMP)", "{{Hostname}} {{gpu}}")],
            "celsius",
            thresholds=(80, 85),
        ),
        Panel(
            "Power",
            [("sum by (Hostname) (DCGM_FI_DEV_POWER_USAGE)", "{{Hostname}}")],
            "watt",
        ),
        Panel(
            "Last Xid error",
            [("max by (Hostname, gpu) (DCGM_FI_DEV_XID_ERRORS) > 0", "{{Hostname}} {{gpu}}")],
            kind="table",
        ),
        Panel(
            "Uncorrectable memory errors, per hour",
            [
                (
                    "sum by (Hostname, gpu) (increase(DCGM_FI_DEV_ECC_DBE_VOL_TOTAL[1h]))",
                    "{{Hostname}} {{gpu}}",
                )
            ],
            thresholds=(1, 1),
        ),
        Panel(
            "GPUs that the driver has lost",
            [("sum(stateroom_gpu_lost) or vector(0)", "")],
            kind="stat",
            thresholds=(1, 1),
        ),
        Panel(
            "GPUs that must be replaced",
            [("sum(DCGM_FI_DEV_ROW_REMAP_FAILURE) or vector(0)", "")],
            kind="stat",
            thresholds=(1, 1),
        ),
    ),
)
