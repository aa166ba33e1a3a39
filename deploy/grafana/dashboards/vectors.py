"""Age and recall of vector indexes."""

from __future__ import annotations

from dashboards.shape import Dashboard, Panel

VECTORS = Dashboard(
    "vectors",
    "Stateroom / Vector indexes",
    (
        Panel(
            "Age of the newest generation",
            [("max by (index) (stateroom_index_age_seconds)", "{{index}}")],
            "s",
            width=12,
        ),
        Panel(
            "Age, of what is allowed",
            [
                (
                    "max by (index) (stateroom_index_age_seconds)"
                    " / max by (index) (stateroom_index_max_age_seconds)",
                    "{{index}}",
                )
            ],
            "percentunit",
            width=12,
            thresholds=(0.8, 1.0),
        ),
        Panel(
            "Recall at 10, measured at publication",
            [("min by (index) (stateroom_index_recall_ratio)", "{{index}}")],
            "percentunit",
            width=12,
        ),
        Panel(
            "Recall above its floor",
            [
                (
                    "min by (index) (stateroom_index_recall_ratio)"
                    " - max by (index) (stateroom_index_recall_floor_ratio)",
                    "{{index}}",
                )
            ],
            "percentunit",
            width=12,
        ),
    ),
)
