"""An agent that keeps a ledger of what it was promised, outside of every store of the fleet."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

from stateroom_agent.agent import Agent


def keep_ledger(agent: Agent) -> None:
    """Count in durable state; write each acknowledged version down before the next is asked for.

    A line of the ledger is `epoch version digest`. One `write` with O_APPEND each: a line is there
    whole or not at all when the process is killed. The body names the life that wrote it, so two
    copies never write the same bytes. A file per life names its process.
    """
    folder, life = Path(agent.arguments["ledger"]), f"{os.getpid()}-{time.monotonic_ns()}"
    (folder / f"{agent.agent_id}.{life}.life").write_text(f"{agent.epoch} {_start_ticks()}")
    agent.register()
    body = agent.load_state()
    number = 0 if body is None else json.loads(body)["number"]
    pages = folder / f"{agent.agent_id}.ledger"
    ledger = os.open(pages, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    pause_s = agent.argument_s("pause_s", 0.1)
    while not agent.heartbeat():
        number += 1
        body = json.dumps({"number": number, "epoch": agent.epoch, "life": life}).encode()
        version = agent.save_state(body)
        line = f"{agent.epoch} {version} {hashlib.sha256(body).hexdigest()}\n".encode()
        assert os.write(ledger, line) == len(line)
        time.sleep(pause_s)


def _start_ticks() -> int:
    """When this process began: field 22 of proc(5)."""
    text = Path("/proc/self/stat").read_bytes()
    return int(text[text.rindex(b")") + 2 :].split()[19])
