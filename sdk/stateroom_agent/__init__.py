"""What an agent imports to talk to its node's supervisor; standard library only.

Small on purpose: thousands of idle agents share one machine, so what a forked agent touches after
the fork (imports, threads, buffers) is its cost.
"""
