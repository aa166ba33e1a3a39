"""Evidence of all nodes in columns: one array per quantity, all in one fixed order of nodes.

The arrays are the reader's to build once per tick; nothing here changes them. NumPy is imported
when columns are built, so that importing the definitions stays quick.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from fleet.errors import InvalidInputError
from fleet.inventory import NodePhase

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float64]
    IntArray = npt.NDArray[np.int32]
    BoolArray = npt.NDArray[np.bool_]

CONTROLLER_DOMAIN = "controller"
"""Failure domain of the controller's own probes; it counts as outside of every region."""


class Infrastructure(IntEnum):
    """What the infrastructure says of a node, as the code in `NodeColumns.infrastructure`."""

    UNKNOWN = 0
    """No answer; proves nothing."""
    RUNNING = 1
    """Proves nothing either."""
    PENDING = 2
    """Declared, not started yet: no sign of life is expected."""
    STOPPED = 3
    """Stopped on request: no sign of life is expected."""
    TERMINATED = 4
    """Gone for certain."""

    @classmethod
    def of(cls, phase: NodePhase) -> Infrastructure:
        """The code of an inventory phase."""
        return cls[phase.name]


_DEFAULTS: dict[str, tuple[str, float]] = {
    "region_index": ("int32", 0),
    "heartbeat_age_s": ("float64", 0.0),
    "heartbeat_mean_s": ("float64", 0.0),
    "lease_age_s": ("float64", 0.0),
    "lease_ttl_s": ("float64", 0.0),
    "work_age_s": ("float64", float("inf")),
    "infrastructure": ("int8", Infrastructure.RUNNING),
    "terminated_age_s": ("float64", float("inf")),
    "stop_acknowledged": ("bool", 0),
    "maintenance": ("bool", 0),
    "agents": ("int32", 0),
    "agents_stateless": ("int32", 0),
    "agents_stale": ("int32", 0),
    "observers": ("int32", 0),
    "votes_dead": ("int32", 0),
    "votes_alive": ("int32", 0),
    "dead_domains": ("int32", 0),
    "dead_outside": ("int32", 0),
}


@dataclass(frozen=True, slots=True, eq=False)
class NodeColumns:
    """What is known of every node: arrays of one length, all in the order of `node_ids`.

    Build it with `node_columns`, which fills what is not given and checks shapes. Ages count from
    the moment when *we* saw the sign (`ages.ReceiverAges`), +inf where we never saw one.
    """

    node_ids: tuple[str, ...]
    regions: tuple[str, ...]
    """Names of all regions; `region_index` points here."""
    region_index: IntArray
    heartbeat_age_s: FloatArray
    """E1: since we last saw a new heartbeat."""
    heartbeat_mean_s: FloatArray
    """The node's own mean interval between heartbeats, without outages; 0 while unknown."""
    lease_age_s: FloatArray
    """E3: since we last saw a lease of the node renewed in the store."""
    lease_ttl_s: FloatArray
    """Longest time to live of a lease held there; 0 means the policy's."""
    work_age_s: FloatArray
    """E4: since we last saw newer work (activity, sample, state) of an agent there."""
    infrastructure: npt.NDArray[np.int8]
    """E5: codes of `Infrastructure`."""
    terminated_age_s: FloatArray
    """Since we first saw the present `TERMINATED`; +inf where it does not say so."""
    stop_acknowledged: BoolArray
    """The node has said that its copies are stopped, or has released its lease."""
    maintenance: BoolArray
    """E6: a maintenance mark or drain notice stands."""
    agents: IntArray
    """Agents placed there that should run."""
    agents_stateless: IntArray
    """Those of them that may run twice: they need no fence."""
    agents_stale: IntArray
    """Copies reported there under a lower epoch than the placement's, or placed elsewhere."""
    observers: IntArray
    """E2: observers configured for this node, whether they answer or not."""
    votes_dead: IntArray
    """Of these, fresh votes that it is dead."""
    votes_alive: IntArray
    """Of these, fresh votes that it is alive."""
    dead_domains: IntArray
    """Distinct failure domains among the dead votes."""
    dead_outside: IntArray
    """Dead votes from outside the node's region; `CONTROLLER_DOMAIN` is outside of all."""

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self.node_ids)

    def find(self, node_id: str) -> int | None:
        """Position of a node; None when it is not among them."""
        index = bisect_left(self.node_ids, node_id)
        found = index < len(self.node_ids) and self.node_ids[index] == node_id
        return index if found else None

    def region_of(self, index: int) -> str:
        """Name of the region of the node at `index`."""
        return self.regions[int(self.region_index[index])]


class _Same:
    """Equal to another only where both hold the same object: to hash all names takes longer."""

    __slots__ = ("held",)

    def __init__(self, held: tuple[str, ...]) -> None:
        self.held = held

    def __hash__(self) -> int:
        return id(self.held)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.held is other.held


@lru_cache(maxsize=8)
def _check_sorted(node_ids: _Same) -> None:
    """Cached: a reader builds columns of the same tuple tick after tick."""
    for before, after in pairwise(node_ids.held):
        if before >= after:
            raise InvalidInputError("node_ids", after, f"sorted names, each once; after {before!r}")


def node_columns(
    node_ids: tuple[str, ...], regions: tuple[str, ...], **columns: Any
) -> NodeColumns:
    """Columns for these nodes; a scalar fills a column, what is absent gets its harmless default.

    The default of each column is a node that nothing is wrong with and nobody votes on.

    Args:
        node_ids: in the order of all arrays, sorted, each once.
        regions: names that `region_index` points to.
        **columns: fields of `NodeColumns` by name; arrays, sequences or scalars.

    Raises:
        InvalidInputError: unknown column, wrong length, names not sorted, a region out of range.
    """
    import numpy as np

    size = len(node_ids)
    _check_sorted(_Same(node_ids))
    unknown = sorted(set(columns) - set(_DEFAULTS))
    if unknown:
        raise InvalidInputError("columns", ", ".join(unknown), ", ".join(_DEFAULTS))
    arrays = {}
    for name, (dtype, default) in _DEFAULTS.items():
        array = np.asarray(columns.get(name, default), dtype=dtype)
        if array.shape not in {(), (size,)}:
            raise InvalidInputError(name, array.shape, f"one value, or {size} in one dimension")
        arrays[name] = np.full(size, array, dtype=dtype) if array.ndim == 0 else array
    index = arrays["region_index"]
    if size and not (int(index.min()) >= 0 and int(index.max()) < len(regions)):
        raise InvalidInputError("region_index", int(index.max()), f"0 to {len(regions) - 1}")
    return NodeColumns(node_ids=node_ids, regions=regions, **arrays)
