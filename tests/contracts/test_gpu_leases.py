"""What stores do about GPU memory: never more than there is, fences that rise, leases that end."""

from __future__ import annotations

import random
import threading
from collections import defaultdict

import pytest

from fleet.errors import InvalidInputError, LeaseLostError
from fleet.gpu_leases import GpuFallbacks, GpuLease, GpuLeaseWish
from fleet.gpu_memory import GIB
from fleet.ports.control_store import ControlStore
from tests.contracts.store_harness import MemoryHarness, StoreHarness


def wish(holder: str, memory_gib: float, gpu: str = "GPU-1", used_gib: float = 0) -> GpuLeaseWish:
    """Memory of a GPU of 81 GiB, of which 1 is kept free, for a minute."""
    memory, used = int(memory_gib * GIB), int(used_gib * GIB)
    return GpuLeaseWish(gpu, "n1", holder, memory, 81 * GIB, used)


def take(store: ControlStore, holder: str, memory_gib: float, gpu: str = "GPU-1") -> GpuLease:
    """A lease that must be had."""
    result = store.acquire_gpu(wish(holder, memory_gib, gpu))
    assert result.lease is not None, result.reason
    assert result.reason == ""
    return result.lease


def test_a_gpu_is_shared_until_its_memory_is_given_out(store: ControlStore) -> None:
    """What is leased and what is in use overlap, so the greater counts; a refusal names all."""
    a, b = take(store, "a", 50), take(store, "b", 29)
    assert (a.fence, b.fence) == (1, 2)
    refused = store.acquire_gpu(wish("c", 2))
    assert refused.lease is None
    assert "GPU-1 has 1.00 GiB available, c wants 2.00" in refused.reason
    assert "79.00 are leased" in refused.reason
    assert take(store, "c", 2, "GPU-2").fence == 1
    store.release_gpu(b)
    assert store.acquire_gpu(wish("c", 29, used_gib=52)).lease is None
    assert store.acquire_gpu(wish("c", 28, used_gib=52)).lease is not None
    assert [(one.gpu_uuid, one.holder) for one in store.gpu_leases()] == [
        ("GPU-1", "a"), ("GPU-1", "c"), ("GPU-2", "c"),
    ]  # fmt: skip
    assert store.gpu_leases("n2") == []


def test_a_holder_that_asks_again_has_one_lease_under_one_fence(store: ControlStore) -> None:
    """So an acquisition whose outcome is unknown may be repeated; its own memory does not count."""
    first = take(store, "a", 50)
    again = take(store, "a", 70)
    assert again.fence == first.fence
    assert [one.memory_bytes for one in store.gpu_leases()] == [70 * GIB]
    assert store.acquire_gpu(wish("a", 81)).lease is None
    assert store.gpu_leases() == [again]


def test_a_lease_that_ran_out_is_renewed_until_somebody_asks(harness: StoreHarness) -> None:
    """Then it is lost: renewing and releasing it touch nothing, and its memory is another's."""
    harness.clear()
    store = harness.store
    lease = take(store, "a", 50)
    harness.advance(61)
    assert store.gpu_leases() == []
    renewed = store.renew_gpu(lease)
    assert renewed.expires_at > lease.expires_at
    assert store.gpu_leases() == [renewed]
    harness.advance(61)
    other = take(store, "b", 60)
    assert other.fence == lease.fence + 1
    with pytest.raises(LeaseLostError, match=r"a does not hold 50.00 GiB of GPU-1 any more"):
        store.renew_gpu(renewed)
    store.release_gpu(renewed)
    assert store.gpu_leases() == [other]


def test_who_comes_back_has_a_higher_fence(store: ControlStore) -> None:
    """The lease before is refused, although its holder has a lease."""
    before = take(store, "a", 50)
    store.release_gpu(before)
    after = take(store, "a", 50)
    assert after.fence == before.fence + 1
    with pytest.raises(LeaseLostError, match="fence 1"):
        store.renew_gpu(before)
    store.release_gpu(before)
    assert store.gpu_leases() == [after]


BAD = {
    "gpu_uuid": "", "node_id": "", "holder": "a\0b", "memory_bytes": 0, "total_bytes": 0,
    "used_bytes": -1, "ttl_s": float("nan"), "reserve_bytes": 2**63,
}  # fmt: skip


