"""Workers that share a queue of files: each task is done once, and none is lost with its worker."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stateroom_agent.agent import Agent
from stateroom_agent.errors import InvalidSetupError
from stateroom_agent.queue_worker import FileQueue, main, work_off_queue


def test_of_many_workers_each_takes_another_task(tmp_path: Path) -> None:
    """Two that want the same file: the second takes the next."""
    queue = FileQueue(tmp_path)
    queue.put(60)

    def work(worker: str) -> list[str]:
        mine = []
        while task := FileQueue(tmp_path).take(worker):
            queue.finish(worker, task)
            mine.append(task)
        return mine

    with ThreadPoolExecutor(4) as pool:
        taken = [task for found in pool.map(work, "abcd") for task in found]
    assert len(taken) == len(set(taken)) == 60
    assert queue.waiting() == 0


def test_what_a_worker_that_died_had_taken_waits_again(tmp_path: Path) -> None:
    """Its own alone: the others go on with theirs."""
    queue = FileQueue(tmp_path)
    queue.put(2)
    queue.take("a")
    queue.take("b")
    assert queue.waiting() == 0
    assert queue.put_back("a") == 1
    assert queue.waiting() == 1
    assert queue.put_back("a") == 0


def test_the_command_fills_a_queue_and_refuses_nonsense(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and nothing is made."""
    for words in ([], [str(tmp_path / "q")], [str(tmp_path / "q"), "0"], [str(tmp_path), "x"]):
        assert main(words) == 2
    assert not (tmp_path / "q").exists()
    assert main([str(tmp_path / "q"), "3"]) == 0
    assert "3 tasks wait" in capsys.readouterr().out


def test_a_workload_without_a_queue_is_told_so() -> None:
    """Before anything is registered."""
    agent = Agent("a", "net", 1, "/nowhere", {})
    try:
        with pytest.raises(InvalidSetupError, match="queue_path"):
            work_off_queue(agent)
    finally:
        agent.close()
