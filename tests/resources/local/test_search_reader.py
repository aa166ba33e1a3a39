"""The node's reader process: real notes, and every way in which a process can fail its asker."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import (
    CorruptObjectError,
    InvalidInputError,
    NotFoundError,
    StoreUnavailableError,
)
from fleet.vectors.declaration import VectorDeclaration
from fleet.vectors.declaration_json import declaration_document, read_declaration
from resources.local.search_reader import SearchLimits, SearchReader
from tests.resources.vectors.text_world import GIVEN, TextWorld, declaration_at

PATIENT = SearchLimits(deadline_s=60.0, opening_s=50.0)


def _config(declaration: VectorDeclaration) -> dict[str, Any]:
    return {"vectors": declaration_document(declaration)}


def _question(text: str = "disk was busy", **more: Any) -> dict[str, Any]:
    return {"text": text, "k": 2, "where": None, "hybrid": False, **more}


def _run(reader: SearchReader, work: Coroutine[Any, Any, None]) -> None:
    async def all_of_it() -> None:
        try:
            await work
        finally:
            await reader.close()

    asyncio.run(all_of_it())


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_reader_answers_each_network_apart_and_is_replaced_when_it_dies(tmp_path: Path) -> None:
    """Real notes; new generations; wrong questions; a killed process; the end at `close`."""
    world = TextWorld(declaration_at(tmp_path, ("watch", "trade", "empty"), given=("own",)))
    world.remember("watch")
    world.build("watch")
    world.remember("trade", ["Bought 30 shares at noon."])
    trade = world.build("trade")
    world.remember("own", ["one", "two"], [(1, 0, 0), (0, 1, 0)])
    world.build("own")
    reader = SearchReader(_config(world.declaration), PATIENT)
    assert reader.pid is None

    async def work() -> None:
        answer = await reader.ask("watch", _question())
        assert answer["hits"][0]["text"].startswith("Disk sda was busy")
        assert (answer["method"], answer["candidates"], answer["warning"]) == ("exact", 4, "")
        assert len(answer["hits"]) == 2
        west = await reader.ask("watch", _question(where="region = 'us-west-2'", hybrid=True))
        assert {hit["region"] for hit in west["hits"]} == {"us-west-2"}
        other = await reader.ask("trade", _question())
        assert [hit["text"] for hit in other["hits"]] == ["Bought 30 shares at noon."]
        with pytest.raises(NotFoundError, match="empty has no vector index"):
            await reader.ask("empty", _question())
        with pytest.raises(InvalidInputError, match="network: 'stranger'"):
            await reader.ask("stranger", _question())
        given = _question(vector={"model": "three", "values": [0.0, 2.0, 0.1]})
        assert (await reader.ask("own", given))["hits"][0]["text"] == "two"
        with pytest.raises(InvalidInputError, match="'3 x three' is not valid; allowed: 256 x"):
            await reader.ask("watch", given)
        with pytest.raises(InvalidInputError, match="a vector of model three"):
            await reader.ask("own", _question())
        first = reader.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        assert (await reader.ask("watch", _question()))["hits"] == answer["hits"]
        assert reader.pid not in {None, first}
        world.damage(trade)
        os.kill(reader.pid or 0, signal.SIGKILL)
        world.indexes.store._copies.trim("trade", set())
        with pytest.raises(CorruptObjectError, match=r"index\.faiss\.0000"):
            await reader.ask("trade", _question())

    _run(reader, work())
    assert reader.pid is None
    counts = reader.counts
    assert (counts.answered, counts.refused, counts.unavailable, counts.starts) == (5, 5, 0, 3)


def test_a_reader_follows_new_generations_and_keeps_the_old_one_where_the_new_is_damaged(
    tmp_path: Path,
) -> None:
    """A warning says so; nothing is answered from damaged bytes."""
    world = TextWorld(declaration_at(tmp_path))
    world.remember("watch", ["The first note."])
    first = world.build("watch")
    reader = SearchReader(_config(world.declaration), PATIENT)

    async def until(generation: str, *, warned: bool) -> dict[str, Any]:
        give_up_s = time.monotonic() + 60.0
        while True:
            answer = await reader.ask("watch", _question(k=5))
            if (answer["generation"], bool(answer["warning"])) == (generation, warned):
                return answer
            assert time.monotonic() < give_up_s, answer
            await asyncio.sleep(0.05)

    async def work() -> None:
        await until(first.generation, warned=False)
        world.remember("watch", ["The second note."])
        second = world.build("watch")
        assert len((await until(second.generation, warned=False))["hits"]) == 2
        where = "created_at > '2026-01-01' and not text in ('x') and not text like 'y%'"
        assert len((await reader.ask("watch", _question(where=where)))["hits"]) == 2
        # Arrow would import pandas at the first value that it converts: 34 MB of every reader.
        assert "pandas" not in _maps(reader.pid)
        world.remember("watch", ["The third note."])
        model = world.indexes.embedder("watch").model
        builder = world.indexes.builder("watch")
        store, publish = world.indexes.store, world.indexes.store.publish

        def damaged(manifest: Any, pointer: Any) -> Any:
            world.damage(pointer)
            return publish(manifest, pointer)

        store.publish = damaged  # type: ignore[method-assign]
        builder.refresh("watch", model, 0)
        answer = await until(second.generation, warned=True)
        assert "differ" in answer["warning"]
        assert len(answer["hits"]) == 2

    _run(reader, work())


def _maps(pid: int | None) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


def _script(body: str) -> list[str]:
    """A process in the reader's place that speaks its protocol as badly as wanted."""
    head = (
        "import json, socket, struct, sys, time\n"
        "s = socket.socket(fileno=int(sys.argv[1])).makefile('rwb')\n"
        "def read():\n"
        "    n = struct.unpack('>I', s.read(4))[0]\n"
        "    return json.loads(s.read(n))\n"
        "def say(number, **more):\n"
        "    b = json.dumps({'number': number, **more}).encode()\n"
        "    s.write(struct.pack('>I', len(b)) + b); s.flush()\n"
        "read()\n"
    )
    return [sys.executable, "-c", head + body]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("sys.exit(3)", "ended twice, with code 3"),
        ("say(0); read(); s.write(b'\\0\\0'); s.flush(); sys.exit(1)", "ended twice, with code 1"),
        ("s.write(b'\\xff' * 8); s.flush(); time.sleep(60)", "ended twice, with code -9"),
        ("say(0); read(); say('x', answer=3); sys.exit(2)", "ended twice, with code 2"),
    ],
)
def test_a_reader_that_ends_or_talks_nonsense_is_told_and_not_started_again_at_once(
    body: str, reason: str
) -> None:
    """Twice for one question, then a pause; then anew."""
    limits = SearchLimits(deadline_s=30.0, hold_off_s=30.0)
    reader = SearchReader({}, limits, _script(body))

    async def work() -> None:
        with pytest.raises(StoreUnavailableError, match=reason):
            await reader.ask("watch", _question())
        assert (reader.counts.starts, reader.pid) == (2, None)
        with pytest.raises(StoreUnavailableError, match="again and again"):
            await reader.ask("watch", _question())
        assert reader.counts.starts == 2

    _run(reader, work())


