"""When it starts: sensors and schedules with their cursors.

Never decides (it calls `fleet`) and never acts (it requests runs of `ops`).
"""
