"""A code server that is asked to end does not wait for the ticks that wait."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

SCRIPT = """
import os, signal, threading, time
from dagster._utils.interrupts import setup_interrupt_handlers
from platform_defs.code_server import end_pauses_when_interrupted
from resources.clock import SystemClock

end_pauses_when_interrupted()
setup_interrupt_handlers()  # as `dagster api grpc` does: SIGTERM gets the handler of SIGINT
said = []
tick = threading.Thread(target=lambda: said.append(SystemClock().pause(3600.0)))
tick.start()
try:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
except KeyboardInterrupt:
    tick.join()
    print("interrupted", said, SystemClock().pause(3600.0))
"""


def test_sigterm_ends_every_pause_and_still_interrupts() -> None:
    """The tick's thread is joined at once, and no later pause begins."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "interrupted [False] False"), done.stderr
