"""Which library of this process can compute on a GPU, and for each that cannot, why.

Three are asked, once per process and only when somebody wants to know: the driver (NVML), torch
and faiss. Importing faiss-gpu raises RuntimeError or PackageNotFoundError when its CUDA wheels are
missing, and torch OSError when a library of CUDA does not load, so every exception of an import is
an answer, not only ImportError.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from fleet.errors import InvalidInputError, PermanentError
from resources.gpu.nvml import NvmlGpuProbe

LOG = logging.getLogger(__name__)

POLICIES = ("auto", "require", "off")

NVML_TIMEOUT_S = 10.0
"""Opening the driver of an idle machine with 8 GPUs takes seconds; this is asked once."""


class Finding(NamedTuple):
    """What one library sees."""

    gpus: int
    detail: str
    """What it sees in words, or why it sees nothing."""


def find_nvml() -> Finding:
    """Ask the driver."""
    with NvmlGpuProbe(read_timeout_s=NVML_TIMEOUT_S, watch_xids=False) as probe:
        reading = probe.read("this-machine", "local", datetime.now(UTC))
    whole = [gpu for gpu in reading.gpus if gpu.parent_uuid is None]
    if reading.absent_reason:
        return Finding(0, reading.absent_reason)
    models = ", ".join(sorted({gpu.model or "unnamed model" for gpu in whole}))
    if not whole:
        return Finding(0, f"driver {reading.driver_version} answers, but has no GPU")
    return Finding(len(whole), f"{len(whole)} x {models}, driver {reading.driver_version}")


def find_torch() -> Finding:
    """Ask torch, if it is installed."""
    try:
        import torch  # type: ignore[import-not-found,unused-ignore]

        count = int(torch.cuda.device_count()) if torch.cuda.is_available() else 0
        version = f"torch {torch.__version__}"
    except Exception as error:  # noqa: BLE001 - see the module: any error means that it is absent
        return Finding(0, f"cannot be used ({type(error).__name__}: {error})")
    if count == 0:
        return Finding(0, f"{version} sees no CUDA device")
    return Finding(count, f"{count} CUDA device{'s' if count > 1 else ''}, {version}")


def find_faiss() -> Finding:
    """Ask faiss; its CPU build answers 0."""
    try:
        import faiss

        count = int(faiss.get_num_gpus())
        version = f"faiss {faiss.__version__}"
    except Exception as error:  # noqa: BLE001 - see the module: any error means that it is absent
        return Finding(0, f"cannot be used ({type(error).__name__}: {error})")
    if count == 0:
        return Finding(0, f"{version} is a build without GPU support, or sees no GPU")
    return Finding(count, f"{count} GPU{'s' if count > 1 else ''}, {version}")


FINDERS: dict[str, Callable[[], Finding]] = {
    "nvml": find_nvml,
    "torch": find_torch,
    "faiss": find_faiss,
}

_found: dict[str, Finding] = {}
_lock = threading.Lock()


def find_once() -> Mapping[str, Finding]:
    """Ask all libraries, the first time; later calls in this process get the same answers."""
    with _lock:
        if not _found:
            _found.update({name: find() for name, find in FINDERS.items()})
            LOG.info("GPU: %s", "; ".join(f"{name}: {one.detail}" for name, one in _found.items()))
        return dict(_found)


class GpuDevices:
    """The GPUs that ops may compute on, under a policy.

    `auto` uses a GPU where there is one, `require` refuses to begin without one, `off` never
    touches a driver.
    """

    def __init__(
        self, policy: str = "auto", find: Callable[[], Mapping[str, Finding]] = find_once
    ) -> None:
        """Check the policy; nothing is asked yet.

        Args:
            policy: `auto`, `require` or `off`.
            find: asks the libraries.

        Raises:
            InvalidInputError: there is no such policy.
        """
        if policy not in POLICIES:
            raise InvalidInputError("gpu.policy", policy, " | ".join(POLICIES))
        self.policy = policy
        self._find = find

    @property
    def findings(self) -> Mapping[str, Finding]:
        """Library -> what it sees; empty when the policy is `off`."""
        return {} if self.policy == "off" else self._find()

    @property
    def backend(self) -> str:
        """`faiss` (on the GPU), `torch` (on the GPU) or `cpu`; the first that sees a GPU."""
        findings = self.findings
        usable = (name for name in ("faiss", "torch") if name in findings and findings[name].gpus)
        return next(usable, "cpu")

    @property
    def reason(self) -> str:
        """Why this backend: the policy, and what the libraries say."""
        told = "; ".join(f"{name}: {one.detail}" for name, one in self.findings.items())
        return f"policy {self.policy}; {told or 'no GPU was asked'}"

    def check(self) -> None:
        """Hold the policy `require`.

        Raises:
            PermanentError: no library can compute on a GPU; the message says of each why.
        """
        if self.policy != "require" or self.backend != "cpu":
            return
        asked = "; ".join(f"{name}: {one.detail}" for name, one in self.findings.items())
        raise PermanentError(
            f"the GPU policy is `require`, but no library can compute on a GPU: {asked}",
            hint="Run on a machine with a GPU and torch or faiss-gpu, or set the policy to `auto`.",
        )

    def describe(self) -> dict[str, str]:
        """Policy, backend and what each library says, for the metadata of an asset."""
        described = {"gpu_policy": self.policy, "gpu_backend": self.backend}
        for name in FINDERS:
            finding = self.findings.get(name)
            described[f"gpu_{name}"] = finding.detail if finding else "not asked: the policy is off"
        return described
