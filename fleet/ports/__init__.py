"""What the core asks of the world; adapters in `resources/` implement it.

One contract suite per port (`tests/contracts/`) runs on every adapter and on the fake. A port
raises only errors of `fleet.errors`. Batches go in and come out in order, one result per item.
Never holds a decision.
"""
