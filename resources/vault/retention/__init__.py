"""Removes what the policy lets go, in steps that can be taken back until the last."""
