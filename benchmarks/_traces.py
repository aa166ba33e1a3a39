"""Where published traces lie: $STATEROOM_TRACES, else `shared/data` in or above the checkout."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def find_traces(name: str) -> Path | None:
    """The folder of one trace, as `gentd26`; None where it is not to be had."""
    given = os.environ.get("STATEROOM_TRACES")
    places = [Path(given)] if given else []
    places += [above / "shared" / "data" for above in (ROOT, *ROOT.parents)]
    return next((place / name for place in places if (place / name).is_dir()), None)