def test_a_stuck_reader_is_ended_at_the_deadline_and_a_crowd_is_refused_at_once() -> None:
    """One is asked, two wait, the rest hears no at once; all are told within the deadline."""
    limits = SearchLimits(deadline_s=2.0, queue_max=3)
    # Answers once, then never: it sleeps for longer than the test takes, and is ended.
    body = "say(0); say(read()['number'], answer={}); read(); time.sleep(60)"
    reader = SearchReader({}, limits, _script(body))

    async def work() -> None:
        while not reader.counts.answered:
            with suppress(StoreUnavailableError):
                await reader.ask("watch", _question())
        told_before = reader.counts.unavailable
        asked = [asyncio.create_task(reader.ask("watch", _question())) for _ in range(5)]
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(one, StoreUnavailableError) for one in results)
        said = sorted(str(one) for one in results)
        assert said[:2] == ["3 searches wait on this node"] * 2
        assert set(said[2:]) == {"no answer in 2 s"}
        assert reader.pid is None
        assert reader.counts.unavailable == told_before + 5

    _run(reader, work())


def test_a_question_whose_turn_came_late_costs_the_reader_neither_its_life_nor_work() -> None:
    """Killed for a crowd it would open its indexes anew, for the next crowd.

    It is asked nothing while it owes an answer, and ended once it has owed one for too long.
    """
    # 1.5 s is three deadlines: slow, but it answers; the stuck one is ended long before its minute.
    body = (
        "say(0); seen = []\nwhile True:\n"
        "    q = read(); seen.append(q['text'])\n"
        "    time.sleep({'slow': 1.5, 'stuck': 60}.get(q['text'], 0))\n"
        "    say(q['number'], answer={'seen': seen})"
    )
    now_s = [0.0]
    limits = SearchLimits(deadline_s=0.5)
    reader = SearchReader({}, limits, _script(body), steady_now=lambda: now_s[0])

    async def answered() -> list[str]:
        while True:
            with suppress(StoreUnavailableError):
                return list((await reader.ask("watch", _question("quick")))["seen"])

    async def work() -> None:
        await answered()
        crowd = [reader.ask("watch", _question(text)) for text in ("slow", "crowd", "crowd")]
        told = await asyncio.gather(*crowd, return_exceptions=True)
        assert [str(one) for one in told] == ["no answer in 0.5 s"] * 3
        assert set(await answered()) == {"quick", "slow"}
        assert reader.counts.starts == 1
        for owed_s in (0.0, limits.deadline_s / 2):
            now_s[0] += owed_s
            with pytest.raises(StoreUnavailableError, match="no answer in"):
                await reader.ask("watch", _question("stuck"))
            assert (reader.pid is None) == (owed_s > 0)

    _run(reader, work())


