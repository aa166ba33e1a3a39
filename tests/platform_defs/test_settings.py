"""Settings: where values come from, what is refused, and how it is said."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import MISSING, replace
from pathlib import Path

import pytest

from fleet.agents import RestartMode
from fleet.errors import InvalidSettingsError, NotFoundError
from fleet.failover.policy import RegionMode
from fleet.failover.profiles import EMBEDDED
from fleet.placement.quotas import LimitRange, NetworkLimits, ResourceQuota
from fleet.placement.requests import PlacementRules, rules_of
from fleet.retention import CalendarSpan, RetentionPolicy
from fleet.service_health import EMBEDDED_SERVICES, PRODUCTION_SERVICES
from fleet.traffic_declaration import (
    RegistryDeclaration,
    RegistryKind,
    RouterDeclaration,
    RouterKind,
    TrafficDeclaration,
)
from platform_defs.declared_backup import declared_artefacts, declared_backup
from platform_defs.declared_failover import declared_failover
from platform_defs.declared_fleet import (
    declared_agents,
    declared_limits,
    declared_nodes,
    declared_workloads,
)
from platform_defs.declared_traffic import declared_traffic
from platform_defs.local_nodes import node_specs
from platform_defs.settings import (
    child_environment,
    instance_environment,
    load_settings,
    read_switches,
)
from platform_defs.settings_display import described_keys, effective_rows, reference_table
from platform_defs.settings_keys import default_of, key_fields
from platform_defs.settings_records import SECTIONS
from platform_defs.settings_source import key_lines
from tests.platform_defs.settings_files import SMALL, write_settings

ROOT = Path(__file__).resolve().parents[2]


def problems(folder: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    """The problems that a settings file has."""
    path = write_settings(folder, text)
    with pytest.raises(InvalidSettingsError) as caught:
        load_settings(path, environ or {})
    assert str(path) in str(caught.value)
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    return list(caught.value.problems)


def test_the_repositorys_settings_are_valid_and_hold_the_documented_defaults() -> None:
    """`stateroom.toml` at the root sets nothing to another value than the table's default."""
    settings = load_settings(ROOT / "stateroom.toml", {})
    for section, record in SECTIONS.items():
        for name, spec in key_fields(record).items():
            default = str(default_of(spec)).replace("{state_dir}", str(ROOT / "state"))
            value = str(getattr(getattr(settings, section), name))
            assert value in {default, str(ROOT / default)}, f"{section}.{name}"
    assert [region.name for region in settings.regions] == [
        "us-west-2",
        "eu-central-1",
        "ap-southeast-2",
    ]
    assert sum(w.replicas_per_node for w in settings.workloads) == 8


def test_absent_keys_take_their_defaults_and_paths_are_resolved(tmp_path: Path) -> None:
    """Relative paths start at the file's folder; `{state_dir}` is filled in."""
    settings = load_settings(write_settings(tmp_path), {})
    assert settings.web.port == 3000
    assert settings.fleet.state_dir == tmp_path / "state"
    assert settings.control_store.url == f"sqlite:///{tmp_path}/state/control.db"
    assert settings.lake.path == tmp_path / "state" / "lake"
    assert settings.dagster_home == tmp_path / "state" / "dagster"
    assert settings.log_dir == tmp_path / "state" / "logs"


def test_retention_is_declared_by_counts_and_by_spans(tmp_path: Path) -> None:
    """A span that is not set is no rule; one that is set reads as restic's."""
    text = SMALL + "[retention]\nhourly = 3\nwithin = '1y6m'\nwithin_daily = '10d'\n"
    policy = declared_backup(load_settings(write_settings(tmp_path, text), {})).retention
    assert policy == RetentionPolicy(
        hourly=3, within=CalendarSpan(1, 6), within_daily=CalendarSpan(days=10)
    )


def test_a_stanza_of_pgbackrest_belongs_to_a_control_store_on_postgresql(tmp_path: Path) -> None:
    """It reaches the declared artefact; beside SQLite it is refused."""
    text = SMALL + "[backup]\npgbackrest_stanza = 'main'\n"
    server = "[control_store]\nurl = 'postgresql://u@db/stateroom'\n"
    own = declared_artefacts(load_settings(write_settings(tmp_path, text + server), {}))[0]
    assert (own.kind, own.stanza, own.path) == (
        "control_store",
        "main",
        "postgresql://u@db/stateroom",
    )
    (problem,) = problems(tmp_path, text)
    assert "pgbackrest_stanza" in problem
    assert "only where `control_store.url` is PostgreSQL's" in problem


