"""Crashes at every step, deliveries in any order: the same files in the end, byte for byte."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from fleet.errors import LakeUnavailableError
from fleet.metrics.levels import HOUR_MS, Level
from fleet.metrics.rollup_plan import MetricPolicy
from fleet.metrics.samples import SampleBatch
from resources.metrics.metric_store import ObjectMetricStore
from resources.metrics.rolling import roll_up_partition
from resources.metrics.upkeep import compact_hour, compact_hours, compact_series, retain
from tests.fakes.clock import ManualClock
from tests.fakes.crashing_store import Crashed, CrashingStore, count_operations
from tests.fakes.object_store import InMemoryObjectStore
from tests.resources.metrics.metric_stores import (
    NOON_MS,
    TEN_MS,
    batch,
    built_files,
    half_past_noon,
    make_all,
    metric_store,
    rows_of,
    steady,
    with_histograms,
)

IDS = np.unique(batch(steady(5, TEN_MS, 1)).series_ids).tolist()
Work = Callable[[ObjectMetricStore], object]


def deliveries() -> list[tuple[str, SampleBatch]]:
    """Two hours of five nodes in batches, one of them late, one with what others said.

    All with native histograms.
    """
    rows = steady(5, TEN_MS, 120)
    rng = random.Random(7)
    late = [row for row in rows if rng.random() < 0.05]
    parts = [
        [row for row in rows if row[1] // 600_000 == at]
        for at in range(TEN_MS // 600_000, NOON_MS // 600_000)
    ]
    found = [
        *((f"b{n}", batch(part, sketched=True)) for n, part in enumerate(parts)),
        ("late", batch(late, sketched=True)),
        ("again", batch(rows[100:140], sketched=True)),
    ]
    return [(name, with_histograms(one)) for name, one in found]


def deliver(store: ObjectMetricStore, order: list[int]) -> None:
    """Append batches in an order."""
    batches = deliveries()
    for each in order:
        store.append(batches[each][1], batches[each][0])


@pytest.fixture(scope="module")
def wanted() -> dict[tuple[str, int, int, str], str]:
    """The files that a quiet run builds."""
    store = metric_store()
    deliver(store, list(range(len(deliveries()))))
    make_all(store)
    return dict(built_files(store))


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(n, marks=pytest.mark.long) for n in range(1, 30))]
)
def test_any_order_of_deliveries_with_crashes_ends_in_the_same_files(
    wanted: dict[tuple[str, int, int, str], str], seed: int
) -> None:
    """Batches come in any order, some again; writers are killed; rollups and merges run between."""
    rng = random.Random(seed)
    objects = InMemoryObjectStore()
    left = list(range(len(deliveries())))
    rng.shuffle(left)
    between: list[Work] = [make_all, lambda store: compact_hours(store, 2), lambda _: None]
    while left:
        mode = rng.choice(["before", "after", "lost"])
        store = metric_store(CrashingStore(objects, rng.randint(20, 120), mode))
        try:
            while left:
                deliver(store, [left[0]])
                left.pop(0)
                rng.choice(between)(store)
        except (Crashed, LakeUnavailableError):
            continue
    store = metric_store(objects)
    compact_series(store, parts_max=1)
    make_all(store)
    assert dict(built_files(store)) == wanted


def steps() -> dict[str, tuple[Work, Work]]:
    """What is killed, and what comes before it."""
    rows = steady(5, TEN_MS, 20)

    def nothing(_: ObjectMetricStore) -> None:
        return

    def two_batches(store: ObjectMetricStore) -> None:
        store.append(batch(rows[:100]), "one")
        store.append(batch(rows[100:]), "two")

    def an_hour(store: ObjectMetricStore) -> None:
        two_batches(store)
        roll_up_partition(store, Level.M1, TEN_MS)

    return {
        "append": (lambda store: store.append(batch(rows), "one"), nothing),
        "compaction": (
            lambda store: [compact_hour(store, TEN_MS, shard) for shard in range(2)],
            two_batches,
        ),
        "series": (lambda store: compact_series(store, parts_max=1), two_batches),
        "rollup": (lambda store: roll_up_partition(store, Level.M1, TEN_MS), two_batches),
        "merge": (lambda store: roll_up_partition(store, Level.M5, TEN_MS), an_hour),
    }


@pytest.mark.parametrize("name", ["append", "compaction", "series", "rollup", "merge"])
@pytest.mark.parametrize("mode", ["before", "after"])
def test_killed_at_any_step_and_run_again_it_is_as_if_it_had_run_once(name: str, mode: str) -> None:
    """Samples, records and the number of commits are the same after every interruption."""
    work, before = steps()[name]
    quiet = InMemoryObjectStore()
    before(metric_store(quiet))
    prepared = quiet.copy()
    operations = count_operations(quiet, lambda store: work(metric_store(store)))
    final = facts(metric_store(quiet))
    assert operations > 3
    for number in range(1, operations + 1):
        objects = prepared.copy()
        with pytest.raises(Crashed):
            work(metric_store(CrashingStore(objects, number, mode)))
        found = facts(metric_store(objects))
        assert found in (facts(metric_store(prepared)), final), f"half done at step {number}"
        work(metric_store(objects))
        assert facts(metric_store(objects)) == final


def facts(store: ObjectMetricStore) -> tuple[object, ...]:
    """What readers see."""
    return (
        rows_of(store, IDS, 0, NOON_MS + HOUR_MS),
        dict(built_files(store)),
        [one.batch_id for one in store.commits()],
        [info.labels for info in store.catalogue().select([]).infos],
    )


def test_retention_killed_at_any_step_is_completed_by_the_next() -> None:
    """What the floor hides stays hidden; no object below it is left in the end."""
    prepared = InMemoryObjectStore(lambda: half_past_noon().now())
    clock = half_past_noon()
    store = metric_store(prepared, clock)
    store.append(batch(steady(5, TEN_MS, 120)), "one")
    clock.advance(40 * 86_400)
    make_all(store)
    policy = MetricPolicy(keep_raw_days=10, keep_1m_days=20)

    def work(objects: InMemoryObjectStore | CrashingStore) -> None:
        retain(metric_store(objects, clock), policy)

    quiet = prepared.copy()
    operations = count_operations(quiet, work)
    for number in range(1, operations + 1):
        objects = prepared.copy()
        with pytest.raises(Crashed):
            work(CrashingStore(objects, number, "after"))
        work(objects)
        left = {
            key.split("/")[0] + "/" + key.split("/")[1] for key in objects.objects if "/" in key
        }
        assert not any(key.startswith("raw/") for key in objects.objects), left
        assert not any(key.startswith("rollups/1m/") for key in objects.objects)
        assert any(key.startswith("rollups/5m/") for key in objects.objects)
        reader = metric_store(objects, clock)
        assert rows_of(reader, IDS, 0, NOON_MS) == []
        assert not reader.keeps_raw(TEN_MS, NOON_MS)
        assert len(reader.records(np.array(IDS), Level.M5, TEN_MS, NOON_MS)) == 5 * 24


def test_an_answer_that_is_lost_is_found_by_the_same_batch_id() -> None:
    """The entry was created, its writer was told that the store did not answer."""
    objects = InMemoryObjectStore()
    metric_store(objects).commits()
    rows = batch(steady(2, TEN_MS, 1))
    operations = count_operations(
        objects.copy(), lambda counted: metric_store(counted).append(rows, "one")
    )
    outcomes = set()
    for number in range(1, operations + 1):
        mine = objects.copy()
        store = metric_store(CrashingStore(mine, number, "lost"))
        try:
            commit = store.append(rows, "one")
            outcomes.add("answered")
        except LakeUnavailableError:
            commit = store.append(rows, "one")
            outcomes.add("asked again")
        assert commit.number == 1
        assert len(metric_store(mine).commits()) == 1
    assert "asked again" in outcomes


def test_two_runs_of_one_partition_agree() -> None:
    """The slower one finds that nothing is left to do; there is one set of files."""
    objects = InMemoryObjectStore()
    clock = ManualClock()
    clock.advance(1800)
    one, other = metric_store(objects, clock), metric_store(objects, clock)
    one.append(batch(steady(5, TEN_MS, 60)), "one")

    class Overtaken(InMemoryObjectStore):
        """Lets the other run finish when the first one is about to store its files."""

        def create(self, key: str, data: bytes) -> bool:
            if key.startswith("rollups/") and not done:
                done.append(roll_up_partition(other, Level.M1, TEN_MS))
            return objects.create(key, data)

    done: list[object] = []
    slow = Overtaken()
    slow.objects, slow.modified = objects.objects, objects.modified
    made = roll_up_partition(metric_store(slow, clock), Level.M1, TEN_MS)
    assert made.shards == 2
    with other.log.reading() as state:
        assert state.entry == 2
    assert roll_up_partition(other, Level.M1, TEN_MS).shards == 0
