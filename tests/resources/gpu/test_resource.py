"""The GPU resource: asked once, lazily, with a reason for each library that cannot compute."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType, SimpleNamespace

import dagster as dg
import pytest
from dagster._core.errors import DagsterResourceFunctionError

from fleet.errors import InvalidInputError, PermanentError
from resources.gpu import devices
from resources.gpu.devices import Finding, GpuDevices, find_faiss, find_nvml, find_once, find_torch
from resources.gpu.resource import GpuResource
from tests.fakes.nvml import FakeGpu, FakeMig, FakeNvml

NOTHING = {
    "nvml": Finding(0, "no driver"),
    "torch": Finding(0, "not installed"),
    "faiss": Finding(0, "a CPU build"),
}


def _never() -> Mapping[str, Finding]:
    raise AssertionError("a driver was touched")


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test is a process that has not asked yet."""
    monkeypatch.setattr(devices, "_found", {})
    return


def test_off_never_touches_a_driver() -> None:
    """Backend, findings and description come without asking anybody."""
    off = GpuDevices("off", _never)
    off.check()
    assert (off.backend, off.findings) == ("cpu", {})
    assert off.describe() == {
        "gpu_policy": "off",
        "gpu_backend": "cpu",
        "gpu_nvml": "not asked: the policy is off",
        "gpu_torch": "not asked: the policy is off",
        "gpu_faiss": "not asked: the policy is off",
    }


def test_auto_asks_nobody_before_it_is_used() -> None:
    """Making the resource and holding its policy costs nothing."""
    GpuDevices("auto", _never).check()


@pytest.mark.parametrize(
    ("torch", "faiss", "backend"),
    [(0, 0, "cpu"), (1, 0, "torch"), (0, 1, "faiss"), (2, 2, "faiss")],
)
def test_the_backend_is_the_best_library_that_sees_a_gpu(
    torch: int, faiss: int, backend: str
) -> None:
    """The driver alone computes nothing; faiss on the GPU goes before torch."""
    found = {
        "nvml": Finding(8, "8 x H200"),
        "torch": Finding(torch, ""),
        "faiss": Finding(faiss, ""),
    }
    assert GpuDevices("auto", lambda: found).backend == backend
    assert GpuDevices("auto", lambda: found).describe()["gpu_backend"] == backend


def test_require_without_a_gpu_says_of_each_library_why() -> None:
    """The operator reads what was asked and what to do."""
    with pytest.raises(PermanentError) as caught:
        GpuDevices("require", lambda: NOTHING).check()
    assert str(caught.value) == (
        "the GPU policy is `require`, but no library can compute on a GPU: "
        "nvml: no driver; torch: not installed; faiss: a CPU build"
    )
    assert "set the policy to `auto`" in caught.value.hint


def test_require_with_a_gpu_is_content() -> None:
    """One library that can compute is enough."""
    GpuDevices("require", lambda: {**NOTHING, "torch": Finding(1, "1 CUDA device")}).check()


def test_an_unknown_policy_is_refused_by_name() -> None:
    """Field, value and what is allowed."""
    with pytest.raises(InvalidInputError, match=r"gpu.policy: 'always' .* auto \| require \| off"):
        GpuDevices("always")


def test_all_libraries_are_asked_once_per_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing torch takes seconds; opening a driver too."""
    asked: list[str] = []

    def ask(name: str) -> Finding:
        asked.append(name)
        return Finding(0, name)

    finders = {name: (lambda name=name: ask(name)) for name in ("nvml", "torch", "faiss")}
    monkeypatch.setattr(devices, "FINDERS", finders)
    first = GpuDevices("auto").describe()
    assert GpuDevices("auto").describe() == first
    assert asked == ["nvml", "torch", "faiss"]


# The three libraries


def _torch(count: int, *, available: bool = True) -> ModuleType:
    module = ModuleType("torch")
    module.__dict__["__version__"] = "2.11.0"
    module.__dict__["cuda"] = SimpleNamespace(
        is_available=lambda: available, device_count=lambda: count
    )
    return module


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (_torch(1), Finding(1, "1 CUDA device, torch 2.11.0")),
        (_torch(8), Finding(8, "8 CUDA devices, torch 2.11.0")),
        (_torch(8, available=False), Finding(0, "torch 2.11.0 sees no CUDA device")),
    ],
)
def test_torch_counts_its_cuda_devices(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, expected: Finding
) -> None:
    """Devices count only when CUDA is available."""
    monkeypatch.setitem(sys.modules, "torch", module)
    assert find_torch() == expected


def test_torch_that_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The import's own words are the reason."""
    monkeypatch.setitem(sys.modules, "torch", None)
    finding = find_torch()
    assert finding.gpus == 0
    assert finding.detail.startswith("cannot be used (ModuleNotFoundError: ")


