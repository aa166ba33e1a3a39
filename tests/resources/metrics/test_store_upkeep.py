"""Upkeep of a metric store: snapshots, trimming, collecting, floors, damage, racing writers."""

from __future__ import annotations

import numpy as np
import pytest

from fleet.errors import InvalidInputError
from fleet.metrics.levels import DAY_MS, HOUR_MS, Level
from fleet.metrics.rollup_plan import (
    MetricPolicy,
    find_compactions,
    plan_retention,
    validate_policy,
)
from fleet.metrics.samples import SampleBatch
from fleet.metrics.store_state import StoreState
from resources.metrics.metric_store import ObjectMetricStore
from resources.metrics.rolling import roll_up_partition
from resources.metrics.store_log import SNAPSHOT_EVERY
from resources.metrics.upkeep import (
    COLLECT_AFTER,
    collect,
    compact_hours,
    compact_series,
    retain,
    verify_objects,
)
from tests.fakes.object_store import InMemoryObjectStore
from tests.resources.metrics.metric_stores import (
    NOON_MS,
    TEN_MS,
    batch,
    built_files,
    dirty_of,
    half_past_noon,
    ident,
    info,
    make_all,
    metric_store,
    rows_of,
    steady,
)


def state_of(store: ObjectMetricStore) -> dict[str, object]:
    """The state as a snapshot holds it, without the suspects, of which a reader may know fewer."""
    with store.log.reading() as state:
        return {name: one for name, one in state.to_json().items() if name != "suspects"}


def test_a_snapshot_is_what_the_entries_mean() -> None:
    """A reader that begins with it, and one that reads every entry, have the same state."""
    objects = InMemoryObjectStore()
    store = metric_store(objects)
    store.append(batch(steady(3, TEN_MS, 60), sketched=True), "one")
    store.append(batch(steady(3, TEN_MS + HOUR_MS, 60)), "two")
    make_all(store)
    compact_series(store, parts_max=1)
    with metric_store(objects).log.reading() as state:
        quiet = state.to_json()
    store.log.write_snapshot()
    store.append(batch([(1, TEN_MS + 3, 1.0)]), "late")
    assert state_of(metric_store(objects)) == state_of(store)
    assert StoreState.from_json(quiet).to_json() == quiet
    key = store.log.snapshots()[-1]
    objects.objects[key] = b"damaged"
    assert state_of(metric_store(objects)) == state_of(store)


