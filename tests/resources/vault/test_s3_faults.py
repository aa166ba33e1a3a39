"""Every vault verb against a store that fails over HTTP: whole or cleanly refused, then healthy.

A verb that returns has done its work; one that does not says which store failed and what to do.
Whatever happened, every live snapshot restores byte for byte and the same verb succeeds afterwards.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NamedTuple

import pytest

from fleet.errors import PermanentError, StateroomError
from fleet.ports.object_store import ObjectStore
from resources.object_store.directory import DirectoryObjectStore
from resources.object_store.retrying import Retrying
from resources.object_store.s3 import S3ObjectStore
from resources.vault.network import NetworkVault
from resources.vault.replicas.replicate import replicate
from resources.vault.retention.removal import GRACE, collect_garbage
from resources.vault.snapshots.backup import back_up
from resources.vault.verification.verify import verify_content, verify_structure
from tests.fakes.fault_proxy import FaultProxy, Plan, Request, fault_proxy, nth, since
from tests.fakes.object_store import InMemoryObjectStore
from tests.resources.vault.test_crashes import History
from tests.servers.moto_server import (
    aws_client,
    drop_bucket,
    fill_bucket,
    moto_server,
    read_bucket,
)

HASTY = Retrying(deadline_s=30.0, first_delay_s=0.01, delay_max_s=0.05, calls_at_once_max=4)
"""A deadline that only a fault uses up, however busy the machine is."""
BRIEF = HASTY._replace(deadline_s=0.3)
"""For faults that use it up."""
PATIENT = Retrying(deadline_s=60.0, first_delay_s=0.01, delay_max_s=0.05)
PASSING = ("internal", "slow_down", "conflict", "reset_before", "reset_after", "timeout_before")
PASSING += ("timeout_after", "short_body", "slow")
"""Faults of one request that a verb must overcome by itself."""
ALTERING = ("bit_flip", "wrong_etag")
"""Faults of one request that it may report."""
FINAL = ("expired", "no_space", "quota", "too_large", "skewed", "denied")
"""Faults that somebody must remove: not asked again."""
LASTING = (*FINAL, "internal", "slow_down", "reset_before", "timeout_before")
WAYS = {
    "not done": ("internal", "slow_down", "conflict", "reset_before", "timeout_before"),
    "done, and nobody told": ("reset_after", "timeout_after"),
    "answered badly": ("short_body", "slow"),
    "altered": ALTERING,
    "refused": FINAL,
}
"""Faults by what they leave behind."""


class Site(NamedTuple):
    """A server, a proxy that fails in front of it, and clients of both."""

    proxy: FaultProxy
    direct: Any
    through: Any
    patient: Any
    """Through the proxy as well, and never short of time: what it is counted with is no retry."""
    hurried: Any
    """For a silence that lasts: every request into it is given up after half a second."""
    history: History
    objects: dict[str, bytes]
    healthy: dict[str, tuple[int, list[int]]]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Started once; each test has buckets of its own."""
    root = tmp_path_factory.mktemp("site") / "vault"
    history = History(root)
    store = DirectoryObjectStore(root)
    objects = {one.key: store.get(one.key) for one in store.list_objects("")}
    with (
        moto_server() as url,
        fault_proxy(url) as proxy,
        aws_client("s3", url, 60) as direct,
        aws_client("s3", proxy.url, 2.0) as through,
        aws_client("s3", proxy.url, 60) as patient,
        aws_client("s3", proxy.url, 0.5) as hurried,
    ):
        yield Site(proxy, direct, through, patient, hurried, history, objects, {})
    shutil.rmtree(root)


Run = Callable[[ObjectStore, ObjectStore], object]


def runs(history: History) -> dict[str, Run]:
    """The verbs: each is given the vault and the store of a replica."""
    vault = history.fleet.vault

    def verify(store: ObjectStore, _: ObjectStore) -> None:
        for found in (verify_structure(vault(store)), verify_content(vault(store))):
            if found.findings:
                raise PermanentError(f"store s3://: {found.findings}", hint="Heal it.")

    def restore(store: ObjectStore, _: ObjectStore) -> None:
        restored = history.fleet.restored(store, history.second)
        assert restored == history.bodies[history.second]

    return {
        "back_up": lambda store, _: history.back_up(store),
        "restore": restore,
        "forget": lambda store, _: history.forget(store),
        "gc": lambda store, _: history.gc(store),
        "sweep": lambda store, _: history.sweep(store),
        "replicate": lambda store, target: replicate(vault(store), vault(target)),
        "verify": verify,
    }


