"""When and why agents leave a node or a region: one pure decision per tick, with its reasons.

`decide.decide(evidence, state, policy, now_s)` is the only entry; the live sensor and the simulator
call the same one. What belongs here: records, policies, rules, explanations, invariants. What does
not: reading stores, probing, moving anything, a clock.
"""
