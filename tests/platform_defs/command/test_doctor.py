"""Each thing that can be wrong is found, said, and has its remedy."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from fleet.gpu_leases import GpuLeaseWish
from fleet.gpu_memory import GIB
from platform_defs import gpu_health, health_checks
from platform_defs.command import exit_codes
from platform_defs.command.store_access import fleet_store
from platform_defs.gpu_health import check_gpu
from platform_defs.health_checks import daemon_finding, read_constraints
from platform_defs.health_finding import Context, Finding
from platform_defs.settings import load_settings
from platform_defs.state_folder import UpRun
from resources.gpu import devices
from resources.gpu.devices import Finding as GpuSeen
from tests.platform_defs.command.conftest import Run

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def context(fleet_dir: Path) -> Context:
    """A fleet that was never started."""
    return Context(load_settings(), None, ROOT)


def only(found: list[Finding]) -> Finding:
    """The one finding."""
    (finding,) = found
    return finding


def test_a_fresh_checkout_has_nothing_wrong(run: Run) -> None:
    """Exit code 0, each check is named once at least, in text and as JSON."""
    done = run("doctor", STATEROOM_WEB__PORT="0")
    assert done.exit_code == exit_codes.OK, done.output
    assert done.stdout.splitlines()[-1].startswith("0 wrong, ")
    found = json.loads(run("doctor", "--json", STATEROOM_WEB__PORT="0").stdout)
    assert {f["check"] for f in found} >= {
        "python", "versions", "bytecode", "state_folder", "disk", "clock", "ntp", "ports",
        "store", "lake", "dagster",
    }  # fmt: skip
    assert all(f["remedy"] for f in found if f["verdict"] in {"warn", "wrong"})


def test_a_port_in_use_is_wrong_with_its_owner(run: Run) -> None:
    """Exit code 1."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = run("doctor", STATEROOM_WEB__PORT=str(server.getsockname()[1]))
    assert done.exit_code == exit_codes.FINDING
    assert f"is in use by pid {os.getpid()}" in done.stdout


def test_an_old_store_of_a_stopped_fleet_is_no_alarm(run: Run, filled: Path) -> None:
    """Silent nodes are expected while nothing runs."""
    found = json.loads(run("doctor", "--json", STATEROOM_WEB__PORT="0").stdout)
    verdicts = {f["check"]: f["verdict"] for f in found}
    assert verdicts["store"] == "ok"
    assert verdicts["supervisors"] == "skipped"


def test_silent_nodes_of_a_running_fleet_are_wrong(context: Context, filled: Path) -> None:
    """Two of three nodes of the fixture give no heartbeat."""
    running = context._replace(running=UpRun(1, "", "", ready=True))
    store, supervisors = health_checks.check_store(running)
    assert store.verdict == "ok"
    assert supervisors.verdict == "wrong"
    assert supervisors.said == "2 of 3 nodes give no heartbeat (eu, us-west-2)"


def test_a_damaged_store_is_wrong(context: Context, filled: Path) -> None:
    """What cannot be opened is a finding, not a traceback."""
    for path in filled.glob("control.db*"):
        path.unlink()
    (filled / "control.db").write_bytes(b"x" * 10_000)
    found = {f.check: f for f in health_checks.run_checks(context)}
    assert found["store"].verdict == "wrong"


def test_a_state_folder_that_others_can_write_is_doubtful(context: Context) -> None:
    """The remedy is the command that repairs it."""
    folder = context.settings.fleet.state_dir
    folder.mkdir()
    folder.chmod(0o777)
    finding = only(list(health_checks.check_state_folder(context)))
    assert (finding.verdict, finding.remedy) == ("warn", f"chmod go-w {folder}")
    folder.chmod(0o700)
    assert only(list(health_checks.check_state_folder(context))).verdict == "ok"


def test_a_lake_that_is_no_folder_is_wrong(context: Context) -> None:
    """Nothing can be written below a file."""
    context.settings.lake.path.parent.mkdir(parents=True)
    context.settings.lake.path.write_text("")
    assert only(list(health_checks.check_lake(context))).verdict == "wrong"


