"""Run workers are forked from a warm parent, and start without it when there is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]

PARENT = """
from platform_defs.warm_workers import become_warm_parent

def load():
    import decimal
    {load}

become_warm_parent(load)
"""

PROBE = """
import json, os, signal, sys, time
from multiprocessing import forkserver, util
from platform_defs import warm_workers

CONTEXT = warm_workers.WarmContext()

def tell(queue, pause_s=0.0):
    warm = "decimal" in sys.modules
    queue.put({{"pid": os.getpid(), "parent": os.getppid(), "warm": warm}})
    time.sleep(pause_s)

def start(pause_s=0.0):
    queue = CONTEXT.Queue()
    process = CONTEXT.Process(target=tell, args=(queue, pause_s))
    process.start()
    return process, queue.get(timeout=60)

def warm_pid():
    return forkserver._forkserver._forkserver_pid

if __name__ == "__main__":
    said = {{"own": os.getpid()}}
    warm_workers.start_warm_parent("light_parent")
    {steps}
    print(json.dumps(said))
"""


def probe(folder: Path, steps: str, load: str = "pass") -> dict[str, Any]:
    """What a process says that starts workers from a light warm parent, and that parent's log."""
    (folder / "light_parent.py").write_text(PARENT.format(load=load), encoding="utf-8")
    script = folder / "probe.py"
    indented = "\n    ".join(steps.strip().splitlines())
    script.write_text(PROBE.format(steps=indented), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{folder}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "log": done.stderr}


def test_a_worker_shares_its_fate_with_the_warm_parent_and_the_next_run_has_another(
    tmp_path: Path,
) -> None:
    """SIGTERM ends a worker and not its warm parent; SIGKILL of the warm parent ends both.

    Workers have everything imported, also those of the next warm parent.
    """
    said = probe(
        tmp_path,
        """
process, said["first"] = start()
process.join(); said["first code"] = process.exitcode
said["warm parent"] = warm_pid()
os.kill(warm_pid(), signal.SIGTERM)
process, said["second"] = start(600)
os.kill(process.pid, signal.SIGTERM)
process.join(); said["second code"] = process.exitcode
process, said["third"] = start(600)
os.kill(warm_pid(), signal.SIGKILL)
process.join(60); said["third code"] = process.exitcode
end_s = time.monotonic() + 60
while os.path.exists(f"/proc/{process.pid}") and time.monotonic() < end_s:
    state = open(f"/proc/{process.pid}/stat").read().rpartition(")")[2].split()[0]
    if state == "Z":
        break
    time.sleep(0.01)
else:
    assert time.monotonic() < end_s, "the worker outlives its warm parent"
process, said["fourth"] = start()
process.join(); said["fourth code"] = process.exitcode
said["new warm parent"] = warm_pid()
""",
    )
    first, second, third, fourth = (said[one] for one in ("first", "second", "third", "fourth"))
    assert [one["warm"] for one in (first, second, third, fourth)] == [True] * 4
    assert first["parent"] == second["parent"] == third["parent"] == said["warm parent"]
    assert fourth["parent"] == said["new warm parent"] != said["warm parent"]
    codes = [said[f"{one} code"] for one in ("first", "second", "third", "fourth")]
    assert codes == [0, -15, 255, 0]  # 255: what Python says of a process it has lost track of


def test_the_definitions_and_what_runs_import_first_load_without_a_thread() -> None:
    """The real warm parent gets ready: with two threads it would refuse to."""
    done = subprocess.run(
        [sys.executable, "-c", "import platform_defs.warm_parent; print('ready')"],
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'sdk'}"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "ready\n"), done.stderr


@pytest.mark.parametrize(
    ("load", "timeout_s", "reason"),
    [
        ("import no_such_module", 45.0, "No module named 'no_such_module'"),
        (
            "import threading, time; threading.Thread(target=time.sleep, args=(9,)).start()",
            45.0,
            "2 threads after loading",
        ),
        ("import time; time.sleep(600)", 0.2, "has not forked within 0.2 s"),
    ],
    ids=["the imports fail", "an import starts a thread", "the imports hang"],
)
def test_without_a_warm_parent_a_worker_starts_in_a_fresh_interpreter(
    load: str, timeout_s: float, reason: str, tmp_path: Path
) -> None:
    """Once, as a child of the code server; the log says why, and the next one does not try."""
    said = probe(
        tmp_path,
        f"""
warm_workers.FORK_TIMEOUT_S = {timeout_s}
said["codes"], said["workers"] = [], []
for _ in range(2):
    process, worker = start()
    said["workers"].append(worker)
    process.join(); said["codes"].append(process.exitcode)
if {timeout_s} < 1:
    os.kill(warm_pid(), signal.SIGKILL)
""",
        load,
    )
    workers = [(one["parent"], one["warm"]) for one in said["workers"]]
    assert workers == [(said["own"], False)] * 2
    assert said["codes"] == [0, 0]
    assert reason in said["log"]
    assert said["log"].count("runs start in fresh interpreters") == 1