def test_a_reader_that_loads_slowly_is_waited_for_and_late_answers_are_dropped() -> None:
    """Killed at each deadline it would never come up; what it owes goes to nobody else."""
    body = "time.sleep(1.5); say(0)\nwhile True: q = read(); say(q['number'], answer=q)"
    reader = SearchReader({}, SearchLimits(deadline_s=0.2), _script(body))

    async def work() -> None:
        tries = 0
        while True:
            tries += 1
            with suppress(StoreUnavailableError):
                answer = await reader.ask("watch", _question(str(tries)))
                break
        assert tries > 1
        assert answer["text"] == str(tries)
        assert reader.counts.starts == 1

    _run(reader, work())


def test_a_question_under_way_when_the_node_stops_is_told_and_starts_nothing() -> None:
    """The reader is gone when `close` returns, and no other one comes."""
    reader = SearchReader({}, SearchLimits(deadline_s=30.0), _script("say(0); time.sleep(60)"))

    async def work() -> None:
        asked = asyncio.create_task(reader.ask("watch", _question()))
        while reader.pid is None:  # noqa: ASYNC110 - it starts within milliseconds
            await asyncio.sleep(0.01)
        pid = reader.pid
        await reader.close()
        with pytest.raises(StoreUnavailableError, match="the node is stopping"):
            await asked
        assert _is_gone(pid)
        with pytest.raises(StoreUnavailableError, match="the node is stopping"):
            await reader.ask("watch", _question())
        assert reader.counts.starts == 1

    _run(reader, work())
    assert reader.pid is None


def test_a_reader_that_nobody_asks_is_ended() -> None:
    """It holds an index in memory; the next question starts another one."""
    answer = "say(0); say(read()['number'], answer={})"
    limits = SearchLimits(deadline_s=30.0, idle_s=0.2)
    reader = SearchReader({}, limits, _script(f"{answer}\ntime.sleep(60)"))

    async def work() -> None:
        assert await reader.ask("watch", _question()) == {}
        pid = reader.pid
        assert pid is not None
        give_up_s = time.monotonic() + 30.0
        while reader.pid is not None:
            assert time.monotonic() < give_up_s
            await asyncio.sleep(0.02)
        assert await reader.ask("watch", _question()) == {}
        assert reader.counts.starts == 2
        while not _is_gone(pid):  # killed: the kernel ends it when it comes to that
            assert time.monotonic() < give_up_s
            await asyncio.sleep(0.02)

    _run(reader, work())


def test_a_declaration_goes_through_json_unchanged_and_anything_else_is_refused(
    tmp_path: Path,
) -> None:
    """What a node is told is what was declared."""
    declared = declaration_at(tmp_path, given=("own",))
    assert read_declaration(declaration_document(declared)) == declared
    assert declared.network("own").given == GIVEN
    document = declaration_document(declared)
    odd: list[dict[str, Any]] = [
        {**document, "colour": 1},
        {"networks": []},
        {**document, "adopted": [{}]},
    ]
    for wrong in odd:
        with pytest.raises(InvalidInputError, match="declaration of vector indexes"):
            read_declaration(wrong)
