"""Memory of the GPU models that recorded clusters name.

Source: the numbers that the drivers of that very cluster reported, as the trace's authors list them
in their scheduler simulator (github.com/hkust-adsl/kubernetes-scheduler-simulator,
`MapGpuTypeMemoryMiB`, bytes): a little less than the data sheets' 16, 24 and 32 GB, because the
driver keeps some. `G1`, `G2` and `G3` are "undisclosed internal GPU codes" (README of
alibaba/clusterdata, cluster-trace-gpu-v2023), so their memory is None.
"""

from __future__ import annotations

GPU_MEMORY_BYTES: dict[str, int | None] = {
    "P4": 7_980_711_936,
    "2080": 11_554_258_944,  # GeForce RTX 2080 Ti
    "1080": 11_720_982_528,  # GeForce GTX 1080 Ti
    "M40": 12_004_098_048,
    "T4": 15_842_934_784,
    "V100M16": 16_944_988_160,  # V100 SXM2 16 GB
    "P100": 17_070_817_280,  # P100 PCIe 16 GB
    "A10": 23_835_181_056,
    "3090": 25_446_842_368,
    "V100M32": 34_089_205_760,  # V100 SXM2 32 GB
    "G1": None,
    "G2": None,
    "G3": None,
}
"""Known models; None: known, but its memory is not disclosed."""
