"""The leading controller's view in SQL: one property of the store, replaced as a whole.

Held as `<microseconds> <JSON>`, where the microseconds are the store's own time of the write.
"""

from __future__ import annotations

import sqlalchemy as sa

from fleet.controller_view import ControllerView, KeptView, decode_view, encode_view
from fleet.errors import InvalidInputError, LeaseLostError
from fleet.names import validate_text
from resources.control_store.database import Feature
from resources.control_store.schema import store_properties
from resources.control_store.times import from_us

_NAME = "controller_view"

_READ = sa.select(store_properties.c.value).where(store_properties.c.name == _NAME)


class SqlControllerView(Feature):
    """The part of the control store that says what the controller sees."""

    def keep_controller_view(self, view: ControllerView) -> None:
        """Replace the view, unless one of a higher term is there."""
        text = validate_text("controller_view", encode_view(view))
        with self._database.write() as connection:
            stored = connection.execute(_READ.with_for_update()).scalar()
            refuse_lower_term(_view(stored), view)
            now = self._database.dialect.now_us(connection)
            connection.execute(
                self._database.upsert(store_properties), {"name": _NAME, "value": f"{now} {text}"}
            )

    def controller_view(self) -> KeptView | None:
        """The view; None before the first."""
        with self._database.read() as connection:
            stored = connection.execute(_READ).scalar()
        if stored is None:
            return None
        kept_us, _, text = stored.partition(" ")
        return KeptView(decode_view(text), from_us(int(kept_us)))


def _view(stored: str | None) -> ControllerView | None:
    """What is stored, when this program can read it; what it cannot read is replaced."""
    if stored is None:
        return None
    try:
        return decode_view(stored.partition(" ")[2])
    except InvalidInputError:
        return None


def refuse_lower_term(stored: ControllerView | None, view: ControllerView) -> None:
    """Refuse a controller that another one has followed.

    Raises:
        LeaseLostError: as said.
    """
    if stored is not None and view.term < stored.term:
        raise LeaseLostError(
            f"controller view: term {view.term} is lower than {stored.term} of {stored.holder}",
            hint="Another controller leads; this one must stop acting.",
        )
