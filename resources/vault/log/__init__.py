"""The append-only log of a network, records in an HMAC chain, and the local log beside it."""
