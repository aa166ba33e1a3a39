"""The static model: any text has a vector, like texts are near, and it needs no network."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fleet.errors import InvalidInputError, PermanentError
from fleet.vectors.records import EmbeddingModel, Metric
from resources.vectors.given_vectors import GivenVectors
from resources.vectors.static_embedder import PIECE_CHARS, TEXT_CHARS_MAX, StaticEmbedder


@pytest.fixture(scope="module")
def embedder() -> StaticEmbedder:
    """Loaded once: 16 MB."""
    return StaticEmbedder()


def test_like_texts_are_near(embedder: StaticEmbedder) -> None:
    """The nearest note of each question is the one about its subject."""
    notes = embedder.embed(
        [
            "disk utilisation 97 percent, writes are queueing",
            "memory pressure: swap in use",
            "network interface dropped packets",
            "cpu saturated by a compile job",
        ]
    )
    asked = embedder.embed(["the disk was busy", "out of RAM and swapping", "packet loss"])
    assert (asked @ notes.T).argmax(axis=1).tolist() == [0, 1, 2]


def test_any_text_has_a_vector_of_length_one_and_a_blank_one_has_none(
    embedder: StaticEmbedder,
) -> None:
    """Scripts, emoji, control characters, one letter a million times; blanks are zero."""
    texts = ["磁盘很忙", "диск занят", "القرص مشغول", "😀" * 9, "\x01\x02", "a" * 1_000_000, "ﷺ"]
    found = embedder.embed(texts)
    assert np.allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
    assert not embedder.embed(["", "  \n\t "]).any()
    assert embedder.embed([]).shape == (0, 256)


def test_a_text_has_the_same_vector_alone_and_among_others(embedder: StaticEmbedder) -> None:
    """Blocks and padding leave no trace."""
    texts = [f"note {number} about the disk {'of host' * (number % 9)}" for number in range(600)]
    together = embedder.embed(texts)
    assert np.array_equal(
        together[[0, 511, 512, 599]], embedder.embed([texts[0], texts[511], texts[512], texts[599]])
    )


def test_a_long_text_is_the_mean_of_its_beginning(embedder: StaticEmbedder) -> None:
    """A megabyte is read in pieces; what stands after the limit does not count."""
    sentence = "the disk was busy and writes were slow "
    long = sentence * (1_000_000 // len(sentence))
    assert float(embedder.embed([long])[0] @ embedder.embed([sentence])[0]) > 0.999
    kept = sentence * (TEXT_CHARS_MAX // len(sentence) + 1)
    other = kept + " completely different words" * 1000
    assert np.array_equal(embedder.embed([kept]), embedder.embed([other]))
    unbroken = "x" * (PIECE_CHARS * 2 + 5)
    assert embedder.embed([unbroken]).any()


def test_what_is_no_text_is_refused(embedder: StaticEmbedder) -> None:
    """A number, bytes, a lone surrogate."""
    for bad in (7, b"bytes", "a\ud800"):
        with pytest.raises(InvalidInputError, match="text"):
            embedder.embed([bad])  # type: ignore[list-item]


def test_a_damaged_model_is_one_clear_error(embedder: StaticEmbedder, tmp_path: Path) -> None:
    """Missing files, and a table cut short; the model's revision names both files."""
    with pytest.raises(PermanentError, match="cannot be read"):
        StaticEmbedder(tmp_path).embed(["a"])
    assert len(embedder.model.revision) == 64
    assert (embedder.model.dimensions, embedder.model.metric) == (256, Metric.COSINE)


def test_the_model_loads_without_a_network() -> None:
    """In a process whose sockets raise, and without importing WordLlama itself."""
    program = """
import socket, sys
def refuse(*_, **__): raise AssertionError("network")
socket.socket.connect = refuse
from resources.vectors.static_embedder import StaticEmbedder
assert StaticEmbedder().embed(["a note"]).any()
assert "wordllama" not in sys.modules
"""
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", program], cwd=root, check=False).returncode == 0


def test_given_vectors_are_taken_as_they_are() -> None:
    """Normalised for cosine only; unknown texts, wrong widths and NaN are refused."""
    model = EmbeddingModel("theirs", "v1", 2)
    given = GivenVectors(model, {"a": [3, 4], "b": [0, 0]})
    assert given.embed(["b", "a", " "]).tolist() == pytest.approx(
        np.array([[0, 0], [0.6, 0.8], [0, 0]])
    )
    plain = GivenVectors(model._replace(metric=Metric.L2), {"a": [3, 4]})
    assert plain.embed(["a"]).tolist() == [[3, 4]]
    with pytest.raises(InvalidInputError, match="unknown"):
        given.embed(["unknown"])
    for bad in ({"a": [1, 2, 3]}, {"a": [np.nan, 0]}):
        with pytest.raises(InvalidInputError, match="vectors"):
            GivenVectors(model, bad)
