"""Where agents are placed: requests, capacity, quotas, and the plans that bring them together.

Pure: plans are made of declarations and placements as given, in the same way whoever lists them,
and say why. What is stored, and by whom it may be overtaken, is the control store's.
"""
