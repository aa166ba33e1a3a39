"""The metric store on an object store: raw samples, the catalogue of series, rollups.

`store_log` commits, `raw_parts`, `record_parts`, `sketch_parts` and `series_parts` are the files,
`metric_store` is the `fleet.ports.MetricStore`, `rolling` and `upkeep` are what runs do to it. What
counts is decided in `fleet.metrics.store_state`; the format is `docs/formats/metrics.md`.
"""
