"""Readings of this machine for the node report; a reading that fails is None, never 0."""

from __future__ import annotations

import importlib
import json
import logging
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import psutil

from fleet.errors import InvalidInputError
from fleet.inventory import Gpu
from fleet.ports.gpu import GpuProbe
from resources.local.linux_processes import read_stat

_log = logging.getLogger(__name__)


class MachineReading(NamedTuple):
    """What a node report says of its machine."""

    cpu_percent: float | None
    """Since the reading before; of the whole machine."""
    memory_used_bytes: int | None
    disk_free_bytes: int | None


class HeartbeatFault(NamedTuple):
    """A delay ordered by `FaultInjector.slow_node`."""

    delay_s: float
    until: datetime


NO_FAULT = HeartbeatFault(0.0, datetime.min)  # noqa: DTZ901 - never compared: the delay is 0


def read_machine(folder: Path) -> MachineReading:
    """Read CPU, memory and the free space below `folder`; some 0.3 ms."""
    try:
        free = psutil.disk_usage(str(folder)).free
    except OSError:
        free = None
    return MachineReading(psutil.cpu_percent(interval=None), psutil.virtual_memory().used, free)


def load_gpu_probe(import_path: str) -> tuple[GpuProbe | None, str]:
    """Make the probe named in a spec.

    Returns:
        The probe, or None with the reason why there is none.

    Raises:
        InvalidInputError: it exists but cannot be made.
    """
    if not import_path:
        return None, "the node spec names no probe"
    module_name, _, class_name = import_path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        return None, f"{import_path}: {error}"
    try:
        probe: GpuProbe = getattr(module, class_name)()
    except (AttributeError, TypeError) as error:
        allowed = f"package.module:Class of a GpuProbe ({error})"
        raise InvalidInputError("gpu_probe", import_path, allowed) from error
    return probe, ""


def close_gpu_probe(probe: GpuProbe | None) -> None:
    """Let a probe that keeps the driver open give it up."""
    close = getattr(probe, "close", None)
    if close is not None:
        close()


def read_gpus(probe: GpuProbe | None, node_id: str, region: str, now: datetime) -> tuple[Gpu, ...]:
    """The GPUs as the probe sees them; empty without a probe."""
    return () if probe is None else tuple(probe.read(node_id, region, now).gpus)


def read_fault(path: Path, now: datetime) -> HeartbeatFault:
    """The delay in force for this node's heartbeats; `NO_FAULT` when there is none."""
    try:
        raw = json.loads(path.read_text())
        fault = HeartbeatFault(float(raw["delay_s"]), datetime.fromisoformat(raw["until"]))
    except FileNotFoundError:
        return NO_FAULT
    except (ValueError, KeyError, TypeError) as error:
        _log.warning("fault file %s is ignored: %s", path, error)
        return NO_FAULT
    return fault if now < fault.until else NO_FAULT


def own_cpu_s(pids: list[int]) -> float:
    """CPU time of some processes of this node, in seconds; those that are gone count 0."""
    return sum(stat.cpu_s for pid in pids if (stat := read_stat(pid)) is not None)
