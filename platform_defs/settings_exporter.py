"""Settings of the exporter: where it serves what the platform says of itself."""

from __future__ import annotations

from dataclasses import dataclass

from platform_defs import settings_kinds as kinds
from platform_defs.settings_keys import key


@dataclass(frozen=True, slots=True, kw_only=True)
class ExporterSettings:
    """Metrics of the platform, for Prometheus and our own collector; docs/metrics.md lists them."""

    host: str = key(kinds.host(), "Address that the exporter listens on.", default="127.0.0.1")
    port: int = key(
        kinds.whole(0, 65_535),
        "Port of the exporter; 0 takes any free one.",
        default=9464,
        ci="0",
    )
