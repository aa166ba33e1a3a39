"""Choice, filters, tuning, sampling and numbers of notes: each rule, and its borders."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidInputError
from fleet.vectors.choice import choose_index, list_count
from fleet.vectors.external_ids import demand_distinct, external_ids
from fleet.vectors.filters import decide_filter
from fleet.vectors.records import EmbeddingModel, IndexKind, VectorPolicy, validate_model
from fleet.vectors.sampling import sample_rows
from fleet.vectors.tuning import count_right, measure_recall, tune_search, wilson_interval

POLICY = VectorPolicy()
SMALL = VectorPolicy(memory_max_bytes=50_000_000)

CHOICES = [
    (0, 0.0, POLICY, IndexKind.FLAT, "Flat", True),
    (19_999, 0.9, POLICY, IndexKind.FLAT, "Flat", True),
    (20_000, 0.1, POLICY, IndexKind.HNSW, "HNSW28,SQ8", False),
    (20_000, 0.11, POLICY, IndexKind.IVF, "IVF512,SQ8", True),
    (200_000, 0.0, POLICY, IndexKind.HNSW, "HNSW28,SQ8", False),
    (150_000, 0.0, SMALL, IndexKind.IVF, "IVF1548,SQ8", True),
    (500_000, 0.0, POLICY, IndexKind.IVF, "IVF2828,SQ8", True),
    (500_000, 0.0, SMALL, IndexKind.IVF, "IVF2828,RaBitQ,Refine(SQ8)", False),
    (20_000_000, 0.0, POLICY, IndexKind.IVF, "IVF17888_HNSW32,RaBitQ,Refine(SQ8)", False),
]


@pytest.mark.parametrize(("live", "churn", "policy", "kind", "factory", "can_remove"), CHOICES)
def test_the_type_follows_size_churn_and_memory(
    live: int, churn: float, policy: VectorPolicy, kind: IndexKind, factory: str, can_remove: bool
) -> None:
    """The table of the format document, row by row, each with a reason and a sweep."""
    spec = choose_index(live, 256, churn, policy)
    assert (spec.kind, spec.factory, spec.can_remove) == (kind, factory, can_remove)
    assert spec.reason
    assert spec.sweep
    assert (kind is IndexKind.FLAT) == (spec.sweep == ({},))


def test_no_list_has_too_few_vectors_to_train_on() -> None:
    """FAISS's 39 points per centroid hold for every size."""
    for live in (1, 38, 39, 1000, 25_000, 10**6, 10**8):
        assert 1 <= list_count(live) <= max(1, live // 39)


def test_a_filter_is_exact_below_a_fifth_and_for_few_notes() -> None:
    """Borders of the verdict; without a filter the index is asked."""
    table = {
        (1, 10): True,
        (199_999, 1_000_000): True,
        (200_000, 1_000_000): False,
        (19_999, 40_000): True,
        (20_000, 40_000): False,
        (10, 10): False,
        (0, 0): False,
    }
    found = {key: decide_filter(*key, POLICY, is_exact=False).exact for key in table}
    assert found == table
    assert decide_filter(10, 10, POLICY, is_exact=True).exact


def test_the_interval_is_wilsons() -> None:
    """Against published values, and at both ends, where others leave 0 to 1."""
    low, high = wilson_interval(81, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)  # Newcombe 1998, table I
    assert wilson_interval(0, 10)[0] == 0.0
    assert wilson_interval(10, 10)[1] == 1.0
    assert wilson_interval(0, 0) == (0.0, 1.0)


@given(st.integers(0, 500), st.integers(1, 500))
def test_the_interval_holds_the_share(hits: int, trials: int) -> None:
    """0 <= low <= share <= high <= 1."""
    hits = min(hits, trials)
    low, high = wilson_interval(hits, trials)
    assert 0.0 <= low <= hits / trials <= high <= 1.0


def test_equal_notes_are_interchangeable_in_recall() -> None:
    """A neighbour as near as the k-th is right, one farther is not; missing ones are missed."""
    nothing = -np.inf
    truth = np.array([[0.9, 0.8, 0.8], [0.5, nothing, nothing]], np.float32)
    found = np.array([[0.8, 0.8, 0.7999], [0.5, 0.1, nothing]], np.float32)
    assert count_right(found, truth) == (3, 4)
    assert count_right(truth, truth) == (4, 4)
    empty = measure_recall(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), {}, 1)
    assert (empty.recall, empty.low, empty.high) == (1.0, 0.0, 1.0)


def test_tuning_takes_the_cheapest_that_is_good_enough_and_refuses_below() -> None:
    """The first of the sweep that reaches the target; none, with the best named, otherwise."""
    truth = np.ones((10, 10), np.float32)

    def measure(parameters: object) -> object:
        found = truth.copy()
        found[:, parameters["nprobe"] :] = 0.0  # type: ignore[index]
        return measure_recall(found, truth, parameters, 7)  # type: ignore[arg-type]

    sweep = [{"nprobe": probes} for probes in (2, 5, 8, 9)]
    verdict = tune_search(sweep, measure, 0.8)  # type: ignore[arg-type]
    assert verdict.chosen is not None
    assert verdict.chosen.parameters == {"nprobe": 8}
    assert len(verdict.tried) == 3
    refused = tune_search(sweep, measure, 0.95)  # type: ignore[arg-type]
    assert refused.chosen is None
    assert "0.9000" in refused.reason
    assert "nprobe 9" in refused.reason
    assert tune_search([], measure, 0.5).chosen is None  # type: ignore[arg-type]


def test_the_sample_is_the_same_for_the_same_seed_and_alive() -> None:
    """Drawn among live rows, without repetition; all of them when there are few."""
    live = np.arange(1000) % 3 == 0
    drawn = sample_rows(live, 50, 1)
    assert (drawn == sample_rows(live, 50, 1)).all()
    assert (drawn != sample_rows(live, 50, 2)).any()
    assert live[drawn].all()
    assert len(set(drawn.tolist())) == 50
    assert sample_rows(live, 1000, 1).tolist() == np.flatnonzero(live).tolist()


def test_two_notes_with_one_number_are_refused_by_name() -> None:
    """With a hash of 8 bits collisions are certain; with 63 there are none among 5,000 notes."""
    notes = [f"note-{number}" for number in range(5000)]
    ids = external_ids(notes)
    demand_distinct(notes, ids)
    assert (ids >= 0).all()
    assert external_ids(["note-7"])[0] == ids[7]
    few = external_ids(notes, bits=8)
    with pytest.raises(InvalidInputError, match=r"note-\d+.*note-\d+"):
        demand_distinct(notes, few)


@pytest.mark.parametrize(
    "wrong",
    [
        {"recall_target": 0.0},
        {"recall_target": 1.01},
        {"recall_target": float("nan")},
        {"keep_generations": 0},
        {"growth_max": 1.0},
        {"leftover_age_s": 1.0},
    ],
)
def test_a_policy_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    """Each error names its field."""
    with pytest.raises(InvalidInputError, match=next(iter(wrong))):
        VectorPolicy(**wrong)  # type: ignore[arg-type]


def test_a_model_without_dimensions_is_refused() -> None:
    """Keys and checks stand on name, revision and dimensions."""
    good = EmbeddingModel("wordllama", "0123456789abcdef", 256)
    assert validate_model(good).model_id == "wordllama-0123456789ab"
    for bad in (good._replace(name="a/b"), good._replace(dimensions=0), good._replace(revision="")):
        with pytest.raises(InvalidInputError):
            validate_model(bad)
