"""What exists and is trusted: assets, checks, partitions, groups.

Never holds clients, long SQL or decisions.
"""
