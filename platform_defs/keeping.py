"""Two processes that keep each other's promise: whatever ends one of them, nothing stays behind.

`stateroom up` forks once. The parent (the *front*) holds the terminal, waits, and passes signals
on. The child (the *keeper*) starts and watches everything. Both adopt orphans of their descendants
(subreaper), so:

- the keeper ends: the front kills and reaps every process that is left;
- the front ends, even by SIGKILL: the kernel signals the keeper, which stops everything in order.

Only if both are killed in the same moment is it left to the started processes themselves, which
ask the kernel to be told when their parent ends.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from resources.local.linux_processes import become_subreaper, die_with_parent, end_children

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def split_front_from_keeper() -> None:
    """Fork; returns in the keeper only. The front exits with the keeper's exit code.

    Must be called before the process has a second thread.
    """
    become_subreaper()
    front_pid = os.getpid()
    sys.stdout.flush()
    keeper_pid = os.fork()
    if keeper_pid == 0:
        os.setsid()  # Ctrl-C reaches the front only, which passes it on once
        become_subreaper()
        if not die_with_parent(front_pid, signal.SIGTERM):
            os._exit(1)
        return
    _wait_in_front(keeper_pid)


def _wait_in_front(keeper_pid: int) -> None:
    asked = 0

    def pass_on(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked += 1
        # a third request is impatience: the front then kills what is left
        os.kill(keeper_pid, signal.SIGTERM if asked < 3 else signal.SIGKILL)

    for number in SIGNALS:
        signal.signal(number, pass_on)
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == keeper_pid:
            break
    end_children()
    code = os.waitstatus_to_exitcode(status)
    sys.stdout.flush()
    os._exit(code if code >= 0 else 128 - code)
