"""Recorded clusters: all rows or one error with every problem and its line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import (
    PROBLEMS_LISTED_MAX,
    InvalidDocumentError,
    InvalidInputError,
    NotFoundError,
    StateroomError,
    TooLargeError,
)
from fleet.inventory import AgentPhase
from fleet.placement.initial import plan_initial_placements
from resources.simulated import csv_rows
from resources.simulated.clock import DEFAULT_START
from resources.simulated.cluster import SimulatedCluster
from resources.simulated.gpu_models import GPU_MEMORY_BYTES
from resources.simulated.recorded import (
    NODE_COLUMNS,
    TASK_COLUMNS,
    RecordedCluster,
    load_recorded_cluster,
)
from tests.examples import examples

NODE_HEADER = ",".join(NODE_COLUMNS)
TASK_HEADER = ",".join(TASK_COLUMNS)
GOOD_NODES = f"{NODE_HEADER}\ncpu-0,32000,1024,0,\ngpu-0,96000,2048,8,G2\ngpu-1,64000,2048,2,T4\n"
GOOD_TASKS = (
    f"{TASK_HEADER}\n"
    "t0,12000,16384,1,460,,LS,Running,0,100,0\n"
    "t1,6000,12288,2,1000,T4|V100M16,BE,Failed,10,90,50\n"
    "t2,1000,512,0,0,,Burstable,Pending,10,90,\n"
    "t3,1000,512,0,0,,Guaranteed,Succeeded,10,,20\n"
)


def load(folder: Path, nodes: str | bytes, tasks: str | bytes) -> RecordedCluster:
    """Write both files and load them."""
    paths = folder / "nodes.csv", folder / "tasks.csv"
    for path, content in zip(paths, (nodes, tasks), strict=True):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_recorded_cluster(*paths, regions=["eu", "us"])


def test_nodes_and_tasks_become_declarations(tmp_path: Path) -> None:
    """Units, GPU memory by model (None known: 0 declared), priorities, homes."""
    recorded = load(tmp_path, GOOD_NODES, GOOD_TASKS)
    assert [(n.node_id, n.region, n.zone, n.memory_bytes) for n in recorded.nodes] == [
        ("cpu-0", "eu", "eua", 1 << 30),
        ("gpu-0", "eu", "eua", 2 << 30),
        ("gpu-1", "eu", "eua", 2 << 30),
    ]
    assert [(n.gpu_count, n.gpu_model, n.gpu_memory_bytes) for n in recorded.nodes] == [
        (0, None, 0),
        (8, "G2", 0),
        (2, "T4", 2 * 15_842_934_784),
    ]
    first, second = recorded.tasks[:2]
    assert (first.cpu_milli, first.memory_bytes, first.gpu_milli) == (12000, 16 << 30, 460)
    assert (second.gpu_milli, second.gpu_spec) == (2000, ("T4", "V100M16"))
    assert [task.region for task in recorded.tasks] == ["eu", "us", "eu", "us"]


@pytest.mark.parametrize(
    ("moment_s", "alive"),
    [(0, ["t0"]), (10, ["t0", "t1", "t2", "t3"]), (90, ["t0", "t3"]), (100, ["t3"])],
)
def test_agents_are_the_tasks_between_creation_and_deletion(
    tmp_path: Path, moment_s: int, alive: list[str]
) -> None:
    """Creation counts, deletion does not; without deletion it goes on."""
    fleet = load(tmp_path, GOOD_NODES, GOOD_TASKS).at(moment_s)
    assert [agent.agent_id for agent in fleet.agents] == alive
    assert sorted(fleet.reasons) == alive


def test_every_recorded_agent_stays_unplaced_with_its_reason(tmp_path: Path) -> None:
    """The recording names no node; the simulator shows so instead of inventing one."""
    fleet = load(tmp_path, GOOD_NODES, GOOD_TASKS).at(20)
    cluster = SimulatedCluster(fleet.nodes)
    cluster.declare_agents(fleet.agents, fleet.reasons)
    seen = {a.agent_id: a for region in ("eu",) for a in cluster.agents(region)}
    assert {a.phase for a in seen.values()} == {AgentPhase.PENDING}
    assert seen["t0"].reason == (
        "recorded as Running, but the recording names no node; not placed yet"
    )
    assert seen["t2"].reason == "recorded as Pending, never scheduled"
    assert fleet.reasons["t1"] == "recorded as Failed, scheduled only at 50 s"


def test_regions_get_their_share_of_every_kind_of_hardware(tmp_path: Path) -> None:
    """Dealt per kind: no two regions differ by more than one node of any kind."""
    kinds = ("8,G2", "2,T4", "0,")
    rows = [f"n-{i},1000,1024,{kinds[i % 7 % 3]}" for i in range(100)]
    recorded = load(tmp_path, "\n".join([NODE_HEADER, *rows]), GOOD_TASKS)
    for model in ("G2", "T4", None):
        counts = Counter(n.region for n in recorded.nodes if n.gpu_model == model)
        assert abs(counts["eu"] - counts["us"]) <= 1
    zones = {n.zone for n in recorded.nodes}
    assert zones == {"eua", "eub", "usa", "usb"}


def test_column_order_extra_columns_bom_and_crlf_do_not_matter(tmp_path: Path) -> None:
    """What spreadsheets do to a file is not an error."""
    nodes = "\ufeffnote,model,gpu,memory_mib,cpu_milli,sn\r\n\r\nx,T4,1,1024,2000,a\r\n"
    recorded = load(tmp_path, nodes, GOOD_TASKS)
    assert [(n.node_id, n.cpu_milli, n.gpu_model) for n in recorded.nodes] == [("a", 2000, "T4")]


NODE_ERRORS: list[tuple[str, int, str, str]] = [
    ("a,-5,1,0,", 2, "cpu_milli", "not negative"),
    ("a,1.5,1,0,", 2, "cpu_milli", "whole number"),
    ("a,,1,0,", 2, "cpu_milli", "whole number"),
    ("a, 5,1,0,", 2, "cpu_milli", "whole number"),
    ("a,1_000,1,0,", 2, "cpu_milli", "whole number"),
    ("a,\u0663,1,0,", 2, "cpu_milli", "whole number"),
    ("a,1,9999999999999999999999,0,", 2, "memory_mib", "whole number"),
    ("a,1,nan,0,", 2, "memory_mib", "whole number"),
    ("a,1,1,5000,T4", 2, "gpu", "0 to 1024"),
    ("a,1,1,1,", 2, "model", "one of"),
    ("a,1,1,1,H9000", 2, "model", "one of"),
    ("a,1,1,0,T4", 2, "model", "empty for a node without GPUs"),
    ("a,1,1,0", 2, "row", "5 cells"),
    ("a,1,1,0,,", 2, "row", "5 cells"),
    (",1,1,0,", 2, "sn", "letters"),
    ("../a,1,1,0,", 2, "sn", "letters"),
    ("a,1,1,0,\nb,1,1,0,\na,1,1,0,", 4, "sn", "first in nodes.csv line 2"),
    ('"a,1,1,0,', 2, "row", "well-formed CSV"),
    ('"a"b,1,1,0,', 2, "row", "well-formed CSV"),
]


@pytest.mark.parametrize(("row", "line", "field", "allowed"), NODE_ERRORS)
def test_a_bad_node_row_is_named_with_file_line_column_and_what_is_allowed(
    tmp_path: Path, row: str, line: int, field: str, allowed: str
) -> None:
    """One problem each; nothing is loaded."""
    with pytest.raises(InvalidDocumentError) as caught:
        load(tmp_path, f"{NODE_HEADER}\n{row}\n", GOOD_TASKS)
    (problem,) = caught.value.problems
    assert problem.source == f"nodes.csv line {line}"
    assert problem.field == field
    assert allowed in problem.allowed


TASK_ERRORS: list[tuple[str, str, str]] = [
    ("t,1,1,1,1001,,LS,Running,0,1,0", "gpu_milli", "0 to 1000"),
    ("t,1,1,1,-1,,LS,Running,0,1,0", "gpu_milli", "not negative"),
    ("t,1,1,1,1,X1,LS,Running,0,1,0", "gpu_spec", "models joined"),
    ("t,1,1,1,1,,Gold,Running,0,1,0", "qos", "LS, Guaranteed"),
    ("t,1,1,1,1,,LS,Dancing,0,1,0", "pod_phase", "Pending, Running"),
    ("t,1,1,1,1,,LS,Running,,1,0", "creation_time", "whole number"),
    ("t,1,1,1,1,,LS,Running,5,1,5", "deletion_time", "at least creation_time (5)"),
    ("t,1,1,1,1,,LS,Running,5,6,1", "scheduled_time", "at least creation_time (5)"),
]


@pytest.mark.parametrize(("row", "field", "allowed"), TASK_ERRORS)
def test_a_bad_task_row_is_named_likewise(
    tmp_path: Path, row: str, field: str, allowed: str
) -> None:
    """Times must be possible, classes and models known."""
    with pytest.raises(InvalidDocumentError) as caught:
        load(tmp_path, GOOD_NODES, f"{TASK_HEADER}\n{row}\n")
    (problem,) = caught.value.problems
    assert (problem.source, problem.field) == ("tasks.csv line 2", field)
    assert allowed in problem.allowed


HEADER_ERRORS: list[tuple[bytes, str, str]] = [
    (b"", "line 1", "header"),
    (b"\n\n", "line 1", "header"),
    (b"sn,cpu_milli,memory_mib,gpu\na,1,1,0\n", "line 1", "header"),
    (b"sn,sn,cpu_milli,memory_mib,gpu,model\n", "line 1", "header"),
    (b"sn,cpu_milli,memory_mib,gpu,model\na,1,1,0,\nb\xff,1,1,0,\n", "line 3", "encoding"),
    (b"sn,cpu_milli,memory_mib,gpu,model\na,1\x00,1,0,\n", "line 2", "encoding"),
    ("sn,cpu_milli,memory_mib,gpu,model\n".encode("utf-16"), "line 1", "encoding"),
]


@pytest.mark.parametrize(("content", "line", "field"), HEADER_ERRORS)
def test_a_file_without_its_columns_or_in_another_encoding_is_refused(
    tmp_path: Path, content: bytes, line: str, field: str
) -> None:
    """Nothing is guessed: not the columns, not the encoding."""
    with pytest.raises(InvalidDocumentError) as caught:
        load(tmp_path, content, GOOD_TASKS)
    (problem,) = caught.value.problems
    assert (problem.source, problem.field) == (f"nodes.csv {line}", field)


def test_problems_of_both_files_come_in_one_error_and_are_counted(tmp_path: Path) -> None:
    """The first ones are listed, all are counted."""
    nodes = NODE_HEADER + "\n" + "x,-1,1,0,\n" * 15
    tasks = TASK_HEADER + "\n" + "t,1,1,1,2000,,LS,Running,0,1,0\n" * 3
    with pytest.raises(InvalidDocumentError) as caught:
        load(tmp_path, nodes, tasks)
    assert caught.value.count == 15 + 14 + 3 + 2
    assert len(caught.value.problems) == PROBLEMS_LISTED_MAX
    assert "nodes.csv and tasks.csv: 34 problems; nothing was loaded" in str(caught.value)
    assert "... and 14 more" in str(caught.value)


def test_a_quoted_cell_over_two_lines_does_not_shift_the_line_numbers(tmp_path: Path) -> None:
    """The line is that of the file, as an editor shows it."""
    nodes = f'{NODE_HEADER},note\na,1,1,0,,"two\nlines"\nb,x,1,0,,\n'
    with pytest.raises(InvalidDocumentError) as caught:
        load(tmp_path, nodes, GOOD_TASKS)
    assert [p.source for p in caught.value.problems] == ["nodes.csv line 4"]


def test_paths_and_sizes_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file, a folder and a file over the limit each have their own error."""
    nodes = tmp_path / "nodes.csv"
    with pytest.raises(NotFoundError, match=r"nodes\.csv"):
        load_recorded_cluster(nodes, nodes, regions=["eu"])
    with pytest.raises(InvalidInputError, match="readable file"):
        load_recorded_cluster(tmp_path, tmp_path, regions=["eu"])
    monkeypatch.setattr(csv_rows, "CSV_MAX_BYTES", 10)
    with pytest.raises(TooLargeError, match="at most 10"):
        load(tmp_path, GOOD_NODES, GOOD_TASKS)


