"""Freezes a node for a time: `python -m resources.local.pause PID START_TICKS SECONDS`.

Ends with 0 as soon as the node stands still, and leaves a process behind, in the session of its
own, that wakes the node at the appointed time although the command that ordered the pause has long
ended. If that process is killed, the node stays frozen until `start_node` or `stop_nodes` wakes it.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from resources.local.linux_processes import ProcessIdentity, set_process_name, signal_group


def main(arguments: list[str]) -> int:
    """Stop the process group and see to its waking; 1 when the process is gone."""
    leader = ProcessIdentity(int(arguments[0]), int(arguments[1]))
    duration_s = float(arguments[2])
    if not signal_group(leader, signal.SIGSTOP):
        return 1
    if os.fork() > 0:
        return 0
    set_process_name("pause")
    nothing = os.open(os.devnull, os.O_RDWR)
    for target in (0, 1, 2):
        os.dup2(nothing, target)
    time.sleep(duration_s)
    signal_group(leader, signal.SIGCONT)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
