"""The two files of a node: its spec (written by who starts it) and its run file (by itself).

Both are JSON objects, written atomically and readable by their owner only: the spec holds the
store's URL and perhaps a registry's token, which may be secrets, and the run file the token that
`POST /evict` asks for. `docs/formats/node.md` describes every field.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from fleet.errors import InvalidInputError, NotFoundError
from fleet.inventory import NodePhase
from fleet.names import validate_name
from fleet.probing import EMBEDDED_PROBING, ProbePolicy
from fleet.reports import NodeDeclaration
from fleet.service_health import EMBEDDED_SERVICES
from fleet.traffic_declaration import (
    CONTROL_STORE_REGISTRY,
    RegistryDeclaration,
    RegistryKind,
)
from fleet.vectors.declaration import VectorDeclaration
from fleet.vectors.declaration_json import declaration_document, read_declaration
from resources.local.linux_processes import ProcessIdentity

SPEC_VERSION = 1
"""Version of the spec file that this supervisor reads."""

SOCKET_PATH_MAX_BYTES = 107
"""Longest path of a Unix socket (`sun_path` of unix(7), less its final zero byte)."""

DEFAULT_GPU_PROBE = "resources.gpu.nvml:NvmlGpuProbe"
"""Import path of the probe of a real machine. Give it to one node of a machine only, or each of
its nodes reports the same GPUs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpec:
    """Everything a supervisor is told; it reads neither the environment nor the settings."""

    node: NodeDeclaration
    store_url: str
    lake_path: str
    state_dir: str
    """Run files, logs and faults live below it."""
    socket_path: str
    """Unix socket of the agents' API."""
    http_host: str = "127.0.0.1"
    http_port: int = 0
    """0 takes a free port, named in the run file."""
    heartbeat_interval_s: float = 1.0
    lease_ttl_s: float = 5.0
    reconcile_interval_s: float = 2.0
    """Between two looks at the placements when nobody nudges."""
    stop_grace_s: float = 5.0
    """Between SIGTERM and SIGKILL of an agent."""
    owner: ProcessIdentity | None = None
    """When this process ends, the node ends; None: nobody's."""
    gpu_probe: str = ""
    """`package.module:Class` of a `fleet.ports.GpuProbe`; empty: look for no GPUs."""
    probing: ProbePolicy = EMBEDDED_PROBING
    """How it probes other nodes; the same for all nodes and controllers of a fleet."""
    renew_endpoints_s: float = EMBEDDED_SERVICES.renew_interval_s
    """Between two signs of life of its agents in discovery."""
    registry: RegistryDeclaration = CONTROL_STORE_REGISTRY
    """What its agents are registered with."""
    vectors: VectorDeclaration | None = None
    """Where its agents' notes are searched; None: nowhere."""

    @property
    def run_path(self) -> Path:
        """The run file of this node."""
        return run_path(Path(self.state_dir), self.node.node_id)

    @property
    def fault_path(self) -> Path:
        """The fault file of this node, re-read with each heartbeat."""
        return Path(self.state_dir) / "run" / "faults" / f"{self.node.node_id}.json"

    @property
    def agent_log_dir(self) -> Path:
        """Folder of the logs of this node's agents."""
        return Path(self.state_dir) / "logs" / "agents" / self.node.node_id

    def validate(self) -> Self:
        """Return the spec when a supervisor can work with it.

        Raises:
            InvalidInputError: names the field.
        """
        validate_name("node_id", self.node.node_id)
        validate_name("region", self.node.region)
        for field in (
            "heartbeat_interval_s",
            "lease_ttl_s",
            "reconcile_interval_s",
            "renew_endpoints_s",
        ):
            if not 0.01 <= getattr(self, field) <= 86_400:
                raise InvalidInputError(field, getattr(self, field), "0.01 to 86400 seconds")
        if self.heartbeat_interval_s > 0.5 * self.lease_ttl_s:
            raise InvalidInputError(
                "heartbeat_interval_s",
                self.heartbeat_interval_s,
                f"at most half of lease_ttl_s ({self.lease_ttl_s:g}), so that one may be missed",
            )
        if not 0 <= self.stop_grace_s <= 3600:
            raise InvalidInputError("stop_grace_s", self.stop_grace_s, "0 to 3600 seconds")
        if len(os.fsencode(self.socket_path)) > SOCKET_PATH_MAX_BYTES:
            allowed = f"a path of at most {SOCKET_PATH_MAX_BYTES} bytes"
            raise InvalidInputError("socket_path", self.socket_path, allowed)
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRun:
    """What a running or ended supervisor says of itself."""

    node_id: str
    region: str
    boot_id: str
    phase: NodePhase
    """RUNNING, STOPPED (ended in order), or TERMINATED (found vanished by somebody else)."""
    process: ProcessIdentity
    """The supervisor, leader of the node's process group."""
    address: str
    """host:port of health, metrics and orders."""
    socket_path: str
    token: str
    """For orders that stop something."""
    started_at: datetime
    ended_at: datetime | None = None
    reason: str = ""