def test_networks_have_quotas_limits_and_default_sizes(tmp_path: Path) -> None:
    """A workload that names no size takes its network's; the source is the network's line."""
    text = SMALL.replace("[networks.watch]\n", "[networks.watch]\n[networks.watch.quota]\n"
        "agents = 5\nmemory_mib = 3\n[networks.watch.limits]\ncpu_milli_default = 40\n"
        "cpu_milli_max = 50\n[networks.free]\n") + (
        "memory_mib = 2\ngpu_models = ['NVIDIA H100 80GB HBM3']\nspread_zones = true\n"
        "gang = 'g'\npack = true\n[node]\ngpu_model = 'H100'\n"
    )  # fmt: skip
    settings = load_settings(write_settings(tmp_path, text), {})
    quota, limits = ResourceQuota(5, None, 3 << 20), LimitRange(cpu_milli_max=50)
    assert declared_limits(settings) == [NetworkLimits("watch", quota, limits)]
    [workload] = declared_workloads(settings)
    assert (workload.cpu_milli, workload.memory_bytes) == (40, 2 << 20)
    models = ("NVIDIA H100 80GB HBM3",)
    assert rules_of(workload) == PlacementRules(models, True, "g", True)
    assert {agent.cpu_milli for agent in declared_agents(settings)} == {40}
    assert {node.gpu_model for node in declared_nodes(settings)} == {"H100"}
    assert settings.sources["workloads.cpu.cpu_milli"] == "stateroom.toml:13"
    rows = {row.key: row for row in effective_rows(settings)}
    assert rows["networks.watch.quota.cpu_milli"].value is None


def test_failover_takes_its_numbers_from_the_profile_and_its_targets_from_the_regions(
    tmp_path: Path,
) -> None:
    """A mode that is set replaces the profile's; a region without targets may go to all others."""
    text = SMALL + (
        "[regions.eu]\nnodes = 1\nfailover_to = ['us-west-2']\n[regions.ap]\nnodes = 1\n"
        "[failover]\nregion_mode = 'approve'\nhead_room_percent = 25\n"
    )
    declared = declared_failover(load_settings(write_settings(tmp_path, text), {}))
    assert declared.targets == {
        "us-west-2": ("eu", "ap"),
        "eu": ("us-west-2",),
        "ap": ("us-west-2", "eu"),
    }
    assert declared.head_room == 0.25
    assert declared.policy == replace(EMBEDDED, region_mode=RegionMode.APPROVE, lease_ttl_s=5.0)


def test_without_routers_there_is_one_embedded_table_under_the_state_folder(tmp_path: Path) -> None:
    """Discovery works on one machine without a word in the settings."""
    declared = declared_traffic(load_settings(write_settings(tmp_path, SMALL), {}))
    folder = str(tmp_path / "state" / "routes")
    only = RouterDeclaration(name="embedded", kind=RouterKind.EMBEDDED, folder=folder)
    assert declared == TrafficDeclaration((only,), EMBEDDED_SERVICES)


def test_routers_are_declared_with_their_parameters_and_resolved_paths(tmp_path: Path) -> None:
    """In the order of the file; the profile of failover chooses the numbers."""
    text = SMALL + (
        "[failover]\nprofile = 'production'\n"
        "[routers.front]\nkind = 'haproxy'\naddress = '/run/haproxy.sock'\nservices = ['cpu']\n"
        "[routers.web]\nkind = 'nginx'\nconfig = 'nginx.conf'\npid_file = '/run/nginx.pid'\n"
        "[routers.names]\nkind = 'route53'\nzone_id = 'Z1'\ndomain = 'svc.example.com'\n"
        "record_ttl_s = 30\n"
    )
    declared = declared_traffic(load_settings(write_settings(tmp_path, text), {}))
    assert declared.policy == PRODUCTION_SERVICES
    assert declared.routers == (
        RouterDeclaration(
            name="front",
            kind=RouterKind.HAPROXY,
            address="/run/haproxy.sock",
            services=frozenset({"cpu"}),
        ),
        RouterDeclaration(
            name="web",
            kind=RouterKind.NGINX,
            folder=str(tmp_path / "state" / "routes" / "web"),
            config=str(tmp_path / "nginx.conf"),
            pid_file="/run/nginx.pid",
        ),
        RouterDeclaration(
            name="names",
            kind=RouterKind.ROUTE53,
            zone_id="Z1",
            domain="svc.example.com",
            record_ttl_s=30,
        ),
    )


