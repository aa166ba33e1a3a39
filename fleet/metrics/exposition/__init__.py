"""What a scraped endpoint says: Prometheus text 0.0.4 and OpenMetrics 1.0, as columns of samples.

Held to Prometheus' own lexers (model/textparse): what it takes is taken with the same value, what
it refuses is refused with the line. UTF-8 names in quotes are refused. Pure: bytes in, columns out.
"""
