"""Copies of a network in other regions: brought up to date, healed, promoted."""
