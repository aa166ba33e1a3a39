"""When it starts: sensors and schedules with their cursors.

Never decides (it calls `fleet`) and never acts (it requests runs of `ops`), but for the journal,
whose segment a minute is worth no run.
"""
