"""Brings states and artefacts back: staged, verified, switched at once."""
