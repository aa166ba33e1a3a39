"""The default embedder: a static table of 32,000 pieces of words, averaged over a text.

Weights and vocabulary are WordLlama's (`l2_supercat`, 256 dimensions), read by their paths inside
its wheel: `WordLlama.load()` would try the network. No word order, no context: 40,000 and more
short notes a second on two cores, which no transformer comes near.

The vocabulary falls back to single bytes, so a text in any script has a vector.
"""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fleet.errors import InvalidInputError, PermanentError
from fleet.ports.embedder import Vectors
from fleet.vectors.records import EmbeddingModel
from resources.vectors.unit_vectors import normalize

MODEL_NAME = "wordllama-l2-supercat"
_WEIGHTS = "weights/l2_supercat_256.safetensors"
_VOCABULARY = "tokenizers/l2_supercat_tokenizer_config.json"
_TENSOR = "embedding.weight"

PIECE_CHARS = 8192
"""Longer texts are cut into pieces of this length before they are tokenized, whose cost grows
faster than the text."""

TEXT_CHARS_MAX = 262_144
"""What comes after is not read: the mean of some 65,000 tokens hardly moves any more."""

_BLOCK_TEXTS = 512
"""Their token vectors (about 8 MB for short notes) stay in the processor's cache."""


class _Loaded(NamedTuple):
    tokenizer: Any
    table: npt.NDArray[np.float32]
    model: EmbeddingModel


class StaticEmbedder:
    """The `Embedder` port on a static table; safe to share between threads.

    Args:
        folder: with weights and vocabulary as the wheel has them; None: the installed wheel's.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Remember where; nothing is read before the first use."""
        self._folder = folder
        self._lock = threading.Lock()

    @property
    def model(self) -> EmbeddingModel:
        """See `fleet.ports.Embedder.model`; the revision is the SHA-256 of both files."""
        return self._ready.model

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See `fleet.ports.Embedder.embed`.

        Of a text longer than `TEXT_CHARS_MAX` characters the beginning counts; the vector is the
        mean over all its tokens, whatever pieces they were read in.
        """
        loaded = self._ready
        vectors = np.zeros((len(texts), loaded.model.dimensions), np.float32)
        for start in range(0, len(texts), _BLOCK_TEXTS):
            block = texts[start : start + _BLOCK_TEXTS]
            _embed_block(loaded, block, vectors[start : start + len(block)])
        return normalize(vectors)

    @property
    def _ready(self) -> _Loaded:
        with self._lock:
            return self._loaded

    @cached_property
    def _loaded(self) -> _Loaded:
        folder = self._folder or _wheel_folder()
        try:
            return _load(folder)
        except Exception as error:
            raise PermanentError(
                f"the model in {folder} cannot be read: {error}",
                hint="Install the wheel `wordllama` again.",
            ) from error


def _wheel_folder() -> Path:
    """Where the wheel lies; importing the package would configure logging and load much else."""
    spec = importlib.util.find_spec("wordllama")
    if spec is None or spec.origin is None:
        raise PermanentError("the wheel `wordllama` is not installed", hint="Run `make install`.")
    return Path(spec.origin).parent


def _load(folder: Path) -> _Loaded:
    from safetensors.numpy import load
    from tokenizers import Tokenizer

    weights = (folder / _WEIGHTS).read_bytes()
    vocabulary = (folder / _VOCABULARY).read_bytes()
    tokenizer = Tokenizer.from_str(vocabulary.decode())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    table = np.ascontiguousarray(load(weights)[_TENSOR], np.float32)
    if tokenizer.get_vocab_size() > len(table):
        raise ValueError(f"{tokenizer.get_vocab_size()} words, but {len(table)} vectors")
    revision = hashlib.sha256(weights + vocabulary).hexdigest()
    return _Loaded(tokenizer, table, EmbeddingModel(MODEL_NAME, revision, table.shape[1]))


def _embed_block(loaded: _Loaded, texts: Sequence[str], sums: Vectors) -> None:
    """Add up the token vectors of each text; the direction of the sum is that of the mean."""
    pieces: list[str] = []
    owners: list[int] = []
    for place, text in enumerate(texts):
        for piece in _pieces(text):
            pieces.append(piece)
            owners.append(place)
    found = loaded.tokenizer.encode_batch_fast(pieces, add_special_tokens=False)
    for place, encoding in zip(owners, found, strict=True):
        ids = encoding.ids
        if ids:
            sums[place] += loaded.table[ids].sum(axis=0)


def _pieces(text: str) -> Iterator[str]:
    """A text in pieces that end at a blank where there is one; nothing for a blank text."""
    if not isinstance(text, str):
        raise InvalidInputError("text", type(text).__name__, "a text")
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise InvalidInputError("text", ascii(text[:40]), "Unicode text without lone surrogates")
    text = text[:TEXT_CHARS_MAX].strip()
    while len(text) > PIECE_CHARS:
        cut = text.rfind(" ", PIECE_CHARS // 2, PIECE_CHARS)
        cut = PIECE_CHARS if cut < 0 else cut
        yield text[:cut]
        text = text[cut:].strip()
    if text:
        yield text
