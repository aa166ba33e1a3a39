"""`stateroom scaling simulate`: what it prints, draws and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from platform_defs.command import exit_codes
from tests.platform_defs.command.conftest import Run

SPEC = """
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: chat}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: chat}
  minReplicas: 1
  maxReplicas: 20
  metrics:
  - type: External
    external: {metric: {name: qps}, target: {type: AverageValue, averageValue: "%s"}}
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Two autoscalers, and two hours of load: quiet, a busy half hour, quiet."""
    careful, bold = tmp_path / "careful.yaml", tmp_path / "bold.yaml"
    careful.write_text(SPEC % "5")
    bold.write_text(SPEC % "9")
    load = tmp_path / "load.csv"
    rows = [f"{60 * minute},{80 if 30 <= minute < 60 else 10},chat" for minute in range(121)]
    load.write_text("\n".join(["time,value,app", *rows, "0,500,other"]))
    return careful, bold, load


def test_two_autoscalers_are_compared_with_a_static_fleet_and_drawn(
    run: Run, files: tuple[Path, Path, Path]
) -> None:
    """A table, a sentence for each, one between the two, and a line for each in the plot."""
    careful, bold, load = files
    done = run(
        "scaling", "simulate", "--spec", str(careful), "--spec", str(bold), "--load", str(load),
        "--where", "app=chat", "--replica-capacity", "10",
    )  # fmt: skip

    assert done.exit_code == exit_codes.OK, done.stderr
    assert "load 27.46 on average, 80 at most" in done.stdout
    assert "static, for the peak" in done.stdout
    assert "careful.yaml: chat is" in done.stdout
    assert "cheaper than careful.yaml: chat" in done.stdout
    assert "b  careful.yaml: chat" in done.stdout
    assert "c  bold.yaml: chat" in done.stdout


def test_the_document_has_the_model_and_every_step(
    run: Run, files: tuple[Path, Path, Path]
) -> None:
    """The capacity is the target where it is not given; replicas stand step by step."""
    careful, _, load = files
    done = run("scaling", "simulate", "--spec", str(careful), "--load", str(load), "--json",
               "--where", "app=chat", "--repeat", "2", "--price-per-hour", "3")  # fmt: skip

    assert done.exit_code == exit_codes.OK, done.stderr
    document = json.loads(done.stdout)
    assert document["model"]["replica_capacity"] == 5.0
    assert document["load"]["steps"] == 2 * 481
    peak, *_, scaled = document["fleets"]
    assert peak["replicas"] == [16] * 962
    assert peak["cost"] == pytest.approx(16 * 962 * 15 / 3600 * 3)
    assert scaled["name"] == "chat"
    assert max(scaled["replicas"]) == 16
    assert scaled["cost_of_peak_fleet"] == pytest.approx(scaled["cost"] / peak["cost"])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ([], "--spec FILE or --workload NAME"),
        (["--spec", "none.yaml"], "no file none.yaml"),
        (["--spec", "{spec}", "--where", "app"], "COLUMN=VALUE"),
        (["--spec", "{spec}", "--replica-capacity", "0"], "replica_capacity"),
        (["--spec", "{load}"], "HorizontalPodAutoscaler"),
        (["--workload", "nobody"], "no scaled workload 'nobody'"),
    ],
)
def test_what_cannot_be_replayed_is_refused_in_one_line(
    run: Run, files: tuple[Path, Path, Path], options: list[str], named: str
) -> None:
    """Each with its next step, none with a traceback."""
    careful, _, load = files
    given = [one.format(spec=careful, load=load) for one in options]
    done = run("scaling", "simulate", "--load", str(load), *given)

    assert done.exit_code == exit_codes.USAGE
    assert named in done.stderr
    assert "Traceback" not in done.stderr
