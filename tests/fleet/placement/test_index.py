"""The index against a scan of every node, while agents come and go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import InvalidInputError, NotFoundError
from fleet.placement import index as index_module
from fleet.placement.gpu_slots import GpuClaim, GpuSlots
from fleet.placement.index import Claim, PlacementIndex
from fleet.placement.node_pool import NodePool
from fleet.placement.requests import NO_RULES, AgentSize, PlacementRules
from fleet.reports import NodeDeclaration
from tests.fleet.placement.problems import ZONES, gpu_node, nodes_st, plain_node, sizes_st


class Scan:
    """The dumb twin: looks at all nodes for each decision."""

    def __init__(self, nodes: list[NodeDeclaration]) -> None:
        """All empty."""
        self.nodes = sorted(nodes)
        self.slots = {node.node_id: GpuSlots(node) for node in nodes}
        self.free = {
            node.node_id: [node.cpu_milli, node.memory_bytes, node.bandwidth_bps or 1 << 61]
            for node in nodes
        }

    def find(self, size: AgentSize, rules: PlacementRules, zone: str | None) -> str | None:
        """The lowest key among the nodes that fit."""
        able = [
            (self.key(node, claim, size), node.node_id)
            for node in self.nodes
            if zone in {None, node.zone}
            and all(h >= w for h, w in zip(self.free[node.node_id], size[:3], strict=True))
            and (claim := self.slots[node.node_id].find(size)) is not None
            and (not size.needs_gpu or not rules.gpu_models or node.gpu_model in rules.gpu_models)
        ]
        return min(able)[1] if able else None

    def key(self, node: NodeDeclaration, claim: GpuClaim, size: AgentSize) -> tuple[int, ...]:
        """Shares: the fullest broken device; else the fewest whole devices, the tightest CPU."""
        slots = self.slots[node.node_id]
        left = slots.free[claim.devices[0]] if claim.devices else 1000
        if size.needs_gpu and left < 1000:
            return (0, left)
        return (1, slots.whole if node.gpu_count else -1, self.free[node.node_id][0])

    def change(self, claim: Claim, sign: int) -> None:
        """Take or give back."""
        free = self.free[claim.node_id]
        for index, amount in enumerate(claim.size[:3]):
            free[index] -= sign * amount
        slots = self.slots[claim.node_id]
        (slots.take if sign > 0 else slots.release)(claim.gpu)


@given(
    nodes_st,
    st.lists(
        st.tuples(
            sizes_st,
            st.sampled_from([(), (), ("A",), ("B", "A")]),
            st.sampled_from([None, None, *ZONES]),
            st.integers(0, 2),
        ),
        max_size=25,
    ),
)
def test_the_index_finds_what_a_scan_of_all_nodes_finds(
    nodes: list[NodeDeclaration],
    steps: list[tuple[AgentSize, tuple[str, ...], str | None, int]],
) -> None:
    """Also after agents have gone, and were taken back where they had been."""
    index, scan, claims = PlacementIndex(nodes), Scan(nodes), list[Claim]()
    for size, models, zone, then in steps:
        rules = PlacementRules(gpu_models=models)
        found = index.find("r", size, rules, zone)
        assert found == scan.find(size, rules, zone)
        claim = index.place("r", size, rules, zone)
        assert (None if claim is None else claim.node_id) == found
        if claim is not None:
            scan.change(claim, 1)
            claims.append(claim)
        if then and claims:
            gone = claims.pop(len(claims) // 2)
            index.release(gone)
            if then == 2:
                index.take_again(gone)
                claims.append(gone)
            else:
                scan.change(gone, -1)


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from([100, 400, 500, 700, 1000, 2000]), st.integers(0, 12))),
)
def test_columns_of_devices_say_what_a_list_of_devices_says(
    gpus: int, wanted: list[tuple[int, int]]
) -> None:
    """`NodePool` and `GpuSlots` agree on what fits and on what is left."""
    import numpy as np

    node = gpu_node("g1", gpus, cpu=10**6, gpu_memory=gpus * 20)
    pool, slots = NodePool("r", [node]), GpuSlots(node)
    for milli, memory in wanted:
        size = AgentSize(1, 1, 0, milli, memory)
        claim = slots.find(size)
        assert bool(pool.fits(size, NO_RULES)[0]) == (claim is not None)
        if claim is not None:
            slots.take(claim)
            pool.take(np.array([0]), np.array([1]), size)
        assert sorted(pool.gpu_free[0].tolist()) == sorted(slots.free)


def test_a_certain_node_is_taken_only_when_it_has_room() -> None:
    """And is named when it is not known."""
    index = PlacementIndex([plain_node("n1", 4), gpu_node("g1", 1)])
    assert index.take("n1", AgentSize(5, 1)) is None
    assert index.take("n1", AgentSize(1, 1, 0, 500)) is None
    assert index.take("g1", AgentSize(1, 1, 0, 2000)) is None
    assert index.take("n1", AgentSize(4, 1)) is not None
    assert index.find("r", AgentSize(1, 1)) == "g1"
    assert index.find("elsewhere", AgentSize(1, 1)) is None
    with pytest.raises(NotFoundError, match="node n2 is not in the index"):
        index.take("n2", AgentSize(1, 1))
    with pytest.raises(InvalidInputError, match="each node once"):
        PlacementIndex([plain_node("n1"), plain_node("n1")])


def test_head_room_leaves_whole_devices_and_a_part_of_one() -> None:
    """A tenth of eight GPUs is 800 thousandths: seven devices stay, and a fifth of one."""
    slots = GpuSlots(gpu_node("g1", 8), 0.1)
    assert (slots.whole, slots.free_milli, min(slots.free)) == (7, 7200, 200)


def test_a_share_passes_by_devices_whose_node_or_memory_is_full() -> None:
    """The tightest device is on a node without CPU; the next has no memory left; the third does."""
    nodes = [gpu_node(f"g{n}", 1, cpu=4, gpu_memory=40) for n in range(4)]
    index = PlacementIndex(nodes)
    for node_id, size in (
        ("g0", AgentSize(4, 1, 0, 700)),
        ("g1", AgentSize(1, 1, 0, 600, 40)),
        ("g2", AgentSize(1, 1, 0, 500, 10)),
    ):
        assert index.take(node_id, size) is not None
    assert index.find("r", AgentSize(1, 1, 0, 200, 20)) == "g2"
    assert index.find("r", AgentSize(1, 1, 0, 200, 31)) == "g3"
    wide = [gpu_node("g1", 2, gpu_memory=80), gpu_node("g2", 2, "B", gpu_memory=80)]
    index = PlacementIndex(wide)
    index.take("g1", AgentSize(1, 1, 0, 600, 40))
    index.take("g1", AgentSize(1, 1, 0, 500, 10))
    index.take("g2", AgentSize(1, 1, 0, 550, 10))
    assert index.find("r", AgentSize(1, 1, 0, 300, 20)) == "g2"
    assert index.find("r", AgentSize(1, 1, 0, 300)) == "g1"


def test_an_index_says_how_many_nodes_it_can_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of mixing them up."""
    monkeypatch.setattr(index_module, "_ROW_MASK", 1)
    with pytest.raises(InvalidInputError, match="nodes: 2 is not valid; allowed: at most 1"):
        PlacementIndex([plain_node("n1"), plain_node("n2")])


def test_copied_devices_are_taken_apart() -> None:
    """Taking from the copy leaves the original whole."""
    slots = GpuSlots(gpu_node("g1", 2))
    other = slots.copy()
    claim = other.find(AgentSize(1, 1, 0, 1000))
    assert claim is not None
    other.take(claim)
    assert (slots.whole, other.whole) == (2, 1)
