"""Where hybrid search finds more than vectors or words alone."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from _vector_timing import K, say

from fleet.vectors.bm25 import Bm25Index, fuse_rankings, words
from fleet.vectors.records import Metric
from resources.vectors.faiss_backend import FaissBackend
from resources.vectors.static_embedder import StaticEmbedder


def bench_hybrid(texts: list[str], embedder: StaticEmbedder, vectors: Any) -> None:
    """Known notes asked for by some of their words: who finds them among the first ten."""
    index = Bm25Index(texts)
    seen = Counter(word for text in texts for word in set(words(text)))
    rng = random.Random(2)
    known = [row for row in rng.sample(range(len(texts)), 2000) if len(words(texts[row])) >= 6][
        :500
    ]
    backend = FaissBackend()
    for name in ("half of the words", "the rarest word", "without the three rarest words"):
        questions = [_question(texts[row], seen, name, rng) for row in known]
        near = backend.exact(vectors, embedder.embed(questions), 100, Metric.COSINE).rows
        right = {"vectors": 0, "bm25": 0, "hybrid": 0}
        for place, row in enumerate(known):
            ranking = index.rank(questions[place], 100)
            right["vectors"] += row in near[place][:K]
            right["bm25"] += row in ranking[:K]
            right["hybrid"] += row in fuse_rankings([near[place], ranking], K)[0]
        told = ", ".join(f"{kind} {count / len(known):.3f}" for kind, count in right.items())
        say(f"hybrid {name}", right["hybrid"] / len(known), f"asked by {name}: {told} found in ten")


def _question(text: str, seen: Counter[str], name: str, rng: random.Random) -> str:
    """Some words of a note."""
    found = text.split()
    if name == "half of the words":
        return " ".join(rng.sample(found, max(1, len(found) // 2)))
    by_rarity = sorted(dict.fromkeys(words(text)), key=lambda word: seen[word])
    if name == "the rarest word":
        return by_rarity[0]
    return " ".join(by_rarity[3:])