def test_a_snapshot_is_written_every_few_hundred_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then a new reader opens few entries, and trimming lets the covered ones go."""
    assert SNAPSHOT_EVERY == 500
    monkeypatch.setattr("resources.metrics.store_log.SNAPSHOT_EVERY", 4)
    objects = InMemoryObjectStore()
    store = metric_store(objects)
    for each in range(13):
        store.append(batch([(1, TEN_MS + 1 + each, 1.0)]), f"b{each}")
    assert [key[10:22] for key in store.log.snapshots()] == [f"{n:012d}" for n in (4, 8, 12)]
    assert store.log.trim(keep_from=6) == 1 + 5
    assert len(store.log.snapshots()) == 2
    fresh = metric_store(objects)
    assert [one.number for one in fresh.commits(after=6)] == list(range(7, 14))
    assert fresh.append(batch([(1, TEN_MS + 1, 1.0)]), "b12").number == 13
    assert state_of(fresh) == state_of(store)


def test_what_no_entry_names_is_collected_when_it_is_old() -> None:
    """Never what counts, never what may be about to count."""
    clock = half_past_noon()
    objects = InMemoryObjectStore(clock.now)
    store = metric_store(objects, clock)
    store.append(batch(steady(2, TEN_MS, 30)), "one")
    objects.create("raw/2026-03-01/10/0000/left-over.parquet", b"x")
    assert collect(store) == (0, 0)
    clock.advance(COLLECT_AFTER.total_seconds() + 1)
    objects.create("raw/2026-03-01/10/0000/young.parquet", b"x")
    assert collect(store) == (1, 1)
    assert "raw/2026-03-01/10/0000/young.parquet" in objects.objects
    assert len(rows_of(store, [ident("cpu", 0), ident("cpu", 1)], TEN_MS, NOON_MS)) == 240


def test_many_small_parts_become_one_with_the_same_samples() -> None:
    """Only hours that are worth it; rollups stay what they are; conflicts are counted."""
    clock = half_past_noon()
    store = metric_store(clock=clock, shards=1)
    for minute in range(20):
        store.append(batch(steady(2, TEN_MS + 60_000 * minute, 1)), f"b{minute}")
    store.append(batch([(0, TEN_MS + 15_000, -5.0)]), "conflict")
    ids = [ident("cpu", 0), ident("cpu", 1)]
    before = rows_of(store, ids, TEN_MS, NOON_MS)
    make_all(store)
    built = built_files(store)
    with store.log.reading() as state:
        due = find_compactions(state, store.open_from_ms())
    assert [(one.hour_ms, one.parts) for one in due] == [(TEN_MS, 21)]
    assert compact_hours(store, 10) == due
    assert rows_of(store, ids, TEN_MS, NOON_MS) == before
    assert dirty_of(store, Level.M1) == []
    assert built_files(store) == built
    assert compact_hours(store, 10) == []
    with store.log.reading() as state:
        assert len(state.parts(TEN_MS, 0)) == 1
        assert state.counted.conflicts == 1
    store.append(batch([(0, TEN_MS + 15_000, 9.0)]), "after")
    assert rows_of(store, ids[:1], TEN_MS, TEN_MS + 15_000)[0][2] == 9.0 or ids[0] > ids[1]


def test_raw_goes_only_when_every_rollup_is_built() -> None:
    """Each level waits for the next one; what waits is said."""
    clock = half_past_noon()
    objects = InMemoryObjectStore(clock.now)
    store = metric_store(objects, clock)
    store.append(batch(steady(2, TEN_MS, 60)), "one")
    clock.advance(20 * 86_400)
    policy = MetricPolicy(1, 1, 1, 1, 1)
    for level in Level:
        plan = retain(store, policy).plan
        held = [plan.raw_floor_ms, *plan.floors_ms.values()]
        at = list(Level).index(level)
        assert held[at:] == [NOON_MS // DAY_MS * DAY_MS] * (5 - at)
        assert all(floor > NOON_MS for floor in held[:at])
        assert f"{level.text} of 2026-03-01 is not built yet" in " ".join(plan.reasons)
        for start in dirty_of(store, level):
            roll_up_partition(store, level, start)
    plan = retain(store, policy).plan
    assert plan.reasons == ()
    assert plan.raw_floor_ms > NOON_MS
    clock.advance(2 * 86_400)
    retain(store, policy)
    assert [key for key in objects.objects if key.startswith(("raw/", "rollups/"))] == []
    with store.log.reading() as state:
        again = plan_retention(state, policy, store.now_ms() - 10 * DAY_MS)
        assert again.raw_floor_ms == state.raw_floor_ms


def test_samples_below_the_floor_are_refused_by_count() -> None:
    """Their hour could not be made anew whole: its rollups stay as they are."""
    clock = half_past_noon()
    store = metric_store(clock=clock)
    store.append(batch(steady(2, TEN_MS, 60)), "one")
    clock.advance(20 * 86_400)
    make_all(store)
    built = built_files(store)
    retain(store, MetricPolicy(keep_raw_days=2))
    commit = store.append(batch([(1, TEN_MS + 1, 5.0)]), "too late")
    assert commit.parts == ()
    with store.log.reading() as state:
        assert state.counted.refused_expired == 1
    assert dirty_of(store, Level.M1) == []
    assert built_files(store) == built


def test_a_floor_that_rises_under_an_append_is_seen_before_the_commit() -> None:
    """The writer stored its parts, then retention was first: the batch is divided anew."""
    clock = half_past_noon()

    class Overtaken(InMemoryObjectStore):
        """Lets retention run just before the entry of the log is created."""

        def create(self, key: str, data: bytes) -> bool:
            if key.startswith("log/") and b'"late"' in data and not done:
                done.append(retain(metric_store(objects, clock), MetricPolicy(keep_raw_days=2)))
            return super().create(key, data)

    done: list[object] = []
    objects = InMemoryObjectStore(clock.now)
    store = metric_store(objects, clock)
    store.append(batch(steady(2, TEN_MS, 60)), "one")
    clock.advance(20 * 86_400)
    make_all(store)
    slow = Overtaken(clock.now)
    slow.objects, slow.modified = objects.objects, objects.modified
    commit = metric_store(slow, clock).append(batch([(1, TEN_MS + 1, 5.0)]), "late")
    assert len(done) == 1
    assert commit.parts == ()


def test_an_identity_that_another_writer_takes_first_is_refused_at_the_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither knew of the other when it began; the log decides."""
    taken = ident("cpu", 0)

    class Overtaken(InMemoryObjectStore):
        def create(self, key: str, data: bytes) -> bool:
            if key.startswith("log/") and b'"second"' in data and not done:
                done.append(metric_store(objects).append(batch(steady(1, TEN_MS, 1)), "first"))
            return super().create(key, data)

    done: list[object] = []
    objects = InMemoryObjectStore()
    slow = Overtaken()
    slow.objects, slow.modified = objects.objects, objects.modified
    monkeypatch.setattr("resources.metrics.appending.series_id", lambda labels: taken)
    other = SampleBatch(
        np.array([taken]), np.array([TEN_MS + 1]), np.array([1.0]), {taken: info("other", 5)}
    )
    with pytest.raises(InvalidInputError, match="identity"):
        metric_store(slow).append(other, "second")
    assert [one.batch_id for one in metric_store(objects).commits()] == ["first"]


def test_damage_is_found_and_rollups_heal() -> None:
    """Raw samples cannot be made anew: they stay named; what they make is not thrown away."""
    clock = half_past_noon()
    objects = InMemoryObjectStore()
    store = metric_store(objects, clock)
    store.append(batch(steady(2, TEN_MS, 60)), "one")
    make_all(store)
    built = built_files(store)
    assert verify_objects(store, 0).damages == ()
    with store.log.reading() as state:
        keys = [one.part.key for one in state.parts(TEN_MS, 0)]
        records = state.rollups[Level.M1][TEN_MS, 1].records
        assert records is not None
        keys.append(records.key)
    for key in keys:
        objects.objects[key] = b"damaged"
    found = {one.key: one.healed for one in verify_objects(store, 0).damages}
    assert found == {keys[0]: False, keys[1]: True}
    assert dirty_of(store, Level.M1) == [TEN_MS]
    make_all(store)
    assert built_files(store) == built


def test_verification_goes_round() -> None:
    """Each look begins where the last one ended, so that all objects have their turn."""
    store = metric_store()
    store.append(batch(steady(3, TEN_MS, 60)), "one")
    make_all(store)
    total = verify_objects(store, 0).objects
    seen = sum(verify_objects(store, 2, offset=at).objects for at in range(0, total, 2))
    assert seen >= total > 4


def test_a_level_is_never_kept_shorter_than_a_finer_one() -> None:
    """It could not be made anew from what is gone."""
    assert validate_policy(MetricPolicy()) == MetricPolicy()
    with pytest.raises(InvalidInputError, match="keep_5m_days"):
        validate_policy(MetricPolicy(keep_1m_days=100))
