"""What should happen, and why: records, pure decisions with reasons, ports, errors.

Never imports dagster or an I/O library; never reads a clock, disk, network, environment
or ambient randomness.
"""
