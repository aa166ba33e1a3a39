"""PromQL: what an expression means, computed over columns of numbers.

The grammar is `promql-parser`'s; everything after it is here, as pure functions over NumPy arrays
that read through the port `MetricReader`. Values follow Prometheus to the bit where that can be
said of them; what is not supported is refused by name before anything is read.
"""
