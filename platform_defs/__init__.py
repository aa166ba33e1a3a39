"""What is deployed: definitions, settings and the `stateroom` command.

Never holds an `if` about the fleet; only `settings.py` reads the environment.
"""
