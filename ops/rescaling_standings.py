"""Standings as a look finds them: the whole ones to decide by, the damaged ones to leave alone.

A look writes every standing that it has decided by, so each must be known to be whole before.
"""

from collections.abc import Iterable, Sequence

from fleet.rescaling.damaged_standing import DamagedStanding
from fleet.rescaling.state_json import PackedStanding, read_standing
from ops.rescaling_case import Key

_NAMED = 5


class StandingReader:
    """Reads what others have written; what this process has written or read is known to be whole.

    Of 10,000 standings a look then reads none, unless somebody else has led meanwhile.
    """

    def __init__(self) -> None:
        """Know nothing."""
        self._whole: dict[Key, PackedStanding] = {}

    def read(
        self, stored: Iterable[PackedStanding | DamagedStanding]
    ) -> tuple[dict[Key, PackedStanding], dict[Key, DamagedStanding]]:
        """The whole and the damaged ones, by workload and region."""
        whole: dict[Key, PackedStanding] = {}
        damaged: dict[Key, DamagedStanding] = {}
        for one in stored:
            found = one
            if isinstance(found, PackedStanding) and not self._is_known(found):
                read = read_standing(found)
                found = read if isinstance(read, DamagedStanding) else found
            if isinstance(found, DamagedStanding):
                damaged[found.key] = found
            else:
                whole[found.key] = found
        self._whole = whole
        return whole, damaged

    def _is_known(self, one: PackedStanding) -> bool:
        known = self._whole.get(one.key)
        return known is not None and (known.state_json, known.pending_json) == (
            one.state_json,
            one.pending_json,
        )

    def written(self, standings: Iterable[PackedStanding]) -> None:
        """Take what this process has written for whole."""
        self._whole.update((one.key, one) for one in standings)


def damage_problem(damaged: Sequence[DamagedStanding]) -> str:
    """One sentence that names them, with the next step; empty for none."""
    if not damaged:
        return ""
    told = "; ".join(one.told for one in damaged[:_NAMED])
    more = f"; and {len(damaged) - _NAMED} more" if len(damaged) > _NAMED else ""
    return f"{len(damaged)} standings are damaged, so that nothing is decided by them: {told}{more}"
