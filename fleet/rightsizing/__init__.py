"""How much of each resource a workload needs, as advice: histograms that forget, and their judges.

Nothing here is applied to anything by itself; an operator changes the settings, or does not.
"""
