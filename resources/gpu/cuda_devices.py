"""Which GPUs CUDA shows this process, by UUID, in the order in which libraries number them.

NVML sees every GPU of the machine in the order of the bus; CUDA sees those that
`CUDA_VISIBLE_DEVICES` leaves, the fastest first. Leases are made out to UUIDs, torch and FAISS want
numbers, so the driver's own library is asked; no library of Python knows both.
"""

from __future__ import annotations

import ctypes
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

from fleet.errors import PermanentError

LIBRARY = "libcuda.so.1"


class CudaDevice(NamedTuple):
    """A GPU, or a slice of one (MIG), that this process may compute on."""

    device: int
    """Its number for torch and FAISS."""
    uuid_digits: str
    """Of its UUID, as 8-4-4-4-12 hexadecimal digits; NVML writes `GPU-` or `MIG-` before them."""


def load_cuda() -> Any:
    """The driver's library.

    Raises:
        OSError: there is none.
    """
    return ctypes.CDLL(LIBRARY)


def visible_devices(load: Callable[[], Any] = load_cuda) -> list[CudaDevice]:
    """The devices of this process, by number.

    A process that has asked must not fork and compute in the child: CUDA does not survive it.

    Args:
        load: gives the driver's library.

    Raises:
        PermanentError: there is no library, or it does not answer; the message has its number.
    """
    try:
        library = load()
    except OSError as error:
        raise PermanentError(
            f"CUDA's driver library {LIBRARY} cannot be loaded ({error})",
            hint="Install NVIDIA's driver, or give the container its devices.",
        ) from error
    _call(library, "cuInit", 0)
    count = ctypes.c_int()
    _call(library, "cuDeviceGetCount", ctypes.byref(count))
    return [CudaDevice(device, _uuid_of(library, device)) for device in range(count.value)]


def _uuid_of(library: Any, number: int) -> str:
    device = ctypes.c_int()
    _call(library, "cuDeviceGet", ctypes.byref(device), number)
    digits = (ctypes.c_ubyte * 16)()
    # The second form tells a slice from the GPU that it is of; drivers before 11.4 lack it.
    name = "cuDeviceGetUuid_v2" if hasattr(library, "cuDeviceGetUuid_v2") else "cuDeviceGetUuid"
    _call(library, name, ctypes.byref(digits), device)
    return str(uuid.UUID(bytes=bytes(digits)))


def _call(library: Any, name: str, *arguments: Any) -> None:
    code = getattr(library, name)(*arguments)
    if code:
        raise PermanentError(
            f"CUDA's {name} failed with error {code}",
            hint="`nvidia-smi` and `dmesg` say what the driver has; CUDA's manual lists the error.",
        )
