"""Object stores with create-only writes: a directory per region, or an S3 bucket.

Never holds what the objects mean; a vault and (later) the lake stand on it.
"""
