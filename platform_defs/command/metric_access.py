"""How subcommands reach the metric store: to read only one that exists."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fleet.errors import LakeUnavailableError, NotFoundError
from platform_defs.settings import Settings
from platform_defs.settings_metrics import declared_metrics

if TYPE_CHECKING:
    from resources.metrics.metric_store import ObjectMetricStore


def opened_metric_store(settings: Settings) -> ObjectMetricStore:
    """The metric store of these settings, to write; it is made by the first commit."""
    from resources.clock import SystemClock
    from resources.metrics.opening import open_metric_store

    return open_metric_store(
        declared_metrics(settings.metrics),
        SystemClock().now,
        writer=f"command-{os.getpid()}",
        settle_s=settings.metrics.settle_s,
    )


def found_metric_store(settings: Settings) -> ObjectMetricStore | None:
    """The metric store of these settings, to read; None where there is none yet.

    An inspection must not make one.

    Raises:
        LakeUnavailableError: whether there is one cannot be read.
    """
    from resources.metrics.store_log import STORE_KEY, translated

    if not settings.metrics.bucket and not settings.metrics.path.is_dir():
        return None
    store = opened_metric_store(settings)
    try:
        with translated():
            store.objects.get(STORE_KEY)
    except NotFoundError:
        return None
    return store


def existing_metric_store(settings: Settings) -> ObjectMetricStore:
    """The metric store of these settings, to read.

    Raises:
        LakeUnavailableError: there is none yet, or it cannot be read.
    """
    store = found_metric_store(settings)
    if store is None:
        raise LakeUnavailableError(
            f"no metrics at {settings.metrics.bucket or settings.metrics.path}",
            hint="Start the fleet with `stateroom up`, or bring samples with `stateroom metrics "
            "import`.",
        )
    return store
