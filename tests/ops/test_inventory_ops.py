"""An op of the inventory holds the resources that it uses, and no other."""

from __future__ import annotations

from ops.inventory import (
    record_agents_op,
    record_gpus_op,
    record_nodes_op,
    record_states_op,
)


def test_each_op_needs_what_its_look_names() -> None:
    """A store that is down must not keep the tables from being recorded that do not need it."""
    ops = [record_nodes_op, record_gpus_op, record_agents_op, record_states_op]
    needs = {op.name: op.required_resource_keys - {"lake", "clock"} for op in ops}
    assert needs == {
        "record_nodes_op": {"fleet_observation", "fleet_declaration"},
        "record_gpus_op": {"fleet_observation"},
        "record_agents_op": {"fleet_observation"},
        "record_states_op": {"control_store"},
    }
    assert all(op.required_resource_keys >= {"lake", "clock"} for op in ops)
