"""An embedder for models of sentence-transformers that lie in a folder; nothing is ever fetched.

An extra (`pip install 'stateroom[sentence-transformers]'`): models that know word order and context
find more than the default's table of words, at a hundredth of its speed on a processor. The folder
is one that `SentenceTransformer.save` has written, or a copy of a published model's repository.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fleet.errors import InvalidInputError, PermanentError
from fleet.ports.embedder import Vectors
from fleet.vectors.records import DIMENSIONS_MAX, EmbeddingModel, validate_model
from resources.vectors.static_embedder import TEXT_CHARS_MAX
from resources.vectors.torch_backend import load_torch
from resources.vectors.unit_vectors import check_vectors, normalize

BATCH_TEXTS = 64
"""Texts that the model sees at a time, sorted by length by the library."""

_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
"""Read by the libraries when they are imported; a model that names others must not fetch them."""

_HASHED_AT_ONCE = 1024**2


class _Loaded(NamedTuple):
    network: Any
    model: EmbeddingModel


class TransformerEmbedder:
    """The `Embedder` port on a model of sentence-transformers; one batch at a time.

    The model's own limit of tokens holds: what comes after it in a text does not count.

    Args:
        folder: of the model; its name is the model's name.
        device: `cpu`, `cuda:0`.
        batch_texts: texts at a time; fewer take less of a device's memory.
    """

    def __init__(
        self, folder: Path, device: str = "cpu", *, batch_texts: int = BATCH_TEXTS
    ) -> None:
        """Remember where; nothing is read or imported before the first use.

        Raises:
            InvalidInputError: a batch without texts.
        """
        if batch_texts < 1:
            raise InvalidInputError("batch_texts", batch_texts, "1 or more")
        self._folder = folder
        self._device = device
        self._batch_texts = batch_texts
        self._lock = threading.Lock()

    @property
    def model(self) -> EmbeddingModel:
        """See `fleet.ports.Embedder.model`; the revision is the SHA-256 of all files and names."""
        with self._lock:
            return self._loaded.model

    def embed(self, texts: Sequence[str], *, share: float = 1.0) -> Vectors:
        """See `fleet.ports.Embedder.embed`; a vector may differ in the last digits by its batch.

        Args:
            texts: to be embedded.
            share: of the texts at a time, for a device whose memory was full.

        Raises:
            RuntimeError: as torch says it, of the device.
            InvalidInputError: something is no text.
            PermanentError: the model cannot be read, or gives what is no vector.
        """
        asked = [_checked(text) for text in texts]
        with self._lock:
            loaded = self._loaded
            found = np.zeros((len(asked), loaded.model.dimensions), np.float32)
            places = [place for place, text in enumerate(asked) if text]
            if not places:
                return found
            vectors = loaded.network.encode(
                [asked[place] for place in places],
                batch_size=max(1, int(share * self._batch_texts)),
                show_progress_bar=False,
                convert_to_numpy=True,
            )
        try:
            found[places] = check_vectors("vectors", vectors, loaded.model.dimensions)
        except InvalidInputError as error:
            raise PermanentError(
                f"the model {loaded.model.model_id} gives what is no vector: {error}",
                hint="Try another device, or another model.",
            ) from error
        return normalize(found)

    def free(self) -> None:
        """Give cached blocks of the device back; a lost device cannot, which changes nothing."""
        if self._device != "cpu":
            with suppress(RuntimeError, PermanentError):
                load_torch().cuda.empty_cache()

    def unload(self) -> None:
        """Forget the model, and give back all that it took of the device; the next use reads it."""
        with self._lock:
            self.__dict__.pop("_loaded", None)
        self.free()

    @cached_property
    def _loaded(self) -> _Loaded:
        try:
            return _load(self._folder, self._device)
        except PermanentError:
            raise
        except Exception as error:
            if self._device != "cpu" and isinstance(error, RuntimeError):
                raise  # the device's own, full or lost; whether the files are sound is not known
            raise PermanentError(
                f"the model in {self._folder} cannot be read ({type(error).__name__}: {error})",
                hint="Put a folder there that SentenceTransformer.save has written; nothing is "
                "downloaded.",
            ) from error


def _checked(text: object) -> str:
    """The text without blanks around it, as far as any model reads."""
    if not isinstance(text, str):
        raise InvalidInputError("text", type(text).__name__, "a text")
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise InvalidInputError("text", ascii(text[:40]), "Unicode text without lone surrogates")
    return text[:TEXT_CHARS_MAX].strip()


def _load(folder: Path, device: str) -> _Loaded:
    if not (folder / "modules.json").is_file():
        raise PermanentError(
            f"{folder} is no model of sentence-transformers: it has no modules.json",
            hint="Set `model_path` to a folder that SentenceTransformer.save has written.",
        )
    for name in _OFFLINE:
        os.environ[name] = "1"
    try:
        from sentence_transformers import SentenceTransformer
    except Exception as error:
        raise PermanentError(
            f"sentence-transformers cannot be used ({type(error).__name__}: {error})",
            hint="pip install 'stateroom[sentence-transformers]', or embed with `static`.",
        ) from error
    network = SentenceTransformer(
        str(folder), device=device, local_files_only=True, trust_remote_code=False
    )
    dimensions = int(network.encode(["width"], show_progress_bar=False).shape[1])
    if dimensions > DIMENSIONS_MAX:
        raise PermanentError(f"the model in {folder} has {dimensions} dimensions")
    model = EmbeddingModel(folder.name, folder_digest(folder), dimensions)
    return _Loaded(network, validate_model(model))


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of all files below a folder, hidden ones left out.

    Args:
        folder: of a model.

    Returns:
        64 hexadecimal digits; another file, name or byte gives others.
    """
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if not path.is_file() or any(part.startswith(".") for part in name.parts):
            continue
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(_HASHED_AT_ONCE):
                digest.update(block)
        whole.update(f"{name.as_posix()}\0{digest.hexdigest()}\n".encode())
    return whole.hexdigest()
