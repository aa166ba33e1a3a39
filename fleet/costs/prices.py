"""Prices, and what each node costs by them.

A node has the price of the entry that says most about it; without one, the sum of its resources'
prices. The price of a node is split over its resources in the proportion of these, so that what is
allocated and what is idle add up to the bill.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from fleet.errors import InvalidInputError
from fleet.inventory import Node
from fleet.rightsizing.records import Resource

GIB = 1024**3
HOURS_A_MONTH = 730
"""Hours that providers bill a month at. Source: AWS pricing calculator."""
LIST_PRICES = "resource prices"
"""Source of a price that no entry is about."""


@dataclass(frozen=True, slots=True)
class ResourceRates:
    """Prices of resources, in the currency of the price book.

    Source of the defaults: opencost/opencost, configs/default.json (0d1f69c), list prices of GCP
    us-central1; storage there is for a GB and hour.
    """

    cpu_core_hour: float = 0.031611
    memory_gib_hour: float = 0.004237
    gpu_hour: float = 0.95
    storage_gib_month: float = 0.04
    egress_gib: float = 0.01
    """Of bytes that leave a region for another one."""

    def __post_init__(self) -> None:
        """Refuse prices below nothing."""
        for name in self.__slots__:
            if not getattr(self, name) >= 0:
                raise InvalidInputError(f"costs.{name}", getattr(self, name), "0 or more")


class NodePrice(NamedTuple):
    """A price for the nodes that fit its description; an empty part fits every node."""

    name: str
    region: str = ""
    gpu_model: str = ""
    cpu_milli: int = 0
    """Capacity of the node; 0 fits all."""
    instance_type: str = ""
    """What AWS calls such nodes; their prices can be asked for."""
    node_hour: float = 0.0
    """Of the whole node; 0: the sum of its resources."""
    gpu_hour: float = 0.0
    """Of one of its GPUs; 0: that of `ResourceRates`."""

    def fits(self, node: Node) -> bool:
        """Whether the entry is about a node."""
        return (
            self.region in {"", node.region}
            and self.gpu_model in {"", node.gpu_model}
            and self.cpu_milli in {0, node.cpu_milli}
        )

    @property
    def says(self) -> int:
        """How many things the entry says about the nodes that it is about."""
        return sum(map(bool, (self.region, self.gpu_model, self.cpu_milli)))


class QuotedPrice(NamedTuple):
    """What a provider asks for an instance type in a region."""

    region: str
    instance_type: str
    node_hour: float
    currency: str
    quoted_at: datetime


class NodeRate(NamedTuple):
    """What a node costs for an hour, and each unit of its resources."""

    node_hour: float
    cpu_core_hour: float
    memory_gib_hour: float
    gpu_hour: float
    source: str
    """Where the price comes from, in words."""

    def cost(self, cpu_milli: float, memory_bytes: float, gpu_milli: float) -> float:
        """Price of a part of the node for an hour."""
        return (
            cpu_milli / 1000 * self.cpu_core_hour
            + memory_bytes / GIB * self.memory_gib_hour
            + gpu_milli / 1000 * self.gpu_hour
        )


@dataclass(frozen=True, slots=True)
class PriceBook:
    """Everything that has a price.

    Args:
        rates: of resources.
        nodes: entries of the settings, in their order; of two that say as much the first counts.
        quotes: of a provider, by (region, instance type); they replace `node_hour`.
        currency: of all prices.
    """

    rates: ResourceRates = field(default_factory=ResourceRates)
    nodes: Sequence[NodePrice] = ()
    quotes: Mapping[tuple[str, str], QuotedPrice] = field(default_factory=dict)
    currency: str = "USD"

    def rate(self, node: Node) -> NodeRate:
        """What a node costs for an hour; O(entries), the same for nodes of one class."""
        fitting = [one for one in self.nodes if one.fits(node)]
        entry = max(fitting, key=lambda one: one.says, default=None)
        gpu_hour = self.rates.gpu_hour
        if entry is not None and entry.gpu_hour:
            gpu_hour = entry.gpu_hour
        listed = NodeRate(
            0.0, self.rates.cpu_core_hour, self.rates.memory_gib_hour, gpu_hour, LIST_PRICES
        )
        summed = listed.cost(node.cpu_milli, node.memory_bytes, 1000 * node.gpu_count)
        whole, source = summed, listed.source
        if entry is not None:
            source = f"prices.{entry.name}"
            quote = self.quotes.get((node.region, entry.instance_type))
            if quote is not None:
                day = quote.quoted_at.date().isoformat()
                whole, source = quote.node_hour, f"{quote.instance_type} on demand, {day}"
            elif entry.node_hour:
                whole = entry.node_hour
        scale = whole / summed if summed else 0.0
        return NodeRate(
            whole,
            listed.cpu_core_hour * scale,
            listed.memory_gib_hour * scale,
            listed.gpu_hour * scale,
            source,
        )

    def storage_hour(self, size_bytes: float) -> float:
        """Price of stored bytes for an hour."""
        return size_bytes / GIB * self.rates.storage_gib_month / HOURS_A_MONTH

    def resource_hour(self, resource: Resource, amount: int) -> float:
        """Price of an amount of a resource for an hour, wherever it is: by the list."""
        if resource is Resource.CPU:
            return amount / 1000 * self.rates.cpu_core_hour
        return amount / GIB * self.rates.memory_gib_hour


class RateTable:
    """Rates of nodes, computed once for each class: 10,000 nodes have a handful."""

    def __init__(self, book: PriceBook) -> None:
        """Begin with none."""
        self._book = book
        self._known: dict[tuple[object, ...], NodeRate] = {}

    def of(self, node: Node) -> NodeRate:
        """What a node costs."""
        key = (node.region, node.cpu_milli, node.memory_bytes, node.gpu_count, node.gpu_model)
        if key not in self._known:
            self._known[key] = self._book.rate(node)
        return self._known[key]
