"""A standing that cannot be read: whom it holds, what is wrong, what a person does about it.

Damage is of one workload in one region: the others are decided as ever. What is damaged is held,
neither scaled up nor down, and its row stays as it is until a person has it forgotten.
"""

from __future__ import annotations

from typing import NamedTuple

DAMAGE_MAX_CHARS = 150
"""Of what is told of one damage: it goes into sentences that name the next step behind it."""


class DamagedStanding(NamedTuple):
    """A row of standings that says nothing which can be trusted."""

    workload: str
    region: str
    damage: str
    """What is wrong, in a few words."""

    @property
    def key(self) -> tuple[str, str]:
        """Workload and region."""
        return self.workload, self.region

    @property
    def reason(self) -> str:
        """What is wrong, in one sentence."""
        damage = self.damage
        if len(damage) > DAMAGE_MAX_CHARS:
            damage = f"{damage[: DAMAGE_MAX_CHARS - 3]}..."
        return f"the standing of {self.workload} in {self.region} is damaged: {damage}"

    @property
    def hint(self) -> str:
        """The operator's next step."""
        return (
            f"`stateroom scaling forget {self.workload} --region {self.region}` lets it begin "
            "anew; if a newer Stateroom wrote it, run that one instead"
        )

    @property
    def told(self) -> str:
        """What is wrong, and the next step."""
        return f"{self.reason}; {self.hint}"