VERBS = ("back_up", "restore", "forget", "gc", "sweep", "replicate", "verify")


class Trial:
    """One verb under one plan of faults, and what must hold afterwards."""

    def __init__(
        self, site: Site, verb: str, name: str, retrying: Retrying = HASTY, client: Any = None
    ) -> None:
        """Copy the vault into fresh buckets, named after the fault; reached by the hasty client."""
        site.proxy.set_plan(lambda _: None)
        self.site = site
        self.run = runs(site.history)[verb]
        self.name = f"{verb}-{name}-{uuid.uuid4().hex[:8]}".replace("_", "-")
        fill_bucket(self.name, site.objects)
        fill_bucket(f"{self.name}-copy", {})
        self.sound = S3ObjectStore(site.direct, self.name, retrying=PATIENT)
        client = client or site.through
        self.faulty = S3ObjectStore(client, self.name, retrying=retrying)
        self.copy = S3ObjectStore(client, f"{self.name}-copy", retrying=retrying)

    def under(self, plan: Plan) -> StateroomError | None:
        """Run the verb; the error that it ended with."""
        self.site.proxy.set_plan(plan)
        try:
            self.run(self.faulty, self.copy)
        except StateroomError as error:
            return error
        finally:
            self.requests = self.site.proxy.count
            self.site.proxy.set_plan(lambda _: None)
        assert verify_structure(self.site.history.fleet.vault(held_by(self.name))).ok
        return None

    def recover(self) -> None:
        """Nothing live is lost, and the verb succeeds with what the buckets hold; they go away."""
        history = self.site.history
        sound, copy = held_by(self.name), held_by(f"{self.name}-copy")
        history.check(sound)
        self.run(sound, copy)
        assert verify_structure(history.fleet.vault(sound)).ok
        replica = NetworkVault(copy, history.fleet.vault(sound).keys, history.fleet.clock)
        if copy.objects:
            assert verify_structure(replica).ok
        drop_bucket(self.name)
        drop_bucket(f"{self.name}-copy")


def held_by(name: str) -> InMemoryObjectStore:
    """What a bucket holds, at hand without a request for each look."""
    store = InMemoryObjectStore()
    for key, data in read_bucket(name).items():
        store.create(key, data)
    return store


def writes_of(site: Site, verb: str) -> tuple[int, list[int]]:
    """How many requests a healthy run takes, and which of them write; found out once.

    Checkpoints are left out: that one cannot be written is no failure of what was committed.
    """
    if verb not in site.healthy:
        seen: list[str] = []

        def watch(request: Request) -> None:
            seen.append(request.method * ("/checkpoints/" not in request.path))

        assert Trial(site, verb, "healthy", client=site.patient).under(watch) is None
        writes = [number for number, one in enumerate(seen, 1) if one == "PUT"]
        site.healthy[verb] = (len(seen), writes)
    return site.healthy[verb]


def trials(quick: dict[str, tuple[str, ...]], faults: tuple[str, ...]) -> list[Any]:
    """Every verb with every fault; those that are not quick are run by `make test-all`."""
    return [
        pytest.param(verb, fault, marks=() if fault in quick.get(verb, quick["*"]) else LONG)
        for verb in VERBS
        for fault in faults
    ]


LONG = pytest.mark.long


QUICK_PASSING = {
    "*": (),
    "back_up": ("internal", "reset_after", "timeout_after", "short_body"),
    "restore": ("short_body",),
    "replicate": ("reset_after",),
    "gc": ("reset_after",),
}
QUICK_LASTING = {
    "*": (),
    "back_up": ("expired", "no_space", "internal", "timeout_before"),
    "replicate": ("denied",),
    "forget": ("expired",),
}


