"""How many replicas a workload should have, and why: Kubernetes' rule exactly, and what it lacks.

`spec` and `policy` say what is wished, `observation` what is seen, `decision` what follows. Times
are arguments, quantities are whole thousandths as Kubernetes counts them.
"""
