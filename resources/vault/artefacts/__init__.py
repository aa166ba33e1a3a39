"""Consistent copies of what is backed up besides agent states, one module per kind of source.

A source yields files with a way to read each; it never decides what is stored or kept. Chunking
and comparing with the base stand in `intake` and `chunking`.
"""
