"""Every scenario of failover by name."""

from __future__ import annotations

from tests.simulated.scenarios_fleet import SCENARIOS as FLEET
from tests.simulated.scenarios_nodes import SCENARIOS as NODES
from tests.simulated.scenarios_restores import SCENARIOS as RESTORES
from tests.simulated.scenarios_rules import SCENARIOS as RULES

ALL = (*NODES, *FLEET, *RESTORES, *RULES)
BY_NAME = {one.name: one for one in ALL}
