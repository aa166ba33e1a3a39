"""Vector indexes: what waits, how old, how good, how large, and what refreshes cost."""

from __future__ import annotations

from dashboards.shape import INDEX, Dashboard, Panel

VECTORS = Dashboard(
    "vectors",
    "Stateroom / Vector indexes",
    (
        Panel(
            "Indexes that are stale",
            [
                (
                    'count(max by (index) (stateroom_index_behind_seconds{index=~"$index"})'
                    " > on (index) max by (index) (stateroom_index_max_age_seconds)) or vector(0)",
                    "",
                )
            ],
            kind="stat",
            width=6,
            thresholds=(1, 1),
        ),
        Panel(
            "Least recall",
            [('min(stateroom_index_recall_ratio{index=~"$index"})', "")],
            "percentunit",
            kind="stat",
            width=6,
        ),
        Panel(
            "Notes indexed",
            [('sum(max by (index) (stateroom_index_notes{index=~"$index"}))', "")],
            kind="stat",
            width=6,
        ),
        Panel(
            "Damaged parts",
            [('sum(max by (index) (stateroom_index_damaged_parts{index=~"$index"}))', "")],
            kind="stat",
            width=6,
            thresholds=(1, 1),
            description="As the last scrub found them; no data before the first.",
        ),
        Panel(
            "How long the first waiting note has waited",
            [('max by (index) (stateroom_index_behind_seconds{index=~"$index"})', "{{index}}")],
            "s",
            width=12,
            description="0: the index holds every note. A saw tooth is how it should look.",
        ),
        Panel(
            "Notes that wait",
            [('max by (index) (stateroom_index_waiting_notes{index=~"$index"})', "{{index}}")],
            width=12,
        ),
        Panel(
            "Age of the newest generation",
            [('max by (index) (stateroom_index_age_seconds{index=~"$index"})', "{{index}}")],
            "s",
            width=12,
        ),
        Panel(
            "Waiting, of what is allowed",
            [
                (
                    'max by (index) (stateroom_index_behind_seconds{index=~"$index"})'
                    " / on (index) max by (index) (stateroom_index_max_age_seconds)",
                    "{{index}}",
                )
            ],
            "percentunit",
            width=12,
            thresholds=(0.8, 1.0),
        ),
        Panel(
            "Recall at 10, measured at publication",
            [('min by (index) (stateroom_index_recall_ratio{index=~"$index"})', "{{index}}")],
            "percentunit",
            width=12,
        ),
        Panel(
            "Recall above its floor",
            [
                (
                    'min by (index) (stateroom_index_recall_ratio{index=~"$index"})'
                    " - on (index) max by (index) (stateroom_index_recall_floor_ratio)",
                    "{{index}}",
                )
            ],
            "percentunit",
            width=12,
        ),
        Panel(
            "Refreshes within an hour",
            [
                (
                    'sum by (result) (increase(stateroom_index_refreshes_total{index=~"$index"}[1h]))',
                    "{{result}}",
                )
            ],
            width=12,
        ),
        Panel(
            "Time of a build or update",
            [('max by (index) (stateroom_index_build_seconds{index=~"$index"})', "{{index}}")],
            "s",
            width=12,
        ),
        Panel(
            "Size",
            [('max by (index) (stateroom_index_bytes{index=~"$index"})', "{{index}}")],
            "bytes",
            width=12,
        ),
        Panel(
            "Dead rows",
            [('max by (index) (stateroom_index_dead_ratio{index=~"$index"})', "{{index}}")],
            "percentunit",
            width=12,
        ),
    ),
    (INDEX,),
)
