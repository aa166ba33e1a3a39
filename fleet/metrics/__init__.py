"""What the fleet's numbers mean: series, samples, rollup records, and the answers read from them.

Holds records and pure functions over NumPy arrays; never a file, a socket or a clock. Alerts and
objectives stand on it in `fleet.alerts` and `fleet.objectives`.
"""