def test_consul_is_declared_as_registry_for_routers_and_nodes(tmp_path: Path) -> None:
    """Its token is shown to nobody."""
    text = SMALL + (
        "[discovery]\nregistry = 'consul'\nurl = 'https://consul.example:8501'\n"
        "token = 'much-hidden'\nprefix = 'fleet/a'\nnode = 'fleet-a'\ntimeout_s = 2\n"
    )
    settings = load_settings(write_settings(tmp_path, text), {})
    registry = declared_traffic(settings).registry
    assert registry == RegistryDeclaration(
        kind=RegistryKind.CONSUL,
        url="https://consul.example:8501",
        token="much-hidden",
        prefix="fleet/a",
        node="fleet-a",
        timeout_s=2.0,
    )
    assert {one.registry for one in node_specs(settings)} == {registry}
    assert "much-hidden" not in repr(registry)


def test_a_region_spreads_its_nodes_over_its_zones_in_turn(tmp_path: Path) -> None:
    """A count gives names; a list is taken as it is; no zones: the region is the zone."""
    text = SMALL + "[regions.eu]\nnodes = ['n1', 'n2']\n"
    west, eu = load_settings(write_settings(tmp_path, text), {}).regions
    assert west.node_ids == ("us-west-2-1", "us-west-2-2")
    assert west.node_zones == ("a", "b")
    assert eu.node_ids == ("n1", "n2")
    assert eu.node_zones == ("eu", "eu")


def test_a_workload_becomes_the_cores_record_in_bytes_and_bits(tmp_path: Path) -> None:
    """MiB and Mbit/s end here; inside the core everything is bytes and bits."""
    text = SMALL + (
        "memory_mib = 3\nbandwidth_mbps = 5\npriority = -2\narguments = {pace = 'slow'}\n"
        "restart = {mode = 'always', attempts_max = 7}\n"
    )
    (workload,) = load_settings(write_settings(tmp_path, text), {}).workloads
    core = workload.workload()
    assert core.workload == "cpu"
    assert core.network_id == "watch"
    assert core.memory_bytes == 3 * 1024 * 1024
    assert core.bandwidth_bps == 5_000_000
    assert core.arguments == {"pace": "slow"}
    assert core.priority == -2
    assert core.restart.mode is RestartMode.ALWAYS
    assert core.restart.attempts_max == 7


@pytest.mark.parametrize(
    ("variable", "text", "key", "value"),
    [
        ("STATEROOM_WEB__PORT", "3001", "web.port", 3001),
        ("STATEROOM_NODE__LEASE_TTL_S", "7.5", "node.lease_ttl_s", 7.5),
        ("STATEROOM_REGIONS__US_WEST_2__NODES", "5", "regions.us-west-2.nodes", 5),
        ("STATEROOM_REGIONS__US_WEST_2__NODES", "x,y", "regions.us-west-2.nodes", ["x", "y"]),
        ("STATEROOM_REGIONS__US_WEST_2__ZONES", "k, l", "regions.us-west-2.zones", ["k", "l"]),
        ("STATEROOM_WORKLOADS__CPU__RESTART__WINDOW_S", "9", "workloads.cpu.restart.window_s", 9.0),
        (
            "STATEROOM_WORKLOADS__CPU__ARGUMENTS",
            '{"a": "b"}',
            "workloads.cpu.arguments",
            {"a": "b"},
        ),
    ],
)
def test_a_variable_overrides_one_key_and_is_named_as_its_source(
    tmp_path: Path, variable: str, text: str, key: str, value: object
) -> None:
    """Single, named and nested tables can all be reached from the environment."""
    settings = load_settings(write_settings(tmp_path), {variable: text})
    row = {row.key: row for row in effective_rows(settings)}[key]
    assert (row.value, row.source) == (value, variable)


def test_a_command_from_the_environment_is_split_as_a_shell_would(tmp_path: Path) -> None:
    """Quotes keep blanks together."""
    environ = {
        "STATEROOM_WORKLOADS__CPU__COMMAND": "agent --say 'two words'",
        "STATEROOM_WORKLOADS__CPU__FUNCTION": "",
    }
    (workload,) = load_settings(write_settings(tmp_path), environ).workloads
    assert workload.command == ("agent", "--say", "two words")


def test_every_value_knows_its_source(tmp_path: Path) -> None:
    """A value is from a line of the file, a variable, or the default."""
    settings = load_settings(write_settings(tmp_path), {"STATEROOM_WEB__PORT": "1"})
    sources = {row.key: row.source for row in effective_rows(settings)}
    assert sources["fleet.name"] == "stateroom.toml:2"
    assert sources["regions.us-west-2.nodes"] == "stateroom.toml:6"
    assert sources["workloads.cpu.function"] == "stateroom.toml:12"
    assert sources["web.port"] == "STATEROOM_WEB__PORT"
    assert sources["web.host"] == "default"
    assert sources["workloads.cpu.restart.mode"] == "default"


