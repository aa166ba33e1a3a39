"""The bytes of a network: packs, their tables, manifests and segments, written and read back."""
