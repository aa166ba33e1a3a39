"""What the probe reads survives the control store's report codec unchanged."""

from datetime import UTC, datetime, timedelta

import pytest

from fleet.inventory import Gpu
from resources.control_store.report_codec import decode_gpus, encode_gpus
from resources.gpu.nvml import NvmlGpuProbe
from tests.fakes.nvml import FakeGpu, FakeMig, FakeNvml

T0 = datetime(2026, 11, 21, 12, 0, 0, 123, tzinfo=UTC)


def _probed() -> list[Gpu]:
    lost = FakeGpu("GPU-b", calls_until_lost=6)
    fake = FakeNvml([FakeGpu("GPU-a", migs=[FakeMig("MIG-1")], clock_reasons=0x44), lost])
    with NvmlGpuProbe(fake, read_timeout_s=30.0, watch_xids=False) as probe:
        return probe.read("node-1", "r", T0).gpus


@pytest.mark.parametrize("xids", [(), (79, 45)])
def test_gpus_are_the_same_after_encoding_and_decoding(xids: tuple[int, ...]) -> None:
    """Times stay aware, tuples stay tuples, absent stays absent."""
    gpus = _probed()
    if xids:
        gpus[0] = gpus[0]._replace(
            xids=xids, xid_last=xids[-1], xid_at=T0 + timedelta(microseconds=7)
        )
    assert decode_gpus(encode_gpus(gpus)) == gpus
