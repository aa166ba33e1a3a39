"""What a node sees of other nodes: its rounds of probes, and the looks that others ask it for.

Bounded in every direction: the targets are those of `fleet.probing.plan_probes`, a round asks at
most `helpers` others for each that is silent, and looks for others are shared and limited. The
prober doubts itself first: it holds nothing against a node when it was late itself, or when no
helper answers it either. Its reports are refused by the store unless the node holds its lease.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass, field

from fleet.errors import NodeUnavailableError, NotFoundError, StateroomError, TransientError
from fleet.names import validate_name
from fleet.ports.clock import Clock
from fleet.ports.observer_store import ObserverStore
from fleet.probe_reports import NodeContact, Probe, ProbeOutcome, ProbeReport, RosterMember
from fleet.probing import ProbePolicy, choose_helpers, plan_probes
from resources.local.contact_book import ContactBook
from resources.probe_client import Sight, look, look_through

ROSTER_INTERVAL_S = 5.0
"""Between two looks at the roster's version."""

LOOKS_MAX = 16
"""Looks for others that are under way at once; more are refused, and their askers are unsure."""

LATE_S = 0.25
"""How much longer than its timeout a probe may take before the delay is our own."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class ProbeCounts:
    """Counters since the node started."""

    outcomes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ProbeOutcome, 0))
    rounds: int = 0
    stored: int = 0
    refused: int = 0
    """Reports that the store did not take."""


class Prober:
    """One node's probes; lives on the event loop, speaks to the store from threads."""

    def __init__(
        self, store: ObserverStore, clock: Clock, policy: ProbePolicy, *, node_id: str, boot_id: str
    ) -> None:
        """Probe nothing yet.

        Args:
            store: roster, addresses, and where reports go.
            clock: stamps reports.
            policy: the same as that of every other observer and controller.
            node_id: who probes.
            boot_id: holder of the node's lease.
        """
        self._store = store
        self._clock = clock
        self._policy = policy
        self._node_id = node_id
        self._boot_id = boot_id
        self._chance = random.Random()
        self._roster_version = -1
        self._members: tuple[RosterMember, ...] = ()
        self._targets: tuple[str, ...] = ()
        self._contacts = ContactBook(store)
        self._last: dict[str, Probe] = {}
        self._reported: tuple[Probe, ...] | None = None
        self._reported_s = 0.0
        self._report_round = 0
        self._writing: asyncio.Task[None] | None = None
        self._looks: dict[str, asyncio.Task[Sight]] = {}
        self.counts = ProbeCounts()

    async def close(self) -> None:
        """Wait for the report that is being stored."""
        if self._writing is not None:
            await self._writing

    async def run(self) -> None:
        """Probe until cancelled; what fails is told, counted, and tried again."""
        loop = asyncio.get_running_loop()
        policy = self._policy
        # Nodes that were started together must not probe together.
        await asyncio.sleep(self._chance.random() * policy.interval_s)
        roster_due_s = loop.time()
        while True:
            began_s = loop.time()
            if began_s >= roster_due_s:
                await self._follow_roster()
                roster_due_s = loop.time() + ROSTER_INTERVAL_S
            await self._round()
            spread = 1.0 + policy.jitter * (2.0 * self._chance.random() - 1.0)
            await asyncio.sleep(max(0.0, began_s + policy.interval_s * spread - loop.time()))

    async def look_for(self, node_id: str) -> Sight:
        """Look at a declared node because another observer cannot reach it.

        Raises:
            InvalidInputError: it is no name.
            NotFoundError: no such node has ever reported.
            NodeUnavailableError: too many looks are under way, or the store does not answer.
        """
        validate_name("node", node_id)
        known = self._looks.get(node_id)
        if known is None:
            if len(self._looks) >= LOOKS_MAX:
                raise NodeUnavailableError(
                    f"{LOOKS_MAX} looks for others are under way", hint="Ask another node."
                )
            known = asyncio.create_task(self._look_for(node_id))
            self._looks[node_id] = known
            known.add_done_callback(lambda ended: self._looked(node_id, ended))
        return await asyncio.shield(known)

    async def _look_for(self, node_id: str) -> Sight:
        try:
            contact = await self._contacts.demand(node_id)
        except TransientError as error:
            raise NodeUnavailableError(str(error), hint=error.hint) from error
        if contact is None:
            raise NotFoundError(f"node {node_id} has never reported")
        sight, late = await self._look_at(contact)
        if late and not sight.answered:
            raise NodeUnavailableError(f"{self._node_id} was late itself", hint="Ask another node.")
        return sight

    def _looked(self, node_id: str, ended: asyncio.Task[Sight]) -> None:
        del self._looks[node_id]
        if not ended.cancelled():
            ended.exception()  # whoever asked may have gone away before it was told

    # -- rounds ---------------------------------------------------------------------------------

    async def _follow_roster(self) -> None:
        """Take over the targets of the present roster, when it has changed."""
        try:
            version = await asyncio.to_thread(self._store.roster_version)
            if version == self._roster_version:
                return
            roster = await asyncio.to_thread(self._store.roster)
            plan = await asyncio.to_thread(plan_probes, roster.members, self._policy)
        except TransientError as error:
            _log.warning("roster: %s", error)
            return
        self._roster_version, self._members = roster.version, roster.members
        self._targets = plan.targets.get(self._node_id, ())
        self._contacts.retain({member.node_id for member in roster.members})
        self._last = {k: v for k, v in self._last.items() if k in self._targets}

    async def _round(self) -> None:
        """Probe every target once, and report what came of it when there is something to say."""
        known = await self._contacts.find(self._targets)
        self.counts.rounds += 1
        probes = await asyncio.gather(*(self._probe(contact) for contact in known))
        for probe in probes:
            self.counts.outcomes[probe.outcome] += 1
        self._last = {probe.node_id: probe for probe in probes}
        self._report(tuple(probes))

    async def _probe(self, contact: NodeContact) -> Probe:
        node_id, before = contact.node_id, self._last.get(contact.node_id)
        sight, late = await self._look_at(contact)
        if sight.answered:
            latency_ms = round(1000 * sight.elapsed_s, 2)
            return Probe(node_id, ProbeOutcome.ANSWERED, sight.boot_id, 0, latency_ms, "")
        failures = 0 if before is None else before.failures
        outcome, boot_id, detail = await self._ask_helpers(node_id, sight, late=late)
        if outcome == ProbeOutcome.RELAYED:
            return Probe(node_id, outcome, boot_id, 0, None, detail)
        failures += outcome == ProbeOutcome.SILENT
        return Probe(node_id, outcome, "", failures, None, detail)

    async def _look_at(self, contact: NodeContact) -> tuple[Sight, bool]:
        """A look, and whether we were late ourselves, so that its failure proves nothing.

        A node that has started again since it was last looked for has another address: it is read
        once more before silence counts.
        """
        loop = asyncio.get_running_loop()
        timeout_s = self._policy.timeout_s
        while True:
            began_s = loop.time()
            sight = await look(contact, timeout_s)
            late = loop.time() - began_s > timeout_s + LATE_S
            moved = None if sight.answered or late else await self._contacts.moved(contact)
            if moved is None:
                return sight, late
            contact = moved

    async def _ask_helpers(
        self, node_id: str, sight: Sight, *, late: bool
    ) -> tuple[ProbeOutcome, str, str]:
        """What a node that did not answer us is: outcome, boot, and why in words."""
        if late:
            return ProbeOutcome.UNSURE, "", f"{sight.reason}; but we were late ourselves"
        if sight.something:
            return ProbeOutcome.UNSURE, "", sight.reason
        names = choose_helpers(
            self._node_id,
            node_id,
            self._members,
            count=self._policy.helpers,
            round_number=self.counts.rounds,
        )
        helpers = await self._contacts.find(names)
        # A helper needs its own timeout, and as long again to find the address and to answer.
        timeout_s = 2.0 * self._policy.timeout_s
        sights = await asyncio.gather(*(look_through(one, node_id, timeout_s) for one in helpers))
        told = [one for one in sights if one is not None]
        for helper, one in zip(helpers, sights, strict=True):
            if one is not None and one.answered:
                return (
                    ProbeOutcome.RELAYED,
                    one.boot_id,
                    f"{sight.reason}; reached by {helper.node_id}",
                )
        if helpers and not told:
            reason = f"{sight.reason}; none of {len(helpers)} helpers answers us either"
            return ProbeOutcome.UNSURE, "", reason
        return ProbeOutcome.SILENT, "", f"{sight.reason}; nor could {len(told)} helpers reach it"

    # -- reports --------------------------------------------------------------------------------

    def _report(self, probes: tuple[Probe, ...]) -> None:
        """Store what has changed, or what was stored too long ago; never waits for the store."""
        now_s = asyncio.get_running_loop().time()
        due = now_s - self._reported_s >= self._policy.refresh_s
        enough = self._policy.failures_min
        if not due and _news(probes, enough) == _news(self._reported, enough):
            return
        if self._writing is not None:  # the next round brings the news
            return
        self._report_round += 1
        report = ProbeReport(
            self._node_id, self._boot_id, self._report_round, self._clock.now(), probes
        )
        self._writing = asyncio.create_task(self._store_report(report, now_s))
        self._writing.add_done_callback(self._written)

    async def _store_report(self, report: ProbeReport, now_s: float) -> None:
        try:
            await asyncio.to_thread(self._store.report_probes, report)
        except StateroomError as error:  # no lease yet or no more, or the store is away
            self.counts.refused += 1
            _log.warning("probe report: %s", error)
        else:
            self.counts.stored += 1
            self._reported, self._reported_s = report.probes, now_s

    def _written(self, _: asyncio.Task[None]) -> None:
        self._writing = None


def _news(probes: tuple[Probe, ...] | None, failures_enough: int) -> object:
    """What makes a report worth storing at once: who can be reached, and whether that is a vote."""
    if probes is None:
        return None
    return [
        (probe.node_id, probe.outcome, probe.boot_id, min(probe.failures, failures_enough))
        for probe in probes
    ]
