"""The warm parent: starts, reports, ends; nothing outlives it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import InvalidInputError
from resources.local.linux_processes import boottime_s, identify, is_alive
from resources.local.zygote import EXIT_FAILED, MESSAGE_MAX_BYTES
from resources.local.zygote_client import AgentProgram, ZygoteClient
from tests.resources.local.fleets import eventually

TIMEOUT_S = 20.0


class Talk:
    """A zygote and its events in order."""

    def __init__(self, folder: Path) -> None:
        """Logs go to `folder`."""
        self.folder = folder
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.client = ZygoteClient(self.events.put_nowait)

    async def event(self) -> dict[str, Any]:
        """The next event."""
        return await asyncio.wait_for(self.events.get(), TIMEOUT_S)

    def program(self, *command: str, function: str | None = None, **env: str) -> AgentProgram:
        """A program whose output goes to `log`."""
        return AgentProgram("agent", function, command, env, str(self.folder / "log"))

    async def start(self, *command: str, function: str | None = None) -> int:
        """Start an agent; returns its pid."""
        ref = self.client.spawn(self.program(*command, function=function))
        event = await self.event()
        assert (event["event"], event["ref"]) == ("started", ref)
        pid: int = event["pid"]
        return pid

    def log(self) -> str:
        """What agents wrote."""
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""


@asynccontextmanager
async def talking(folder: Path) -> AsyncIterator[Talk]:
    """A started zygote, stopped at the end."""
    talk = Talk(folder)
    talk.client.start()
    try:
        yield talk
    finally:
        await talk.client.stop()


def read_status(pid: int | None) -> str:
    """The kernel's facts about a process."""
    return Path(f"/proc/{pid}/status").read_text()


def run(folder: Path, story: Callable[[Talk], Coroutine[Any, Any, None]]) -> None:
    """Play a story with a zygote."""

    async def play() -> None:
        async with talking(folder) as talk:
            await story(talk)

    asyncio.run(play())


@pytest.fixture(autouse=True)
def _import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """The zygote imports what this process imports."""
    import sys

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))


def test_each_end_is_reported_once_with_code_or_signal(tmp_path: Path) -> None:
    """Exit codes are positive, deaths by signal negative."""

    async def story(talk: Talk) -> None:
        pid = await talk.start("sh", "-c", "exit 3")
        assert await talk.event() == {"event": "exited", "pid": pid, "code": 3}
        pid = await talk.start("sleep", "1000")
        talk.client.send_signal(pid, signal.SIGTERM)
        assert await talk.event() == {"event": "exited", "pid": pid, "code": -signal.SIGTERM}
        assert talk.events.empty()

    run(tmp_path, story)


def test_output_is_appended_and_input_is_empty(tmp_path: Path) -> None:
    """Standard output and error share the log; reading gives end of file."""

    async def story(talk: Talk) -> None:
        for word in ("one", "two"):
            await talk.start("sh", "-c", f"cat; echo {word}; echo {word}! >&2")
            await talk.event()
        assert talk.log() == "one\none!\ntwo\ntwo!\n"

    run(tmp_path, story)


def test_a_function_that_raises_leaves_its_traceback(tmp_path: Path) -> None:
    """And ends with the code for it."""

    async def story(talk: Talk) -> None:
        await talk.start(function="tests.resources.local.no_such_module:f")
        assert (await talk.event())["code"] == EXIT_FAILED
        assert "ModuleNotFoundError" in talk.log()

    run(tmp_path, story)


def test_a_module_that_starts_threads_is_imported_by_its_agents_only(tmp_path: Path) -> None:
    """A fork of a threaded zygote could hang; the zygote stays single-threaded."""
    (tmp_path / "threaded_module.py").write_text(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "def f(agent): print('called', flush=True)\n"
    )

    async def story(talk: Talk) -> None:
        environment = {"AGENT_ID": "a", "NETWORK_ID": "n", "EPOCH": "1", "STATEROOM_SOCKET": "s"}
        program = talk.program(function="threaded_module:f", **environment)
        talk.client.spawn(program)
        await talk.event()
        assert (await talk.event())["code"] == 0
        assert talk.log() == "called\n"
        status = read_status(talk.client.pid)
        assert "Threads:\t1\n" in status

    os.environ["PYTHONPATH"] += os.pathsep + str(tmp_path)
    run(tmp_path, story)


