"""An agent that works off a queue of files, and the command that fills it: load that can be raised.

A task is a file in the folder `waiting` of the queue. A worker claims one by renaming it into
`taken`, works, and removes it; what a worker that died had taken, its next life puts back. Each
reports how many wait (`queue_waiting`), which is what its workload is scaled by.

    python -m stateroom_agent.queue_worker /tmp/stateroom-queue 500

puts 500 tasks into a queue. Arguments of the workload: `queue_path` (required), `task_s` (1): how
long a task takes, `interval_s` (1): between two looks at the queue.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from stateroom_agent.agent import Agent
from stateroom_agent.errors import InvalidSetupError

TASK_S = 1.0
INTERVAL_S = 1.0
TASKS_MAX = 1_000_000
"""Tasks that one call puts into a queue: refuses a slip of the keyboard."""


class FileQueue:
    """A queue of files, shared by all workers of this machine."""

    def __init__(self, path: Path) -> None:
        """Make its folders where they are missing."""
        self._waiting, self._taken = path / "waiting", path / "taken"
        for folder in (self._waiting, self._taken):
            folder.mkdir(parents=True, exist_ok=True)

    def put(self, count: int) -> None:
        """Add tasks; each is there as a whole or not at all."""
        first = time.time_ns()
        for number in range(count):
            (self._waiting / f"{first + number:020d}").touch(exist_ok=False)

    def waiting(self) -> int:
        """How many nobody has taken."""
        return sum(1 for _ in os.scandir(self._waiting))

    def take(self, worker: str) -> str:
        """Claim the oldest task, one of them at least; empty when there is none.

        Of two workers that want one task the second finds it gone, and takes the next.
        """
        for name in sorted(os.listdir(self._waiting)):  # noqa: PTH208  # names, not paths
            try:
                (self._waiting / name).rename(self._taken / f"{worker}@{name}")
            except FileNotFoundError:
                continue
            return name
        return ""

    def finish(self, worker: str, task: str) -> None:
        """The task is done."""
        (self._taken / f"{worker}@{task}").unlink(missing_ok=True)

    def put_back(self, worker: str) -> int:
        """What an earlier life of this worker had taken waits again; how many those were."""
        left = [name for name in os.listdir(self._taken) if name.startswith(f"{worker}@")]  # noqa: PTH208
        for name in left:
            (self._taken / name).rename(self._waiting / name.partition("@")[2])
        return len(left)


def work_off_queue(agent: Agent) -> None:
    """Take task after task until told to stop.

    Raises:
        InvalidSetupError: the workload's arguments name no queue.
    """
    path = agent.arguments.get("queue_path", "")
    if not path:
        raise InvalidSetupError(
            "argument queue_path is missing", "Set it in the workload's [arguments]."
        )
    queue = FileQueue(Path(path).expanduser())
    task_s = agent.argument_s("task_s", TASK_S)
    body = agent.load_state()
    done = int(json.loads(body)["done"]) if body else 0
    queue.put_back(agent.agent_id)

    def step() -> bool:
        nonlocal done
        agent.metrics({"queue_waiting": float(queue.waiting()), "tasks_done": float(done)})
        task = queue.take(agent.agent_id)
        if task:
            time.sleep(task_s)
            queue.finish(agent.agent_id, task)
            done += 1
        return True

    agent.run(
        step,
        agent.argument_s("interval_s", INTERVAL_S),
        lambda: json.dumps({"done": done}).encode(),
    )


def main(words: list[str]) -> int:
    """Put tasks into a queue; returns the exit code."""
    if len(words) != 2 or not words[1].isdecimal() or not 0 < int(words[1]) <= TASKS_MAX:
        sys.stderr.write(f"use: queue_worker PATH COUNT, with 1 to {TASKS_MAX} tasks\n")
        return 2
    queue = FileQueue(Path(words[0]).expanduser())
    queue.put(int(words[1]))
    sys.stdout.write(f"{queue.waiting()} tasks wait in {words[0]}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
