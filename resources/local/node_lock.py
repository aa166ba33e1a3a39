"""One supervisor per node and state folder, whatever happens at the same moment."""

from __future__ import annotations

import fcntl
import os

from fleet.errors import AlreadyRunningError
from resources.local.node_spec import NodeSpec, read_run


def lock_node(spec: NodeSpec) -> int:
    """Claim the node on this state folder for this process, until it ends in whichever way.

    Raises:
        AlreadyRunningError: another process has it.
    """
    path = spec.run_path.with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        before = read_run(spec.run_path)
        who = "" if before is None else f": pid {before.process.pid}, boot {before.boot_id}"
        raise AlreadyRunningError(
            f"node {spec.node.node_id} runs already{who}", hint="Stop it first: stateroom down."
        ) from error
    return lock
