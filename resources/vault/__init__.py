"""A backup vault on an object store: its log, packs, manifests and keys.

Never decides what to keep, condemn or commit: `fleet.vault_log` and `fleet.retention` do.
"""
