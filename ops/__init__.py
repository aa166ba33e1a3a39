"""How it is done: ops, graphs, jobs and their run configuration.

Never holds thresholds or cron strings.
"""
