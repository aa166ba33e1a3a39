"""What the tables of the control store are made of: one registry, and four kinds of columns."""

from __future__ import annotations

import sqlalchemy as sa

METADATA = sa.MetaData()
"""Of all tables, in whatever module they stand."""

# Identifiers compare by code point on both databases (PostgreSQL would follow its locale), so that
# cursors and orders mean the same everywhere.
ID = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
# SQLite hands out row numbers only for a column spelled INTEGER.
SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def id_column(name: str, *, key: bool = False) -> sa.Column[str]:
    """An identifier."""
    return sa.Column(name, ID, primary_key=key, nullable=False)


def text_column(name: str, *, null: bool = False) -> sa.Column[str]:
    """A text of any length."""
    return sa.Column(name, sa.Text, nullable=null)


def number_column(name: str, *, null: bool = False) -> sa.Column[int]:
    """A whole number of 64 bits; times are microseconds since 1970."""
    return sa.Column(name, sa.BigInteger, nullable=null)


def real_column(name: str, *, null: bool = False) -> sa.Column[float]:
    """A double."""
    return sa.Column(name, sa.Double, nullable=null)
