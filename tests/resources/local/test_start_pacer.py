"""Starts are given out in order, a few at a time, and never get stuck."""

from __future__ import annotations

import asyncio

from resources.local.start_pacer import WINDOW, StartPacer


class Starts:
    """Agents that come up when the test says so."""

    def __init__(self) -> None:
        """Nothing started yet."""
        self.started: list[str] = []
        self.up: set[str] = set()
        self.pacer = StartPacer(self.started.append, self.up.__contains__)

    async def reach(self, count: int, *, come_up: bool) -> None:
        """Wait until so many have started; those that have started come up, or never do."""
        while len(self.started) < count:
            if come_up:
                self.up.update(self.started)
            await asyncio.sleep(0.001)


NAMES = [f"a{n}" for n in range(3 * WINDOW)]


def test_no_more_than_the_window_is_under_way_and_the_order_is_kept() -> None:
    """The next one starts when an earlier one is up; a single start never waits."""

    async def story() -> None:
        starts = Starts()
        for name in NAMES:
            starts.pacer.add(name)
        assert starts.started == NAMES[:WINDOW]
        starts.up.update(NAMES[5:8])
        await starts.reach(WINDOW + 3, come_up=False)
        assert starts.started == NAMES[: WINDOW + 3]
        await starts.reach(len(NAMES), come_up=True)
        assert starts.started == NAMES

    asyncio.run(asyncio.wait_for(story(), 20))


def test_a_start_that_waits_can_be_taken_back() -> None:
    """It is never given out; one that was given out cannot be taken back."""

    async def story() -> None:
        starts = Starts()
        for name in NAMES:
            starts.pacer.add(name)
        assert starts.pacer.is_waiting(NAMES[-1])
        assert starts.pacer.drop(NAMES[-1])
        assert not starts.pacer.drop(NAMES[0])
        await starts.reach(len(NAMES) - 1, come_up=True)
        await asyncio.sleep(0.02)
        assert starts.started == NAMES[:-1]

    asyncio.run(asyncio.wait_for(story(), 20))


def test_agents_that_never_come_up_do_not_hold_up_others() -> None:
    """After a while their places are given to the next ones."""

    async def story() -> None:
        starts = Starts()
        for name in NAMES:
            starts.pacer.add(name)
        await starts.reach(len(NAMES), come_up=False)

    asyncio.run(asyncio.wait_for(story(), 20))