@pytest.mark.parametrize(("verb", "fault"), trials(QUICK_PASSING, PASSING))
def test_a_fault_of_one_request_is_overcome(site: Site, verb: str, fault: str) -> None:
    """At the commit (or in the middle of what only reads), whatever a request may suffer."""
    total, writes = writes_of(site, verb)
    trial = Trial(site, verb, fault)
    assert trial.under(nth(writes[-1] if writes else total // 2, fault)) is None
    assert trial.requests >= total
    trial.recover()


@pytest.mark.parametrize(("verb", "fault"), trials(QUICK_LASTING, LASTING))
def test_a_lasting_fault_is_refused_cleanly(site: Site, verb: str, fault: str) -> None:
    """From the first write or the commit on; what somebody must change is not asked for again."""
    total, writes = writes_of(site, verb)
    at = (writes or [total // 2])[-1 if len(fault) % 2 else 0]
    client = site.hurried if fault == "timeout_before" else site.through
    trial = Trial(site, verb, fault, HASTY if fault in FINAL else BRIEF, client)
    error = trial.under(since(at, fault))
    assert error is not None
    assert "store s3://" in str(error)
    assert error.hint
    if fault in FINAL:
        assert isinstance(error, PermanentError)
        # The failing one, and what other threads had begun.
        assert trial.requests < at + 8
    trial.recover()


@pytest.mark.parametrize(
    ("verb", "fault"), trials({"*": (), "back_up": ALTERING, "restore": ALTERING}, ALTERING)
)
def test_altered_bytes_are_never_taken_for_the_truth(site: Site, verb: str, fault: str) -> None:
    """A flipped bit on the way in, a wrong checksum on the way out: healed, or named."""
    total, writes = writes_of(site, verb)
    for at in {total // 2, (writes or [total])[0]}:
        trial = Trial(site, verb, fault)
        error = trial.under(nth(at, fault))
        if fault == "wrong_etag" and at in writes:
            assert "checksum of other bytes" in str(error)
        trial.recover()


@pytest.mark.long
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("verb", VERBS)
def test_each_way_of_failing_at_each_request_leaves_a_whole_vault(
    site: Site, verb: str, way: str
) -> None:
    """Every position in every way of failing; the faults of a way take turns."""
    total, _ = writes_of(site, verb)
    faults = WAYS[way]
    for number in range(1, total + 1):
        fault = faults[(number + VERBS.index(verb)) % len(faults)]
        for plan in (nth, since) if way == "refused" else (nth,):
            trial, hit = Trial(site, verb, fault), list[str]()
            error = trial.under(noting(plan(number, fault), hit))
            assert fault not in PASSING or error is None
            # That a checkpoint cannot be written is no failure of what was committed.
            is_owed = fault in FINAL and any("/checkpoints/" not in path for path in hit)
            assert error is not None or not is_owed, hit
            trial.recover()


def noting(plan: Plan, hit: list[str]) -> Plan:
    """The same plan; the paths of the requests that it fails are noted."""

    def noted(request: Request) -> str | None:
        fault = plan(request)
        hit.extend([request.path] * (fault is not None))
        return fault

    return noted


@pytest.mark.parametrize("days", [-1, pytest.param(1, marks=LONG)])
def test_clocks_that_are_a_day_off_condemn_nothing_young(site: Site, days: int) -> None:
    """Of the store, of this machine, and of both: orphans are aged by the store's clock alone."""
    for store_days, local_days in ((days, 0), (0, days), (days, -days)):
        trial = Trial(site, "gc", "clock")
        history = site.history
        site.proxy.store_clock = timedelta(days=store_days)
        history.fleet.clock.jump(86400 * local_days)
        try:
            orphans = {one.key for one in trial.sound.list_objects("packs/")}
            result = collect_garbage(history.fleet.vault(trial.faulty), GRACE)
            assert result.aborted == 0
            history.back_up(trial.faulty)
            assert {one.key for one in trial.sound.list_objects("packs/")} >= orphans
        finally:
            site.proxy.store_clock = timedelta(0)
            history.fleet.clock.jump(-86400 * local_days)
        trial.recover()


def test_a_store_that_is_overrun_is_asked_by_fewer_at_once(site: Site) -> None:
    """Each wave of SlowDown halves the calls at once; they grow again with success."""
    trial = Trial(site, "back_up", "overrun")
    limit = trial.faulty._retrier.limit
    assert limit.now == 4
    site.proxy.set_plan(lambda request: "slow_down" if request.number <= 2 else None)
    result = back_up(site.history.fleet.vault(trial.faulty), site.history.fleet.store)
    assert result.agents
    assert limit.now < 4
    asked = 0
    while limit.now < 4 and asked < 80:
        trial.faulty.list_objects("nothing/")
        asked += 1
    assert limit.now == 4


def test_a_silent_store_is_given_up_once_and_then_asked_briefly(site: Site) -> None:
    """A run of many calls against a store that fails for good takes few requests."""
    trial = Trial(site, "forget", "silent", HASTY._replace(deadline_s=3.0))
    site.proxy.set_plan(since(1, "internal"))
    for _ in range(2):
        with pytest.raises(StateroomError):
            trial.faulty.list_objects("log/")
    first = site.proxy.count
    for _ in range(5):
        with pytest.raises(StateroomError):
            trial.faulty.list_objects("log/")
    assert site.proxy.count == first + 5
    site.proxy.set_plan(nth(2, "internal"))
    for _ in range(3):
        assert trial.faulty.list_objects("log/")