@pytest.mark.parametrize(("free", "verdict"), [(10**8, "wrong"), (10**9, "warn"), (10**11, "ok")])
def test_a_full_disk_is_found_before_writes_fail(
    context: Context, monkeypatch: pytest.MonkeyPatch, free: int, verdict: str
) -> None:
    """256 MiB and 2 GiB are the limits."""
    usage = type("Usage", (), {"free": free})()
    monkeypatch.setattr(health_checks.shutil, "disk_usage", lambda _path: usage)
    assert {f.verdict for f in health_checks.check_disk(context)} == {verdict}


def test_a_clock_that_is_being_set_is_doubtful(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wall and monotonic clock must go on alike."""
    readings = iter([100.0, 130.0])
    monkeypatch.setattr(health_checks.time, "time", lambda: next(readings))
    monkeypatch.setattr(health_checks, "CLOCK_SAMPLE_S", 0.01)
    clock, _ = health_checks.check_clock(context)
    assert clock.verdict == "warn"
    assert "moved +" in clock.said


@pytest.mark.parametrize(
    ("running", "newest_s", "verdict"),
    [(0, None, "warn"), (2, None, "warn"), (2, 900.0, "wrong"), (2, 995.0, "ok")],
)
def test_the_daemon_is_judged_by_its_newest_tick(
    context: Context, running: int, newest_s: float | None, verdict: str
) -> None:
    """A hung daemon still has a heartbeat for half an hour; its ticks stop at once."""
    assert daemon_finding(running, newest_s, 1000.0, context.settings).verdict == verdict


def test_pins_of_other_platforms_are_left_out() -> None:
    """Comments, blank lines and markers are understood."""
    text = '# x\n\na==1\nb==2 ; sys_platform == "win32"\nc==3 ; python_version >= "3"\n'
    assert list(read_constraints(text)) == [("a", "1"), ("c", "3")]


def test_another_version_than_pinned_is_doubtful(context: Context, tmp_path: Path) -> None:
    """The finding names both versions."""
    (tmp_path / "constraints.txt").write_text("click==0.1\nno-such-distribution==1\n")
    finding = only(list(health_checks.check_versions(context._replace(root=tmp_path))))
    assert finding.verdict == "warn"
    assert finding.said.endswith("instead of 0.1")


def test_a_webserver_that_does_not_answer_is_wrong(context: Context) -> None:
    """A running fleet whose UI is gone."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    found = health_checks.run_checks(context._replace(running=UpRun(1, "", url, ready=True)))
    (dagster,) = [f for f in found if f.check == "dagster"]
    assert dagster.verdict == "wrong"
    assert "does not answer" in dagster.said


NO_GPU = {name: GpuSeen(0, f"{name} sees none") for name in ("nvml", "torch", "faiss")}


def test_gpus_are_told_with_what_each_library_sees(
    context: Context, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong only where one is required; leases and fallbacks are told when there are any."""
    monkeypatch.setattr(devices, "_found", dict(NO_GPU))
    found = only(list(check_gpu(context)))
    assert (found.verdict, "torch sees none" in found.said) == ("skipped", True)
    vectors = replace(context.settings.vectors, gpu="require")
    required = context._replace(settings=replace(context.settings, vectors=vectors))
    wrong = only(list(check_gpu(required)))
    assert wrong.verdict == "wrong"
    assert "[vectors]" in wrong.remedy
    monkeypatch.setattr(devices, "_found", {**NO_GPU, "torch": GpuSeen(1, "1 CUDA device")})
    with fleet_store(context.settings) as store:
        store.acquire_gpu(GpuLeaseWish("GPU-1", "m", "build", GIB, 9 * GIB))
        store.count_gpu_fallbacks("m", {"memory": 2})
    gpu, leases, fallbacks = check_gpu(required)
    assert (gpu.verdict, leases.verdict, fallbacks.verdict) == ("ok", "ok", "ok")
    assert leases.said.startswith("1.00 GiB of GPU-1 by build until ")
    assert fallbacks.said == "the processor took over from a GPU: 2 (memory) on m"


def test_two_wheels_of_one_module_are_wrong(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They overwrite each other's files; the remedy removes both."""
    monkeypatch.setattr(devices, "_found", dict(NO_GPU))
    monkeypatch.setattr(gpu_health, "FAISS_WHEELS", ("faiss-cpu", "numpy"))
    wheels, _ = check_gpu(context)
    assert wheels.verdict == "wrong"
    assert wheels.remedy.startswith("pip uninstall faiss-cpu numpy")
