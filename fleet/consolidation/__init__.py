"""Which nodes could be emptied and given back: proposals with savings and reasons, never actions.

Every proposal is made twice: planned, and checked against a fresh look some time later, so that
what was only true for a moment is dropped. Nodes that are new, or that have just taken agents of an
emptied node in, are left alone for a while: otherwise the same agents would wander for ever.

Source: Karpenter's consolidation (empty, multi, single; 15 s between decision and validation;
score = share of spend saved / share of agents disturbed), and what it is reported to lack.
"""
