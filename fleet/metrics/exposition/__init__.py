"""What a scraped endpoint says: Prometheus text 0.0.4 and OpenMetrics 1.0, as columns of samples.

Held to Prometheus' own lexers (model/textparse) by a table that a real server is given too: what
it takes is taken with the same value, what it refuses is refused with the line; `lines` names the
exceptions. UTF-8 names in quotes are refused. Pure: bytes in, columns out.
"""