def test_lines_are_found_in_every_way_that_toml_writes_keys() -> None:
    """Dotted and quoted keys, inline tables, values over several lines, texts like keys."""
    text = (
        "# a = 1\n[a.'b c']\nx = [\n  1, # y = 2\n  2,\n]\nd . \"e\" = 3\n"
        'm = """\nz = 1\n"""\ni = { j = 1, k = 2 }\n[[l]]\nn = 1\n'
    )
    assert key_lines(text) == {
        ("a",): 2,
        ("a", "b c"): 2,
        ("a", "b c", "x"): 3,
        ("a", "b c", "d", "e"): 7,
        ("a", "b c", "m"): 8,
        ("a", "b c", "i"): 11,
        ("a", "b c", "i", "j"): 11,
        ("a", "b c", "i", "k"): 11,
        ("l",): 12,
        ("l", "n"): 13,
    }


def test_the_nearest_file_above_is_found_then_the_repositorys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A subfolder of a project uses the project's file; STATEROOM_CONFIG is stronger."""
    path = write_settings(tmp_path)
    inner = tmp_path / "x" / "y"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert load_settings(environ={}).path == path
    other = inner / "other.toml"
    other.write_text(SMALL.replace('"test"', '"other"'))
    assert load_settings(environ={"STATEROOM_CONFIG": "other.toml"}).fleet.name == "other"
    path.unlink()
    assert load_settings(environ={}).path == ROOT / "stateroom.toml"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The error says which file, and the hint which variable."""
    with pytest.raises(NotFoundError, match=r"gone\.toml") as caught:
        load_settings(environ={"STATEROOM_CONFIG": str(tmp_path / "gone.toml")})
    assert "STATEROOM_CONFIG" in caught.value.hint


def test_a_file_that_does_not_parse_says_where(tmp_path: Path) -> None:
    """The TOML parser's position is kept; text that is not UTF-8 is refused."""
    (problem,) = problems(tmp_path, "[fleet\nname = 1\n")
    assert "line 1" in problem
    path = tmp_path / "stateroom.toml"
    path.write_bytes(b'[fleet]\nname = "\xff"\n')
    with pytest.raises(InvalidSettingsError, match="UTF-8"):
        load_settings(path, {})


def test_loading_needs_neither_dagster_nor_any_other_heavy_library() -> None:
    """The command starts in the time of the interpreter plus milliseconds."""
    heavy = {"dagster", "sqlalchemy", "pyarrow", "pandas", "duckdb", "pydantic", "boto3"}
    script = (
        "import sys; from platform_defs.settings import load_settings; load_settings();"
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_documented_table_and_the_model_agree() -> None:
    """docs/settings.md ends with what `stateroom config keys` prints, key by key."""
    document = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert document.endswith(reference_table())


def test_every_key_has_a_meaning_and_a_unit_where_its_name_says_so() -> None:
    """The unit in a key's name and the unit in the table are the same."""
    units = {"_s": "seconds", "_mib": "MiB", "_mbps": "Mbit/s", "_hours": "hours", "_days": "days"}
    for key, spec in described_keys():
        assert spec.metadata["meaning"].endswith("."), key
        for suffix, unit in units.items():
            if key.endswith(suffix):
                assert spec.metadata["unit"] == unit, key
        if key.endswith("_milli"):
            assert spec.metadata["unit"].startswith("thousandths"), key
        default = default_of(spec)
        if default is not MISSING and default not in (None, "", (), {}):
            spec.metadata["kind"].check(list(default) if isinstance(default, tuple) else default)


def test_children_find_the_instance_and_write_bytecode(tmp_path: Path) -> None:
    """Started processes inherit the environment, less what would slow them down."""
    settings = load_settings(write_settings(tmp_path), {})
    child = child_environment(settings, {"PYTHONDONTWRITEBYTECODE": "1", "HOME": "/h"})
    assert child["HOME"] == "/h"
    assert "PYTHONDONTWRITEBYTECODE" not in child
    assert child["DAGSTER_HOME"] == str(tmp_path / "state" / "dagster")
    assert instance_environment(settings).items() <= child.items()
    assert load_settings(environ=child) == settings


def test_switches_follow_their_conventions() -> None:
    """NO_COLOR counts when it is not empty, as no-color.org has it."""
    assert read_switches({"NO_COLOR": "", "STATEROOM_DEBUG": ""}) == (False, False)
    assert read_switches({"NO_COLOR": "0", "STATEROOM_DEBUG": "1"}) == (True, True)
