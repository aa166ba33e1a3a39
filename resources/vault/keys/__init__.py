"""The keys of a network: wrapped by at least two others, rotated, shredded, found in settings."""
