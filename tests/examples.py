"""How many examples Hypothesis draws: a quarter in `make test`, all in `make test-all`.

The seed differs from run to run, so that what one short run does not draw another one does.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

THOROUGH = "thorough"
QUICK = "quick"
_THOROUGH_EXAMPLES = 100


def register_profiles() -> None:
    """`quick` holds unless `--hypothesis-profile=thorough` is given."""
    # A deadline is a timed assertion: on a busy machine it fails what is right.
    settings.register_profile(
        THOROUGH,
        max_examples=_THOROUGH_EXAMPLES,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    settings.register_profile(QUICK, settings.get_profile(THOROUGH), max_examples=25)
    settings.load_profile(QUICK)


def examples(thorough: int) -> int:
    """`max_examples` of a test that wants another number than the profile's.

    Args:
        thorough: under the profile `thorough`; the others draw the same part of it as of theirs,
            but five at least.
    """
    return max(min(thorough, 5), thorough * settings().max_examples // _THOROUGH_EXAMPLES)