@pytest.mark.parametrize(
    ("regions", "zones"), [([], 2), (["eu", "eu"], 2), (["e/u"], 2), (["eu"], 0), (["eu"], 27)]
)
def test_regions_must_be_names_and_zones_letters(
    tmp_path: Path, regions: list[str], zones: int
) -> None:
    """Refused before any file is opened."""
    with pytest.raises(InvalidInputError):
        load_recorded_cluster(
            tmp_path / "absent", tmp_path / "absent", regions=regions, zones_per_region=zones
        )


@settings(max_examples=examples(60))
@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_make_the_loader_fail_otherwise(
    tmp_path_factory: pytest.TempPathFactory, tail: bytes, with_header: bool
) -> None:
    """Any file is loaded or refused by an error of the tree."""
    content = (NODE_HEADER.encode() + b"\n" if with_header else b"") + tail
    folder = tmp_path_factory.mktemp("csv")
    refusal, tasks = "", 0
    try:
        tasks = len(load(folder, content, GOOD_TASKS).tasks)
    except StateroomError as error:
        refusal = str(error)
    assert (with_header and tasks == 4) or "nodes.csv" in refusal


def test_the_published_cluster_loads_as_its_authors_describe_it(traces_dir: Path) -> None:
    """1,523 nodes with 6,212 GPUs; 8,152 tasks; every model known, three of them undisclosed."""
    folder = traces_dir / "openb"
    recorded = load_recorded_cluster(
        folder / "openb_node_list_all_node.csv",
        folder / "openb_pod_list_default.csv",
        regions=["eu", "us", "ap"],
    )
    assert len(recorded.nodes) == 1523
    assert sum(node.gpu_count for node in recorded.nodes) == 6212
    assert len(recorded.tasks) == 8152
    assert {node.gpu_model for node in recorded.nodes} - {None} <= set(GPU_MEMORY_BYTES)
    per_region = Counter(node.region for node in recorded.nodes)
    assert max(per_region.values()) - min(per_region.values()) <= 27


def test_a_moment_of_the_published_cluster_runs_in_the_simulator(traces_dir: Path) -> None:
    """Placed by the fleet's own planner, what fits runs, and what does not is parked."""
    folder = traces_dir / "openb"
    fleet = load_recorded_cluster(
        folder / "openb_node_list_all_node.csv",
        folder / "openb_pod_list_default.csv",
        regions=["eu", "us", "ap"],
    ).at(11_900_000)
    assert fleet.agents
    cluster = SimulatedCluster(fleet.nodes)
    cluster.declare_agents(fleet.agents, fleet.reasons)
    planned = plan_initial_placements(fleet.agents, fleet.nodes, [], now=DEFAULT_START)
    cluster.apply_placements([p._replace(epoch=1) for p in planned])
    cluster.advance(5)
    wanted = {p.agent_id for p in planned if p.desired == "running"}
    seen = [agent for region in cluster.regions() for agent in cluster.agents(region)]
    assert {a.agent_id for a in seen if a.phase is AgentPhase.RUNNING} == wanted
    assert {a.agent_id for a in seen} == {a.agent_id for a in fleet.agents}
