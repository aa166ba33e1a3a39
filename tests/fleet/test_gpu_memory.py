"""What GPU work takes, and where it fits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fleet.gpu_memory import (
    CONTEXT_BYTES,
    GIB,
    RESERVE_BYTES,
    GpuOffer,
    MemoryNeed,
    available_bytes,
    choose_gpu,
    exact_search_need,
    granted_bytes,
    larger_need,
    list_build_need,
)

SIZES = st.integers(0, 200 * GIB)
SMALL = MemoryNeed(10 * GIB, 0, 0, 0, 2 * GIB)


def offer(name: str, available_gib: float, unfit: str = "") -> GpuOffer:
    """A GPU of 80 GiB with so much available."""
    used = int((79 - available_gib) * GIB)
    return GpuOffer(name, 0, 80 * GIB, used, 0, unfit)


def test_a_million_vectors_take_their_halves_and_a_block_of_scores() -> None:
    """1M x 384 in half precision: 0.77 GB, and scores within their block whatever is asked."""
    need = exact_search_need(1_000_000, 384, 1000)
    assert need.database_bytes == 772_000_000
    assert need.queries_bytes == 768_000
    assert 2 * GIB <= need.scratch_bytes < 2.1 * GIB
    assert need.wanted_bytes < 4 * GIB
    assert need.least_bytes < 1 * GIB
    few = exact_search_need(1000, 384, 10)
    assert few.scratch_bytes == 16 * 10 * 1000 + 24 * 10 * 64
    assert exact_search_need(1000, 384, 10, type_bytes=4).database_bytes == 1_540_000


def test_lists_take_their_codes_twice_and_nothing_less_will_do() -> None:
    """Half of a list that has just grown is empty."""
    need = list_build_need(1000, 100, 500, temp_bytes=7)
    assert need.database_bytes == 2 * 1000 * 108
    assert need.scratch_bytes == 7 + 200_000
    assert need.least_bytes == need.wanted_bytes
    both = larger_need(need, SMALL)
    assert both.database_bytes == 10 * GIB
    assert both.context_bytes == CONTEXT_BYTES


@given(SIZES, SIZES, SIZES)
def test_what_is_given_out_never_passes_the_memory(total: int, used: int, leased: int) -> None:
    """With the reserve, whatever is in use and leased; more in use never makes more available."""
    free = available_bytes(total, used, leased)
    assert free >= 0
    assert free == 0 or free + max(used, leased) + RESERVE_BYTES == total
    assert available_bytes(total, used + 1, leased) <= free
    assert available_bytes(total, used, leased + 1) <= free


@given(st.lists(st.tuples(st.floats(0, 79), st.booleans()), max_size=6), SIZES, SIZES)
def test_the_emptiest_gpu_that_fits_is_first(
    gpus: list[tuple[float, bool]], wanted: int, least: int
) -> None:
    """Every one that is fit and has the least is there, no other; what is granted is available."""
    offers = [offer(f"GPU-{n}", free, "ill" * ill) for n, (free, ill) in enumerate(gpus)]
    need = MemoryNeed(wanted, 0, 0, 0, min(least, wanted))
    found = choose_gpu(offers, need)
    assert {one.gpu_uuid for one in found.fitting} == {
        one.gpu_uuid for one in offers if not one.unfit and one.available_bytes >= need.least_bytes
    }
    sizes = [one.available_bytes for one in found.fitting]
    assert sizes == sorted(sizes, reverse=True)
    for size in sizes:
        assert need.least_bytes <= granted_bytes(size, need) <= min(size, need.wanted_bytes)


def test_the_reason_names_what_was_chosen_or_each_why_not() -> None:
    """For people who ask why a build ran on the processor."""
    whole = choose_gpu([offer("A", 30), offer("B", 40)], SMALL)
    assert whole.reason == "B: 10.00 of 40.00 GiB available"
    assert choose_gpu([offer("A", 5)], SMALL).reason.endswith("5.00 GiB available, in blocks")
    none = choose_gpu([offer("A", 1), offer("B", 70, "unhealthy: Xid 79")], SMALL)
    assert none == (
        (),
        "2.00 GiB needed; B: unhealthy: Xid 79; A: 1.00 of 80.00 GiB available",
    )
    assert choose_gpu([], SMALL).reason == "2.00 GiB needed; there is no GPU"
