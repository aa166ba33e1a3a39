"""The agent side."""