class _Exploding(ModuleType):
    """A module whose use raises what faiss-gpu raises without its CUDA wheels."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError("faiss-gpu installed but nvidia-cuda-runtime-cu12 is missing")


def test_any_error_of_an_import_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """faiss-gpu raises RuntimeError, not ImportError."""
    monkeypatch.setitem(sys.modules, "faiss", _Exploding("faiss"))
    assert find_faiss() == Finding(
        0,
        "cannot be used (RuntimeError: "
        "faiss-gpu installed but nvidia-cuda-runtime-cu12 is missing)",
    )


@pytest.mark.parametrize(
    ("count", "detail"),
    [
        (0, "faiss 1.15.1 is a build without GPU support, or sees no GPU"),
        (1, "1 GPU, faiss 1.15.1"),
        (2, "2 GPUs, faiss 1.15.1"),
    ],
)
def test_faiss_counts_its_gpus(monkeypatch: pytest.MonkeyPatch, count: int, detail: str) -> None:
    """Its CPU build answers 0."""
    module = ModuleType("faiss")
    module.__dict__.update(__version__="1.15.1", get_num_gpus=lambda: count)
    monkeypatch.setitem(sys.modules, "faiss", module)
    assert find_faiss() == Finding(count, detail)


def test_nvml_counts_whole_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """MIG instances are parts, not GPUs; the driver is closed again."""
    fake = FakeNvml([FakeGpu("GPU-a", migs=[FakeMig("MIG-1")]), FakeGpu("GPU-b")])
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    assert find_nvml() == Finding(2, "2 x NVIDIA H200, driver 580.65.06")
    assert not fake.is_open
    fake.gpus.clear()
    assert find_nvml() == Finding(0, "driver 580.65.06 answers, but has no GPU")
    fake.init_error = 18
    assert "different versions" in find_nvml().detail


# In Dagster


def test_an_op_gets_the_plain_object_and_its_description() -> None:
    """What `gpu_inventory` writes into its metadata."""

    @dg.op
    def describe_op(gpu: dg.ResourceParam[GpuDevices]) -> dict[str, str]:
        return gpu.describe()

    @dg.job(resource_defs={"gpu": GpuResource(policy="off")})
    def describe_job() -> None:
        describe_op()

    result = describe_job.execute_in_process()
    assert result.output_for_node("describe_op")["gpu_policy"] == "off"


def test_require_stops_a_run_before_its_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resource refuses, with the reasons of every library."""
    monkeypatch.setattr(devices, "FINDERS", {"torch": lambda: Finding(0, "not installed")})
    with (
        pytest.raises(DagsterResourceFunctionError) as caught,
        dg.build_resources({"gpu": GpuResource(policy="require")}),
    ):
        pytest.fail("the run began")
    assert isinstance(caught.value.user_exception, PermanentError)
    assert "torch: not installed" in str(caught.value.user_exception)


def test_importing_the_resource_loads_neither_driver_nor_library() -> None:
    """Definitions load fast and touch no device."""
    program = (
        "import sys; import resources.gpu.resource; "
        "print(sorted({'pynvml', 'torch', 'faiss'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_the_probe_loads_no_dagster() -> None:
    """The node's supervisor and the benchmark use it without."""
    program = "import sys; import resources.gpu.nvml; print('dagster' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "False"


def test_this_very_process_can_be_asked() -> None:
    """Whatever machine runs the tests: three answers, each with words."""
    findings = find_once()
    assert set(findings) == {"nvml", "torch", "faiss"}
    assert all(one.detail and one.gpus >= 0 for one in findings.values())
