"""Real supervisors probe each other: who is seen alive, dead, or not at all, and by whom."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Sequence

import pytest

from fleet.errors import LeaseLostError
from fleet.leases import node_lease_name
from fleet.ports.observer_store import ObserverStore
from fleet.probe_reports import NodeContact, Probe, ProbeOutcome, ProbeReport
from fleet.probe_votes import VoteBook
from fleet.probing import ProbePolicy, plan_probes
from fleet.reports import NodeDeclaration
from resources.clock import SystemClock
from resources.controller_prober import ControllerProber
from resources.local.prober import Prober
from tests.resources.local.fleets import Fleet, eventually, node
from tests.resources.local.test_supervisor import get

QUICK = ProbePolicy(interval_s=0.5, timeout_s=0.25, refresh_s=1.0, fresh_s=5.0)


def nodes(*regions: str) -> list[NodeDeclaration]:
    """n1, n2, ... in these regions, each region one zone."""
    return [node(f"n{number}", region) for number, region in enumerate(regions, 1)]


def seen(fleet: Fleet, observer_id: str) -> dict[str, Probe]:
    """What an observer last reported, by node."""
    reports = {report.observer_id: report for report in fleet.store.probe_reports()}
    report = reports.get(observer_id)
    return {} if report is None else {probe.node_id: probe for probe in report.probes}


def outcomes(fleet: Fleet, observer_id: str) -> dict[str, str]:
    """node_id -> outcome."""
    return {node_id: probe.outcome for node_id, probe in seen(fleet, observer_id).items()}


def watch_votes(fleet: Fleet) -> VoteBook:
    """A controller's book for the fleet's roster."""
    members = fleet.store.roster().members
    return VoteBook(members, plan_probes(members, QUICK), QUICK, controller_votes=False)


def votes(fleet: Fleet, book: VoteBook) -> dict[str, tuple[int, int]]:
    """node_id -> (dead, alive) votes now."""
    now_s = time.monotonic()
    book.take(fleet.store.probe_reports(), now_s)
    names = [member.node_id for member in fleet.store.roster().members]
    columns = book.columns(names, now_s)
    counted = zip(columns.votes_dead.tolist(), columns.votes_alive.tolist(), strict=True)
    return dict(zip(names, counted, strict=True))


def test_nodes_see_each_other_and_vote_a_killed_one_dead(fleet: Fleet) -> None:
    """Four living observers agree, from other regions too; nobody votes against a living node."""
    cluster = fleet.start(nodes("eu", "eu", "us", "us", "ap"), probing=QUICK)
    book = watch_votes(fleet)
    eventually(lambda: set(votes(fleet, book).values()) == {(0, 4)}, "all see all", 40.0)
    boot_id = fleet.run("n1").boot_id
    assert seen(fleet, "n3")["n1"].boot_id == boot_id
    assert (seen(fleet, "n3")["n1"].latency_ms or 0.0) > 0.0
    cluster.kill_node("n1")
    eventually(lambda: votes(fleet, book)["n1"] == (4, 0), "n1 is voted dead", 40.0)
    probe = seen(fleet, "n3")["n1"]
    assert probe.failures >= QUICK.failures_min
    assert "nor could" in probe.detail
    columns = book.columns(["n1"], time.monotonic())
    assert (columns.dead_domains[0], columns.dead_outside[0]) == (3, 3)
    eventually(
        lambda: {votes(fleet, book)[one] for one in ("n2", "n3", "n4", "n5")} == {(0, 3)},
        "the dead one's own votes expire",
        40.0,
    )
    cluster.start_node("n1")
    eventually(lambda: votes(fleet, book)["n1"] == (0, 4), "its next boot is found", 40.0)
    assert seen(fleet, "n3")["n1"].boot_id == fleet.run("n1").boot_id != boot_id


def test_a_frozen_node_is_silent_to_others_and_accuses_nobody_when_it_wakes(fleet: Fleet) -> None:
    """Its port still accepts, but nothing answers; its own lateness is not held against others."""
    fleet.start(nodes("eu", "us", "ap"), probing=QUICK)
    alive = {"n1": "answered", "n3": "answered"}
    eventually(lambda: outcomes(fleet, "n2") == alive, "n2 sees both", 40.0)
    group = fleet.run("n2").process.pid
    os.killpg(group, signal.SIGSTOP)
    try:
        for observer_id in ("n1", "n3"):
            eventually(
                lambda name=observer_id: outcomes(fleet, name).get("n2") == "silent",  # type: ignore[misc]
                "n2 is silent",
                40.0,
            )
        before = seen(fleet, "n2")
        lease = fleet.store.lease(node_lease_name("n2"))
        assert lease is not None
        eventually(lambda: SystemClock().now() > lease.expires_at, "its lease runs out")
    finally:
        os.killpg(group, signal.SIGCONT)
    reports: list[dict[str, Probe]] = []
    end_s = time.monotonic() + 40.0
    while not reports or reports[-1] == before or outcomes(fleet, "n1").get("n2") != "answered":
        reports.append(seen(fleet, "n2"))
        assert time.monotonic() < end_s, "n2 is never seen again"
        time.sleep(0.01)
    accusations = [p for r in reports for p in r.values() if p.failures >= QUICK.failures_min]
    assert accusations == []


def test_a_report_is_only_as_good_as_the_lease_of_its_boot(fleet: Fleet) -> None:
    """A supervisor whose lease was taken goes on probing, and is heard no more."""
    fleet.start(nodes("eu", "us"), probing=QUICK)
    eventually(lambda: outcomes(fleet, "n1") == {"n2": "answered"}, "n1 reports", 40.0)
    lease = fleet.store.lease(node_lease_name("n1"))
    assert lease is not None
    fleet.store.release_lease(lease)
    other = fleet.store.acquire_lease(lease.name, "another-boot", 60.0)
    (report,) = [r for r in fleet.store.probe_reports() if r.observer_id == "n1"]
    with pytest.raises(LeaseLostError, match="another-boot"):
        fleet.store.report_probes(report._replace(round=report.round + 1))
    log = fleet.state_dir / "logs" / "nodes" / "n1.log"
    refused = "probe report of n1"
    eventually(lambda: refused in log.read_text(), "its prober is refused", 40.0)
    assert [r for r in fleet.store.probe_reports() if r.observer_id == "n1"] == [report]
    fleet.store.release_lease(other)
    eventually(
        lambda: (
            next(r.round for r in fleet.store.probe_reports() if r.observer_id == "n1")
            > report.round
        ),
        "it is heard again",
        40.0,
    )


def test_a_node_counts_its_probes_and_looks_for_others_at_declared_nodes_only(
    fleet: Fleet,
) -> None:
    """No address is taken from outside; a dead node is a finding, an unknown one an error.

    The metrics count by outcome, without naming the node that was looked for.
    """
    cluster = fleet.start(nodes("eu", "us"), probing=QUICK)
    wanted = 'stateroom_node_probes_total{node="n1",outcome="answered",region="eu"}'

    def counted() -> bool:
        text = get(fleet, "/metrics")[1].decode()
        found = [line for line in text.splitlines() if line.startswith(wanted)]
        return bool(found) and float(found[0].rpartition(" ")[2]) > 0

    eventually(counted, "probes are counted", 40.0)
    status, body = get(fleet, "/probe?node=n2")
    answer = json.loads(body)
    assert status == 200
    assert (answer["observer_id"], answer["node_id"], answer["answered"]) == ("n1", "n2", True)
    assert answer["boot_id"] == fleet.run("n2").boot_id
    for query, expected in (("n9", 404), ("../x", 400), ("127.0.0.1:80", 400), ("", 400)):
        assert get(fleet, f"/probe?node={query}")[0] == expected
    cluster.kill_node("n2")
    status, body = get(fleet, "/probe?node=n2")
    assert (status, json.loads(body)["answered"]) == (200, False)
    assert json.loads(body)["reason"]


class Misled:
    """A store whose readers are sent to a closed door when they look for one node.

    What a broken link looks like to one observer: the node and the others are well.
    """

    def __init__(self, store: ObserverStore, node_id: str, address: str) -> None:
        """Mislead about this node."""
        self._store = store
        self._node_id = node_id
        self._address = address
        self.reports: list[ProbeReport] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def node_contacts(self, node_ids: Sequence[str]) -> list[NodeContact]:
        """With the wrong address for the one."""
        return [
            one._replace(address=self._address) if one.node_id == self._node_id else one
            for one in self._store.node_contacts(node_ids)
        ]

    def report_probes(self, report: ProbeReport) -> None:
        """Kept here: the observer is no node."""
        self.reports.append(report)


async def probe_until(prober: Prober, store: Misled, node_id: str, wanted: int) -> list[Probe]:
    """Let a prober work until it has reported a node so often; what it said of it."""
    task = asyncio.create_task(prober.run())
    try:
        async with asyncio.timeout(60.0):
            while len(store.reports) < wanted:  # noqa: ASYNC110 - reports come from a thread
                await asyncio.sleep(0.02)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return [p for report in store.reports for p in report.probes if p.node_id == node_id]


def test_an_observer_that_is_cut_off_accuses_nobody(fleet: Fleet) -> None:
    """While helpers reach the node, the path is broken; when no helper answers, it may be us."""
    fleet.start(nodes("eu", "us", "ap", "eu"), probing=QUICK)
    fleet.store.declare_nodes([node("observer", "eu")])
    store = Misled(fleet.store, "n2", "127.0.0.1:1")
    prober = Prober(store, SystemClock(), QUICK, node_id="observer", boot_id="b")  # type: ignore[arg-type]
    found = asyncio.run(probe_until(prober, store, "n2", 2))
    assert {probe.outcome for probe in found} == {ProbeOutcome.RELAYED}
    assert {probe.boot_id for probe in found} == {fleet.run("n2").boot_id}
    assert {probe.failures for probe in found} == {0}
    assert "reached by n" in found[0].detail
    for region in ("eu", "us", "ap"):
        fleet.cluster.kill_region(region)
    store = Misled(fleet.store, "n2", "127.0.0.1:1")
    prober = Prober(store, SystemClock(), QUICK, node_id="observer", boot_id="b")  # type: ignore[arg-type]
    found = asyncio.run(probe_until(prober, store, "n2", 3))
    assert {probe.outcome for probe in found} == {ProbeOutcome.UNSURE}
    assert {probe.failures for probe in found} == {0}
    assert "helpers answers us either" in found[0].detail


def test_the_controller_probes_what_it_is_told_to_and_counts_silence(fleet: Fleet) -> None:
    """A killed node, a frozen one and one whose port another node has; a living one between."""
    cluster = fleet.start(nodes("eu", "us", "ap"), probing=QUICK)
    contacts = {one.node_id: one for one in fleet.store.node_contacts(["n1", "n2", "n3"])}
    prober = ControllerProber(QUICK)
    assert [p.outcome for p in prober.probe([contacts["n1"]])] == [ProbeOutcome.ANSWERED]
    cluster.kill_node("n2")
    group = fleet.run("n3").process.pid
    os.killpg(group, signal.SIGSTOP)
    impostor = contacts["n1"]._replace(node_id="n9")
    try:
        for failures in (1, 2):
            found = prober.probe([contacts["n2"], contacts["n3"], impostor])
            assert {probe.outcome for probe in found} <= {ProbeOutcome.SILENT, ProbeOutcome.UNSURE}
            assert found[0].failures <= failures
            assert "refused" in found[0].detail
            assert "no answer within 0.25 s" in found[1].detail
            assert "as n1" in found[2].detail
        eventually(lambda: prober.probe([contacts["n2"]])[0].failures >= 2, "n2 stays silent")
    finally:
        os.killpg(group, signal.SIGCONT)
    eventually(lambda: prober.probe([contacts["n3"]])[0].failures == 0, "n3 answers again")
    assert prober.probe([]) == []
