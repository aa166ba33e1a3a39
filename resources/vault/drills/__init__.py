"""Restore tests and disaster drills on fresh stores, with real agents."""
