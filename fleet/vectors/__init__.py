"""Similarity search over what agents remember: which index, how good, when renewed.

Holds records, the choice of an index's type, its tuning against exact search, the plan of a
refresh, filters and the merging of two rankings. Never holds vectors on a disk, an index library
or a GPU: these are behind `fleet.ports.embedder`, `index_backend` and `vector_store`, and live in
`resources/vectors/`. The layout of what is stored is `docs/formats/vectors.md`.
"""
