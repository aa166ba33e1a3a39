"""The error for a receiver whose library is not installed."""

from __future__ import annotations

from fleet.errors import PermanentError


def missing_extra(receiver: str, extra: str) -> PermanentError:
    """What to tell who has configured a receiver that this installation cannot reach.

    Args:
        receiver: as people call it.
        extra: name of the optional extra in `pyproject.toml`.
    """
    return PermanentError(
        f"alerts for {receiver} are configured, and its library is not installed",
        hint=f"pip install 'stateroom[{extra}]'",
    )
