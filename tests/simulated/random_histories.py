"""Random histories of a simulated fleet: whatever fails, the promises hold, and all ends well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from fleet.failover.policy import FailBackMode, FailoverPolicy, RegionMode
from fleet.failover.profiles import EMBEDDED, PRODUCTION
from fleet.failover.rules import Rule
from ops.failover_proposals import PROPOSAL
from tests.simulated.failover_drive import FailoverDrive, FleetShape
from tests.simulated.orders_of_play import Play

POLICIES = (
    EMBEDDED,
    EMBEDDED,
    replace(EMBEDDED, fail_back_mode=FailBackMode.AUTO, fail_back_calm_s=10.0),
    replace(PRODUCTION, region_mode=RegionMode.AUTO),
)
ROUNDS = 14
_AWAY = ("c1", "c2", "c1/writes", "ops", "ops", "*", "registry")
BOUND_PULSES = 400
"""After the repair: windows of the blast radius, retries and timeouts of runs, all in a row."""


class RandomHistory:
    """One history; the same seed makes the same one."""

    def __init__(self, seed: int, without: frozenset[Rule] = frozenset()) -> None:
        """Bring a small fleet up."""
        self.random = random = Random(seed)
        policy: FailoverPolicy = random.choice(POLICIES)
        shape = FleetShape(
            regions=("ap", "eu", "us")[: random.choice((2, 3, 3))],
            nodes=random.randint(1, 3),
            agents=random.randint(1, 2),
            room=random.choice((2, 4, 20)),
            stateless=Random(seed + 1_000_000).choice((0, 0, 1)),
        )
        self.drive = FailoverDrive(policy, shape, seed=seed, without=without)
        self.play = Play(self.drive)
        self.names = sorted(self.drive.machinery.nodes)
        self.play.do(f"backup {' '.join(shape.regions)}")
        if random.random() < 0.4:
            self.play.do("controller c2 join")
        self._strikes: tuple[Callable[[], str], ...] = (
            *[self._fault] * 8,
            self._kill,
            self._kill,
            self._link,
            lambda: f"isolate {self._node()}",
            lambda: f"deaf {self._node()}",
            lambda: f"hear {self._node()}",
            lambda: f"work {self._node()}",
            lambda: f"blind {random.choice(('all', 'none', self._node()))}",
            lambda: f"infrastructure {random.choice(('answers', 'is away'))}",
            *[self._controller] * 4,
            *[self._crash_run] * 3,
            *[lambda: f"away {random.choice(_AWAY)}"] * 2,
            *[lambda: f"back {random.choice(_AWAY)}"] * 3,
            self._spoil,
            self._spoil,
            lambda: f"vault {random.choice(('away', 'back'))} {random.choice(shape.regions)}",
            lambda: random.choice(("pause", "resume", "resume")),
            lambda: f"maintain node/{self._node()} {self._seconds()}",
            lambda: f"acknowledge node/{self._node()}",
            lambda: f"force node/{self._node()}",
            self._run_dies,
        )  # fmt: skip

    def _node(self) -> str:
        return self.random.choice(self.names)

    def _seconds(self) -> float:
        """From a beat to several times what a lease lasts."""
        return round(self.drive.pulse_s * 2.0 ** self.random.uniform(0, 5), 3)

    def _subject(self) -> str:
        if self.random.random() < 0.2:
            return f"region/{self.random.choice(self.drive.shape.regions)}"
        return f"node/{self._node()}"

    def _fault(self) -> str:
        random, who, length_s = self.random, self._subject(), self._seconds()
        peer = random.choice(("store", "controller", "regions", "all"))
        return random.choice((
            f"fault for {length_s} crash {who}",
            f"fault for {length_s} crash {who} silent=yes",
            f"fault for {length_s} pause {who}",
            f"fault for {length_s} pause {who}",
            f"fault for {length_s} partition {who} peer={peer}",
            f"fault for {length_s} partition {who} peer={peer}",
            f"fault for {length_s} slow {who} delay_s={round(length_s / 4, 3)}",
            f"fault for {length_s} skew {who} skew_s={random.choice((-86400, -30, 30, 86400))}",
            f"fault for {length_s} flapping {who} down_s={self._seconds()} up_s={self._seconds()}",
            f"fault for {length_s} flapping {who} down_s={self._seconds()} up_s=5 mode=crash",
        ))  # fmt: skip

    def _kill(self) -> str:
        """For good: nobody brings it back but the repair, which leaves a third of all dead."""
        silent = self.random.choice(("yes", "no"))
        return f"fault crash node/{self._node()} silent={silent}"

    def _link(self) -> str:
        ends = ["controller", "*", *self.names]
        return f"link cut {self.random.choice(ends)} {self._node()}"

    def _controller(self) -> str:
        """Something that can be done to one of the controllers as it is."""
        random, name = self.random, self.random.choice(sorted(self.drive.controllers))
        if self.drive.controllers[name].mind is None:
            return f"controller {name} start"
        what = random.choice(("crash", f"sleep {self._seconds()}", f"skew {self._seconds()}"))
        return f"controller {name} {what}"

    def _crash_run(self) -> str:
        call, side = self.random.randint(0, 16), self.random.choice(("before", "after"))
        return f"crash-run {call} {side}"

    def _spoil(self) -> str:
        """An agent's state is lost or damaged in the control store; every vault has a copy."""
        agents = sorted(one.agent_id for one in self.drive.store.state_infos())
        if not agents:
            return f"vault back {self.random.choice(self.drive.shape.regions)}"
        what = self.random.choice(("lose", "damage"))
        return f"{what}-state {self.random.choice(agents)}"

    def _run_dies(self) -> str:
        """A run that waits is killed; when none does, the next ones are not started again."""
        for run in self.drive.runs_going():
            run.kill()
        return "lone-runs"

    # -- the whole -------------------------------------------------------------------------------

    def play_out(self) -> None:
        """Strikes, then the repair; at the end everything has come to rest within the bound.

        Raises:
            AssertionError: a promise was broken, or something has no end.
        """
        try:
            for _ in range(ROUNDS):
                for _ in range(self.random.choice((0, 1, 1, 2))):
                    self.play.do(self.random.choice(self._strikes)())
                self.drive.run(self.drive.pulse_s * self.random.randint(1, 6))
            self._repair()
            self._come_to_rest()
        finally:
            self.drive.close()

    def _repair(self) -> None:
        drive, cluster = self.drive, self.drive.cluster
        drive.story.say(drive.now_s, ">", "everything is repaired but what is dead for good")
        drive.probes.cut.clear()
        drive.probes.blind.clear()
        drive.deaf.clear()
        drive.away.clear()
        drive.backups.away.clear()
        drive.crash_next.clear()
        drive.infrastructure.answers = drive.run_restarts = True
        self.play.do("resume")
        for mark in drive.store.maintenances():
            self.play.do(f"maintained {mark.subject}")
        for controller in drive.controllers.values():
            controller.paused_until_s = float("-inf")
            if controller.mind is None:
                controller.start()
        drive.run(40 * drive.pulse_s)  # the longest fault, and what flaps
        dead = [name for name in self.names if not cluster.truth.node(name).up]
        for name in dead[: max(0, len(dead) - len(self.names) // 3)]:
            self.play.do(f"boot {name}")

    def _come_to_rest(self) -> None:
        """People approve what waits for them; the rest is the automation's."""
        drive = self.drive
        for _ in range(BOUND_PULSES // 4):
            drive.run(4 * drive.pulse_s)
            if not drive.unsettled() and not self._endless():
                assert drive.unrecorded() == []
                return
            for one in drive.store.incidents(open_only=True):
                if one.waits_for:
                    drive.store.approve_action(one.incident_id, one.waits_for, "ada", "go")
        assert drive.unsettled() == []
        assert self._endless() == []

    def _endless(self) -> list[str]:
        """Open incidents, without proposals of a way home: these wait for a person by design."""
        return [one for one in self.drive.open_incidents() if not one.startswith(PROPOSAL)]
