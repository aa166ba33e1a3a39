"""Where samples come from and where they are kept: adapters of the ports of metrics.

`store_log` commits, `raw_parts`, `record_parts`, `sketch_parts` and `series_parts` are the files,
`metric_store` is the `fleet.ports.MetricStore`, `rolling` and `upkeep` are what runs do to it. What
counts is decided in `fleet.metrics.store_state`; the format is `docs/formats/metrics.md`.
"""
