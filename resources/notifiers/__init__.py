"""Whom alerts reach: one module per receiver, and `fan_out` that tries all of them at once."""