def test_what_an_agent_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    """Also when it has left the process group."""

    async def story(talk: Talk) -> None:
        script = "sleep 1000 & echo $!; setsid sleep 1000 & echo $!"
        await talk.start("sh", "-c", script)
        await talk.event()
        left = [int(line) for line in talk.log().split()]
        eventually(lambda: not any(identify(pid) for pid in left), "the grandchildren are gone")

    run(tmp_path, story)


def test_a_killed_zygote_takes_its_agents_along(tmp_path: Path) -> None:
    """The kernel sees to it; the client tells of the loss once."""

    async def story(talk: Talk) -> None:
        agents = [identify(await talk.start("sleep", "1000")) for _ in range(3)]
        os.kill(talk.client.pid or 0, signal.SIGKILL)
        assert await talk.event() == {"event": "lost", "code": -signal.SIGKILL}
        for agent in agents:
            assert agent is not None
            eventually(lambda agent=agent: not is_alive(agent), "agent is gone")
        assert talk.client.pid is None

    run(tmp_path, story)


def test_the_end_of_the_channel_ends_everything(tmp_path: Path) -> None:
    """Closing it is the order to end; agents that ignore SIGTERM end too."""
    agents = []

    async def story(talk: Talk) -> None:
        script = "trap '' TERM INT HUP; echo up; while :; do sleep 0.05; done"
        agents.append(identify(await talk.start("sh", "-c", script)))
        await asyncio.to_thread(eventually, lambda: "up" in talk.log(), "it ignores signals")

    run(tmp_path, story)
    assert agents[0] is not None
    assert not is_alive(agents[0])


def test_the_dead_mans_switch_kills_and_refuses_until_it_is_extended(tmp_path: Path) -> None:
    """No agent lives past the deadline and none is started after it."""

    async def story(talk: Talk) -> None:
        talk.client.extend_deadline(boottime_s() + 60.0)
        pid = await talk.start("sleep", "1000")
        deadline_s = boottime_s() + 0.1
        talk.client.extend_deadline(deadline_s)
        assert await talk.event() == {"event": "fenced", "killed": 1}
        assert boottime_s() >= deadline_s
        assert await talk.event() == {"event": "exited", "pid": pid, "code": -signal.SIGKILL}
        ref = talk.client.spawn(talk.program("sleep", "1000"))
        refused = await talk.event()
        assert (refused["event"], refused["ref"]) == ("refused", ref)
        talk.client.extend_deadline(boottime_s() + 60.0)
        await talk.start("sleep", "1000")

    run(tmp_path, story)


def test_agents_that_are_told_to_stop_at_once_obey(tmp_path: Path) -> None:
    """A signal right after the fork meets the agent's own handlers, not the zygote's."""

    async def story(talk: Talk) -> None:
        for _ in range(30):
            pid = await talk.start(function="tests.resources.local.agents_for_tests:idle")
            talk.client.send_signal(pid, signal.SIGTERM)
            assert (await talk.event())["event"] == "exited"

    run(tmp_path, story)


def test_a_signal_for_a_pid_that_is_no_agent_goes_nowhere(tmp_path: Path) -> None:
    """Only unreaped children are signalled, so a pid that is used again is safe."""

    async def story(talk: Talk) -> None:
        bystander = await asyncio.create_subprocess_exec("sleep", "1000")
        talk.client.send_signal(bystander.pid, signal.SIGKILL)
        await talk.start("true")
        await talk.event()
        assert bystander.returncode is None
        bystander.kill()
        await bystander.wait()

    run(tmp_path, story)


def test_arguments_that_fit_in_no_message_are_refused(tmp_path: Path) -> None:
    """The error names the limit; the zygote is not disturbed."""

    async def story(talk: Talk) -> None:
        with pytest.raises(InvalidInputError, match=str(MESSAGE_MAX_BYTES)):
            talk.client.spawn(talk.program("echo", "x" * MESSAGE_MAX_BYTES))
        await talk.start("true")
        await talk.event()

    run(tmp_path, story)


def test_hundreds_of_orders_at_once_are_all_carried_out(tmp_path: Path) -> None:
    """More than the socket holds: they wait in order, and nobody blocks."""

    async def story(talk: Talk) -> None:
        padding = "x" * 5000
        for _ in range(300):
            talk.client.spawn(talk.program("true", padding))
        started, ended = set(), set()
        while len(ended) < 300:
            event = await talk.event()
            (started if event["event"] == "started" else ended).add(event["pid"])
        assert started == ended

    run(tmp_path, story)
