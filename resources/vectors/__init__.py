"""Embedders, index libraries, and the store of embeddings and index generations.

Never holds when an index is renewed or how good it must be: `fleet.vectors` decides. Heavy
libraries are imported where they are used.
"""