def test_a_wish_that_no_gpu_could_grant_is_refused_by_its_field(store: ControlStore) -> None:
    """Nothing is stored of it, nor of a bad count."""
    for field, value in BAD.items():
        with pytest.raises(InvalidInputError, match=field):
            store.acquire_gpu(wish("a", 1)._replace(**{field: value}))
    for node, counts in (("n1", {"memory": 1, "": 1}), ("", {"lost": 1}), ("n1", {"lost": -1})):
        with pytest.raises(InvalidInputError, match="gpu fallbacks"):
            store.count_gpu_fallbacks(node, counts)
    assert store.gpu_leases() == []
    assert store.gpu_fallbacks() == []


def test_fallbacks_add_up(store: ControlStore) -> None:
    """By machine and reason; they never fall."""
    store.count_gpu_fallbacks("n2", {"memory": 1})
    store.count_gpu_fallbacks("n1", {"memory": 1, "lost": 2})
    store.count_gpu_fallbacks("n1", {"memory": 4})
    store.count_gpu_fallbacks("n1", {})
    assert store.gpu_fallbacks() == [
        GpuFallbacks("n1", "lost", 2), GpuFallbacks("n1", "memory", 5),
        GpuFallbacks("n2", "memory", 1),
    ]  # fmt: skip


def test_of_two_who_want_the_last_memory_one_has_it(store: ControlStore) -> None:
    """At the same moment, from two threads, many times."""
    for number in range(5):
        gate, won = threading.Barrier(2), list[str]()

        def ask(
            name: str, gate: threading.Barrier = gate, won: list[str] = won, gpu: int = number
        ) -> None:
            gate.wait(timeout=60)
            if store.acquire_gpu(wish(name, 50, f"GPU-{gpu}")).lease is not None:
                won.append(name)

        threads = [threading.Thread(target=ask, args=(name,)) for name in "ab"]
        for one in threads:
            one.start()
        for one in threads:
            one.join(timeout=120)
        assert len(won) == 1


def test_any_history_keeps_within_the_memory_and_answers_as_the_twin(
    harness: StoreHarness,
) -> None:
    """80 chance steps: the sum of live leases fits, fences rise, the fake says the same."""
    harness.clear()
    twin = MemoryHarness()
    chance = random.Random(7)
    held: list[tuple[GpuLease, GpuLease]] = []
    highest: dict[str, int] = defaultdict(int)
    for _ in range(80):
        step = chance.choice(["acquire", "acquire", "renew", "release", "advance"])
        if step == "acquire":
            asked = wish(chance.choice("abc"), chance.randint(1, 50), chance.choice(["G", "H"]))
            mine, theirs = (one.store.acquire_gpu(asked) for one in (harness, twin))
            assert (mine.lease is None, mine.reason) == (theirs.lease is None, theirs.reason)
            if mine.lease is not None and theirs.lease is not None:
                assert mine.lease[:6] == theirs.lease[:6]
                assert mine.lease.fence >= highest[asked.gpu_uuid] or any(
                    one.fence == mine.lease.fence for one, _ in held
                )
                highest[asked.gpu_uuid] = max(highest[asked.gpu_uuid], mine.lease.fence)
                held.append((mine.lease, theirs.lease))
        elif step == "advance":
            seconds = chance.choice([20, 45])
            harness.advance(seconds)
            twin.advance(seconds)
        elif held:
            pair = chance.choice(held)
            assert outcome(harness, step, pair[0]) == outcome(twin, step, pair[1])
        live = harness.store.gpu_leases()
        assert [one[:6] for one in live] == [one[:6] for one in twin.store.gpu_leases()]
        for gpu in "GH":
            assert sum(one.memory_bytes for one in live if one.gpu_uuid == gpu) <= 80 * GIB


def outcome(harness: StoreHarness, step: str, lease: GpuLease) -> str:
    """What became of a renewal or release, without its times."""
    try:
        if step == "release":
            harness.store.release_gpu(lease)
            return "released"
        return str(harness.store.renew_gpu(lease)[:6])
    except LeaseLostError as error:
        return str(error)
