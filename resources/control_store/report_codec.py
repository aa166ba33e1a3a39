"""Agents and GPUs of a node report as compact JSON, one text per node.

Agents are arrays in a fixed order of fields (100,000 of them are parsed for one status screen);
GPUs are objects without their nulls, so that a field added later reads as None.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from fleet.errors import InvalidInputError
from fleet.inventory import AgentPhase, Gpu
from fleet.reports import AgentReport
from resources.control_store.times import from_us, from_us_or_none, to_us, to_us_or_none

_PHASES = {str(phase): phase for phase in AgentPhase}
_GPU_TUPLES = frozenset({"throttle_reasons", "denied", "xids"})
_GPU_TIMES = ("observed_at", "xid_at")


def encode_agents(reports: Iterable[AgentReport]) -> str:
    """A JSON array with one array per agent, in the order of `AgentReport`'s fields."""
    return _dump(
        [
            (
                report.agent_id,
                report.epoch,
                report.phase,
                report.pid,
                to_us_or_none(report.started_at),
                to_us_or_none(report.heartbeat_at),
                report.restarts,
                report.cpu_percent,
                report.rss_bytes,
                report.reason,
            )
            for report in reports
        ]
    )


def decode_agents(text: str) -> dict[str, AgentReport]:
    """agent_id -> report, from what `encode_agents` wrote."""
    phases = _PHASES
    return {
        row[0]: AgentReport(
            row[0],
            row[1],
            phases[row[2]],
            row[3],
            None if row[4] is None else from_us(row[4]),
            None if row[5] is None else from_us(row[5]),
            row[6],
            row[7],
            row[8],
            row[9],
        )
        for row in json.loads(text)
    }


def encode_gpus(gpus: Iterable[Gpu]) -> str:
    """A JSON array with one object per GPU, without nulls."""
    return _dump([_gpu_fields(gpu) for gpu in gpus])


def _gpu_fields(gpu: Gpu) -> dict[str, Any]:
    fields = {name: value for name, value in gpu._asdict().items() if value is not None}
    fields.update({name: to_us(fields[name]) for name in _GPU_TIMES if name in fields})
    return fields


def decode_gpus(text: str) -> list[Gpu]:
    """GPUs in stored order; unknown fields of a newer writer are left out."""
    return [_gpu(fields) for fields in json.loads(text)]


def _gpu(fields: dict[str, Any]) -> Gpu:
    known = {name: value for name, value in fields.items() if name in Gpu._fields}
    for name in _GPU_TUPLES & known.keys():
        known[name] = tuple(known[name])
    known.update({name: from_us_or_none(known.get(name)) for name in _GPU_TIMES})
    return Gpu(**known)


def _dump(value: Any) -> str:
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise InvalidInputError(
            "report", str(error), "finite numbers; None for what was not measured"
        ) from error