def run_path(state_dir: Path, node_id: str) -> Path:
    """Where a node's run file lives."""
    return state_dir / "run" / "nodes" / f"{node_id}.json"


def spec_path(state_dir: Path, node_id: str) -> Path:
    """Where a node's spec file lives."""
    return state_dir / "run" / "specs" / f"{node_id}.json"


def write_spec(path: Path, spec: NodeSpec) -> None:
    """Write a spec atomically, for its owner's eyes only."""
    write_private(path, {"version": SPEC_VERSION} | _plain(spec.validate()))


def read_spec(path: Path) -> NodeSpec:
    """Read and validate a spec.

    Raises:
        NotFoundError: there is no such file.
        InvalidInputError: it is no spec of this version; names the field.
    """
    raw = _read_object(path)
    if raw.pop("version", None) != SPEC_VERSION:
        raise InvalidInputError("version", str(path), f"a node spec of version {SPEC_VERSION}")
    allowed = {field.name for field in fields(NodeSpec)}
    for name in sorted(raw.keys() - allowed):
        raise InvalidInputError(name, raw[name], f"one of {', '.join(sorted(allowed))}")
    try:
        raw["node"] = NodeDeclaration(**raw["node"])
        if raw.get("owner") is not None:
            raw["owner"] = ProcessIdentity(*raw["owner"])
        if "probing" in raw:
            raw["probing"] = ProbePolicy(**raw["probing"])
        if raw.get("vectors") is not None:
            raw["vectors"] = read_declaration(raw["vectors"])
        if "registry" in raw:
            kind = RegistryKind(raw["registry"]["kind"])
            raw["registry"] = RegistryDeclaration(**{**raw["registry"], "kind": kind})
        return NodeSpec(**raw).validate()
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError("node spec", str(path), f"all its fields ({error})") from error


def write_run(path: Path, run: NodeRun) -> None:
    """Write a run file atomically, for its owner's eyes only."""
    write_private(path, _plain(run))


def read_run(path: Path) -> NodeRun | None:
    """Read a run file; None when the node has never run here.

    Raises:
        InvalidInputError: the file is no run file.
    """
    try:
        raw = _read_object(path)
    except NotFoundError:
        return None
    try:
        raw["phase"] = NodePhase(raw["phase"])
        raw["process"] = ProcessIdentity(*raw["process"])
        for name in ("started_at", "ended_at"):
            raw[name] = None if raw[name] is None else datetime.fromisoformat(raw[name])
        return NodeRun(**raw)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError("run file", str(path), f"all its fields ({error})") from error


def write_private(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object atomically (visible as a whole or not at all), mode 0600."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(value, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _plain(record: NodeSpec | NodeRun) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, value in asdict(record).items():
        if isinstance(value, NodeDeclaration):
            plain[name] = value._asdict()
        elif isinstance(value, datetime):
            plain[name] = value.isoformat()
        elif isinstance(getattr(record, name), VectorDeclaration):
            plain[name] = declaration_document(getattr(record, name))
        else:
            plain[name] = value
    return plain


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise NotFoundError(f"{path} does not exist") from error
    except ValueError as error:
        raise InvalidInputError("file", str(path), f"a JSON object ({error})") from error
    if not isinstance(value, dict):
        raise InvalidInputError("file", str(path), "a JSON object")
    return value
