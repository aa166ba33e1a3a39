"""Lines drawn in a terminal fit it, whatever they are."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from platform_defs.command.plot import (
    HEIGHT,
    LARGEST,
    LINES_MAX,
    WIDTH_MAX,
    WIDTH_MIN,
    PlotLine,
    letter,
    plot,
)

STEPS = 12
TIMES_MS = [60_000 * step for step in range(STEPS)]
VALUES = st.lists(
    st.none() | st.floats() | st.floats(-1e3, 1e3) | st.sampled_from([0.0, 1.0, LARGEST, -LARGEST]),
    min_size=STEPS,
    max_size=STEPS,
)
EQUAL = [[1.0] * STEPS] * (LINES_MAX - 1)


@given(st.lists(VALUES, max_size=LINES_MAX - 1), st.integers(WIDTH_MIN, WIDTH_MAX))
@example(EQUAL, WIDTH_MIN)
@example(EQUAL, 80)
@example([[LARGEST] * STEPS, [-LARGEST] * STEPS], 80)
def test_no_line_of_a_drawing_is_wider_than_the_terminal(
    values: list[list[float | None]], width: int
) -> None:
    """A wider one wraps and tears the picture; eight lines may end in one place."""
    lines = [PlotLine("some", [1.0] * STEPS), *(PlotLine("any", column) for column in values)]
    drawn = plot(TIMES_MS, lines, width=width).splitlines()
    assert max(map(len, drawn[: HEIGHT + 2])) <= width


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(0.0, 1e-320))
@example(5e-323, 0.0)
@example(LARGEST, 0.0)
@example(0.0, 5e-324)
def test_values_that_hardly_differ_are_drawn_with_room_around_them(low: float, more: float) -> None:
    """Equal ones, the smallest and the largest that there are."""
    drawn = plot([0, 1], [PlotLine("x", [low, low + more])], width=60).splitlines()
    assert sum(any("\N{BRAILLE PATTERN BLANK}" < mark <= "⣿" for mark in row) for row in drawn) >= 1


def test_every_line_has_its_letter_where_it_ends() -> None:
    """Also those that end in a gap: where their last value stood."""
    lines = [PlotLine("up", [*range(STEPS)]), PlotLine("gone", [5.0, 0.0, *[None] * (STEPS - 2)])]
    drawn = plot(TIMES_MS, lines, width=60).splitlines()
    assert drawn[0].endswith(letter(0))
    assert drawn[HEIGHT - 1].endswith(letter(1))
