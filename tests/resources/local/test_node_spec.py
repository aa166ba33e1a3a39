"""Spec and run files: what is written is what is read; anything else is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleet.errors import InvalidInputError, NotFoundError
from fleet.inventory import NodePhase
from fleet.reports import NodeDeclaration
from fleet.vectors.declaration import AdoptedDeclaration, NetworkVectors, VectorDeclaration
from fleet.vectors.records import EmbeddingModel, Metric
from resources.local.linux_processes import ProcessIdentity
from resources.local.node_spec import (
    NodeRun,
    NodeSpec,
    read_run,
    read_spec,
    write_run,
    write_spec,
)

NODE = NodeDeclaration("n1", "east", "east-a", 1000, 2**30)
SPEC = NodeSpec(
    node=NODE, store_url="sqlite:///x", lake_path="/l", state_dir="/s", socket_path="/s/n1"
)
RUN = NodeRun(
    node_id="n1",
    region="east",
    boot_id="b",
    phase=NodePhase.RUNNING,
    process=ProcessIdentity(12, 34),
    address="127.0.0.1:1",
    socket_path="/s/n1",
    token="t",
    started_at=datetime(2026, 1, 1, tzinfo=UTC),
)


VECTORS = VectorDeclaration(
    networks=(
        NetworkVectors(network_id="a"),
        NetworkVectors(network_id="b", given=EmbeddingModel("m", "given", 3)),
    ),
    adopted=(AdoptedDeclaration(name="x", path="/x", metric=Metric.L2),),
)


@pytest.mark.parametrize(("owner", "vectors"), [(None, VECTORS), (ProcessIdentity(1, 2), None)])
def test_a_spec_is_read_as_it_was_written(
    tmp_path: Path, owner: ProcessIdentity | None, vectors: VectorDeclaration | None
) -> None:
    """All fields, and for the owner's eyes only: it may hold a password."""
    path = tmp_path / "spec.json"
    spec = replace(SPEC, owner=owner, http_port=81, gpu_probe="a:B", vectors=vectors)
    write_spec(path, spec)
    assert read_spec(path) == spec
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("ended", [None, datetime(2026, 1, 2, tzinfo=UTC)])
def test_a_run_file_is_read_as_it_was_written(tmp_path: Path, ended: datetime | None) -> None:
    """Also after the end."""
    path = tmp_path / "run.json"
    run = replace(RUN, ended_at=ended)
    write_run(path, run)
    assert read_run(path) == run
    assert read_run(tmp_path / "other.json") is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("heartbeat_interval_s", 3.0),
        ("lease_ttl_s", 0.0),
        ("lease_ttl_s", float("nan")),
        ("reconcile_interval_s", -1.0),
        ("stop_grace_s", 1e9),
        ("socket_path", "/" + "x" * 107),
        ("node", NODE._replace(node_id="../n1")),
    ],
)
def test_a_spec_that_no_node_can_live_with_is_refused(
    tmp_path: Path, field: str, value: object
) -> None:
    """Before anything is written."""
    with pytest.raises(InvalidInputError, match="node_id" if field == "node" else field):
        write_spec(tmp_path / "spec.json", replace(SPEC, **{field: value}))
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_spec_is_refused(tmp_path: Path) -> None:
    """Truncated at any byte, of another version, with a field too many or too few."""
    path = tmp_path / "spec.json"
    write_spec(path, SPEC)
    whole = path.read_text()
    for end in range(0, len(whole) - 1, 7):
        path.write_text(whole[:end])
        with pytest.raises(InvalidInputError):
            read_spec(path)
    raw = json.loads(whole)
    few = {name: value for name, value in raw.items() if name != "store_url"}
    for wrong in (raw | {"version": 2}, raw | {"colour": "red"}, few, [raw]):
        path.write_text(json.dumps(wrong))
        with pytest.raises(InvalidInputError):
            read_spec(path)
    with pytest.raises(NotFoundError):
        read_spec(tmp_path / "missing.json")
