"""A cluster that exists only in memory: for tests, drills, benchmarks and recorded fleets.

Never reads the wall clock, the environment or ambient randomness: the same seed, script and calls
give the same history to the byte.
"""
