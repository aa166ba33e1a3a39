"""The definitions load quickly, from anywhere, without touching anything but the settings."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import dagster as dg
import pytest

import assets
import fleet
import ops
import platform_defs
import resources
import sensors
from platform_defs.build import Deployment, build_defs, deployment_of
from platform_defs.declared_fleet import declared_agents
from platform_defs.settings import load_settings
from tests.fakes.fleet import declare_fleet

ROOT = Path(__file__).resolve().parents[2]

PROBE = """
import builtins, io, json, os, socket, sys
import dagster, dagster._cli.api
before = set(sys.modules)

def refuse(*args, **kwargs):
    raise AssertionError("network at import")

socket.socket.connect = socket.getaddrinfo = refuse
opened = []

def audit(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)):
        opened.append(os.fsdecode(args[0]))

sys.addaudithook(audit)
import platform_defs.definitions
code = (".py", ".pyc", ".pth", ".so")
files = [each for each in opened if not each.endswith(code) and ".pyc." not in each]
print(json.dumps({"files": files, "modules": sorted(set(sys.modules) - before)}))
"""

HEAVY = {
    "pandas",
    "faiss",
    "boto3",
    "kubernetes",
    "duckdb",
    "pyarrow",
    "sqlalchemy",
    "pynvml",
    "numpy",
    "torch",
    "psutil",
    "cryptography",
    "blake3",
    "zstandard",
}


@pytest.fixture(scope="module")
def probe() -> dict[str, list[str]]:
    """What importing the definitions opened and imported, in a fresh process without network."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_loading_the_definitions_reads_only_the_settings(probe: dict[str, list[str]]) -> None:
    """No state, no database, no network; any connection would have failed the import."""
    ours = [each for each in probe["files"] if Path(each).is_relative_to(ROOT)]
    assert [Path(each).name for each in ours] == ["stateroom.toml"]


def test_loading_the_definitions_imports_no_heavy_library(probe: dict[str, list[str]]) -> None:
    """Each run and each sensor tick pays for these imports, whether or not it needs them."""
    assert HEAVY & {name.partition(".")[0] for name in probe["modules"]} == set()


@pytest.mark.parametrize(
    "room", [assets, fleet, ops, platform_defs, resources, sensors], ids=lambda room: room.__name__
)
def test_each_room_is_ours_and_not_a_package_of_the_same_name(room: object) -> None:
    """`ops` and `resources` also name packages on PyPI."""
    file = getattr(room, "__file__", None)
    assert file is not None
    assert Path(file).resolve().is_relative_to(ROOT)


def test_the_shipped_settings_make_loadable_definitions() -> None:
    """Every asset, check, job, schedule, sensor and resource resolves."""
    defs = build_defs(deployment_of(load_settings(ROOT / "stateroom.toml", {})))
    dg.Definitions.validate_loadable(defs)
    graph = defs.resolve_asset_graph()
    node_inventory = graph.get(dg.AssetKey("node_inventory"))
    partitions = node_inventory.partitions_def
    assert partitions is not None
    assert partitions.get_partition_keys() == ["ap-southeast-2", "eu-central-1", "us-west-2"]


def test_the_declaration_counts_the_agents_that_up_would_declare() -> None:
    """Twin: make them all, in every region, and count them by workload."""
    settings = load_settings(ROOT / "stateroom.toml", {})
    made = Counter((agent.network_id, agent.workload) for agent in declared_agents(settings))
    workloads = deployment_of(settings).declaration.workloads
    assert {each[:2]: each.replicas for each in workloads} == made
    assert len(workloads) == 4


def test_the_lineage_leads_from_the_declaration_to_the_states() -> None:
    """What Dagster draws is what the ops do."""
    deployment = Deployment(declaration=declare_fleet(), control_store_url="", lake_path="")
    graph = build_defs(deployment).resolve_asset_graph()
    parents = {
        key.to_user_string(): {each.to_user_string() for each in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }
    assert parents == {
        "fleet_declaration": set(),
        "control_store": {"fleet_declaration"},
        "node_inventory": {"fleet_declaration", "control_store"},
        "gpu_inventory": {"node_inventory"},
        "agent_inventory": {"node_inventory"},
        "agent_states": {"agent_inventory"},
        "backup_snapshots": {"agent_states", "control_store"},
        "backup_catalog": {"backup_snapshots"},
        "retention_plan": {"backup_catalog"},
        "backup_replicas": {"backup_snapshots"},
        "backup_verifications": {"backup_replicas"},
        "state_journal": {"control_store"},
        "recovery_objectives": {"backup_replicas", "backup_verifications", "state_journal"},
        "lake_catalog": set(),
        "node_health": {"node_inventory", "control_store"},
        "incidents": {"node_health", "control_store"},
        "placements": {"control_store"},
        "failover_readiness": {
            "node_inventory",
            "agent_inventory",
            "recovery_objectives",
            "node_health",
        },
        "placement_history": {"placements"},
        "activity_history": {"control_store"},
        "run_history": set(),
        "service_routes": {"control_store"},
        "metric_samples": set(),
        "rollup_open": {"metric_samples"},
        "fleet_overview": {"metric_samples"},
        "rollup_1m": {"metric_samples"},
        "rollup_5m": {"rollup_1m"},
        "rollup_1h": {"rollup_5m"},
        "rollup_1d": {"rollup_1h"},
        "metric_retention": {"metric_samples"},
        "error_budgets": {"metric_samples"},
        "scaling_decisions": {"control_store"},
        "rightsizing_advice": {"metric_samples", "agent_inventory"},
        "price_quotes": {"fleet_declaration"},
        "cost_report": {
            "price_quotes",
            "node_inventory",
            "gpu_inventory",
            "agent_inventory",
            "agent_states",
            "backup_replicas",
        },
        "spot_suitability": {"control_store", "cost_report", "agent_states"},
        "consolidation_plan": {"control_store"},
        "capacity_forecast": {"cost_report", "node_inventory"},
        "cleanup_plan": {"metric_samples", "control_store", "agent_inventory", "agent_states"},
        "saving_proposals": {
            "rightsizing_advice",
            "cost_report",
            "spot_suitability",
            "consolidation_plan",
            "cleanup_plan",
        },
    }


GROUPS = {"inventory", "backups", "failover", "services", "upkeep", "metrics", "rescaling"}


def test_every_asset_has_owner_group_description_and_freshness() -> None:
    """The catalogue answers who, what and how fresh for everything that Dagster makes."""
    deployment = Deployment(declaration=declare_fleet(), control_store_url="", lake_path="")
    graph = build_defs(deployment).resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.owners, key
        assert node.description, key
        assert node.group_name in GROUPS, key
        assert node.kinds, key
        if node.is_materializable:
            assert node.freshness_policy is not None, key
            assert node.partitions_def is None or node.code_version == "1", key


def test_an_unknown_override_is_refused() -> None:
    """A misspelt resource would silently leave the real one in place."""
    deployment = Deployment(declaration=declare_fleet(), control_store_url="", lake_path="")
    with pytest.raises(KeyError, match=r"no such resource: \['cluter'\]"):
        build_defs(deployment, cluter=object())


def test_the_definitions_stay_an_assembly() -> None:
    """At most 60 lines."""
    assert len((ROOT / "platform_defs" / "definitions.py").read_text().splitlines()) <= 60
