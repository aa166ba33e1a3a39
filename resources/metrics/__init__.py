"""Where samples come from, and where they, their series and rollups are kept.

Sources: `scraper` and `scrape` (endpoints), `prometheus_server`, `csv_import`. The store, a
`fleet.ports.MetricStore` on an object store: `store_log` commits, `raw_parts`, `record_parts`,
`sketch_parts` and `series_parts` are its files, `metric_store` answers, `rolling` and `upkeep` are
what runs do to it. What counts is decided in `fleet.metrics.store_state`; the format is
`docs/formats/metrics.md`.
"""
