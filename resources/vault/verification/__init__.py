"""Looks at what is stored, at every level, and the evidence that each look leaves."""
