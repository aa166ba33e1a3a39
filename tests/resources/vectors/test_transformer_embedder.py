"""Models of sentence-transformers: from a folder, never from a network, the same rules for texts.

The folder's checks run everywhere. The model itself is made on the spot (two layers of chance
weights) where the extra is installed.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fleet.errors import InvalidInputError, PermanentError
from fleet.gpu_leases import GpuLease
from fleet.ports.gpu_lease_store import GpuLeaseStore
from fleet.vectors.records import EmbeddingModel, Metric
from resources.gpu.devices import Finding, GpuDevices
from resources.vectors.leased_embedder import GPU_TEXTS_MIN, leased_embedder, model_need
from resources.vectors.transformer_embedder import TransformerEmbedder, folder_digest
from tests.fakes.torch_device import OutOfMemoryError
from tests.resources.gpu.test_leasing import FIRST, World, sight, sound

needs_extra = pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is None,
    reason="the extra sentence-transformers is not installed",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 16 dimensions as `SentenceTransformer.save` writes it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    base = tmp_path_factory.mktemp("base")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    words += [f"##{one}" for one in "abcdefghijklmnopqrstuvwxyz"]
    tokenizer = Tokenizer(WordPiece({one: n for n, one in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]", model_max_length=64,
    ).save_pretrained(str(base))  # fmt: skip
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(str(base))
    word = Transformer(str(base), max_seq_length=64)
    made = tmp_path_factory.mktemp("models") / "tiny"
    SentenceTransformer(modules=[word, Pooling(16)], device="cpu").save(str(made))
    return made


@needs_extra
def test_texts_have_vectors_of_length_one_and_blank_ones_none(folder: Path) -> None:
    """Alone and among others the same; in any script; the model names itself by all its bytes."""
    embedder = TransformerEmbedder(folder, batch_texts=3)
    texts = ["the disk was busy", "  ", "磁盘很忙", "a" * 100_000, "", "swap in use", "disk"]
    found = embedder.embed(texts)
    lengths = np.linalg.norm(found, axis=1)
    assert np.allclose(lengths, [1, 0, 1, 1, 0, 1, 1], atol=1e-5)
    assert np.allclose(found[[5]], embedder.embed(["swap in use"]), atol=1e-5)
    assert embedder.embed([]).shape == (0, 16)
    assert embedder.embed([" "]).shape == (1, 16)
    model = embedder.model
    assert (model.name, model.dimensions, model.metric) == ("tiny", 16, Metric.COSINE)
    assert model.revision == folder_digest(folder)


@needs_extra
def test_the_model_is_read_without_a_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every connection raises, and it loads all the same."""
    import socket

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert TransformerEmbedder(folder).embed(["a note"]).any()


@needs_extra
def test_a_model_that_gives_no_numbers_is_one_clear_error(folder: Path, tmp_path: Path) -> None:
    """Weights of NaN, as a damaged file may have."""
    import shutil

    from safetensors.numpy import load_file, save_file

    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    (weights,) = damaged.rglob("*.safetensors")
    arrays = {name: np.full_like(one, np.nan) for name, one in load_file(weights).items()}
    save_file(arrays, weights, metadata={"format": "pt"})
    with pytest.raises(PermanentError, match="no vector"):
        TransformerEmbedder(damaged).embed(["a note"])
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(PermanentError, match="cannot be read"):
        TransformerEmbedder(damaged).embed(["a note"])


def test_what_is_no_text_is_refused_before_a_model_is_read(tmp_path: Path) -> None:
    """A number, bytes, a lone surrogate; no batch without texts."""
    for bad in (7, b"bytes", "a\ud800"):
        with pytest.raises(InvalidInputError, match="text"):
            TransformerEmbedder(tmp_path).embed([bad])  # type: ignore[list-item]
    with pytest.raises(InvalidInputError, match="batch_texts"):
        TransformerEmbedder(tmp_path, batch_texts=0)


def test_a_folder_that_is_no_model_is_one_clear_error(tmp_path: Path) -> None:
    """Missing or empty: nothing is looked for anywhere else."""
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(PermanentError, match=r"no modules\.json") as caught:
            TransformerEmbedder(folder).embed(["a note"])
        assert "SentenceTransformer.save" in caught.value.hint


@pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is not None, reason="the extra is installed"
)
def test_without_the_extra_the_error_says_how_to_get_it(tmp_path: Path) -> None:
    """And which embedder needs none."""
    (tmp_path / "modules.json").write_text("[]")
    with pytest.raises(PermanentError, match="sentence-transformers cannot be used") as caught:
        _ = TransformerEmbedder(tmp_path).model
    assert "stateroom[sentence-transformers]" in caught.value.hint


def test_the_revision_changes_with_every_byte_and_name(tmp_path: Path) -> None:
    """Hidden files (a checkout's own) do not count; the order of the folder does not either."""
    (tmp_path / "b").mkdir()
    (tmp_path / "a.bin").write_bytes(b"weights")
    (tmp_path / "b" / "c.json").write_bytes(b"{}")
    first = folder_digest(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_bytes(b"x")
    assert folder_digest(tmp_path) == first
    (tmp_path / "a.bin").write_bytes(b"weightz")
    second = folder_digest(tmp_path)
    (tmp_path / "a.bin").rename(tmp_path / "d.bin")
    assert len({first, second, folder_digest(tmp_path)}) == 3


class OnDevice(TransformerEmbedder):
    """A model on a device that fails as told; its vectors are all alike."""

    def __init__(self, device: str, failures: list[Exception | None]) -> None:
        """What each call raises, or None."""
        super().__init__(Path("tiny"), device)
        self.failures, self.shares, self.freed = failures, list[float](), 0
        self.leases_at_end: list[GpuLease] | None = None
        self.store: GpuLeaseStore | None = None

    def embed(self, texts: Any, *, share: float = 1.0) -> Any:
        """By the next failure."""
        self.shares.append(share)
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        return np.full((len(texts), 2), 0.5, np.float32)

    def free(self) -> None:
        """Counted."""
        self.freed += 1

    def unload(self) -> None:
        """Notes what is leased when its memory is given back."""
        assert self.store is not None
        self.leases_at_end = self.store.gpu_leases()


class OnProcessor:
    """The same model, told apart by its vectors."""

    model = EmbeddingModel("tiny", "1", 2)

    def embed(self, texts: Any) -> Any:
        """All alike."""
        return np.full((len(texts), 2), 0.25, np.float32)


FULL = OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(
    ("failures", "shares", "on_device", "counted"),
    [
        ([], [1.0], True, {}),
        ([FULL], [1.0, 0.5], True, {}),
        ([FULL, FULL], [1.0, 0.5], False, {"memory": 1}),
        ([RuntimeError("CUDA error: unspecified launch failure")], [1.0], False, {"lost": 1}),
    ],
)
def test_large_batches_go_to_a_leased_gpu(
    tmp_path: Path,
    failures: list[Exception | None],
    shares: list[float],
    on_device: bool,
    counted: dict[str, int],
) -> None:
    """Small ones never; half a batch after a full memory, then the processor, counted."""
    (tmp_path / "weights").write_bytes(b"x" * 1000)
    world, machine = World(), sight([sound(FIRST)], [FIRST])
    opened: list[OnDevice] = []

    def open_on(folder: Path, device: str) -> OnDevice:
        assert device == "cuda:0"
        opened.append(OnDevice(device, list(failures)))
        opened[-1].store = world.store
        return opened[-1]

    processor = OnProcessor()
    with leased_embedder(
        tmp_path, processor, world.devices, world.store, purpose="e", sight=machine,
        on_device=open_on,
    ) as embedder:  # fmt: skip
        assert embedder.embed(["few"]).tolist() == [[0.25, 0.25]]
        assert world.store.gpu_leases() == []
        found = embedder.embed(["text"] * GPU_TEXTS_MIN)
        assert (found == (0.5 if on_device else 0.25)).all()
        (lease,) = world.store.gpu_leases()
        assert lease.memory_bytes == model_need(tmp_path).wanted_bytes
        assert embedder.model == processor.model
    assert opened[0].shares == shares
    assert opened[0].freed == len(failures)
    assert opened[0].leases_at_end == [lease], "memory goes back while it is still leased"
    assert world.store.gpu_leases() == []
    assert {one.reason: one.fallbacks for one in world.store.gpu_fallbacks()} == counted


def test_a_model_that_does_not_fit_the_gpu_is_the_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading it fails there: tried twice, counted, and no failure of the run.

    The same error where the device is the processor is a model that cannot be read.
    """
    (tmp_path / "modules.json").write_text("[]")
    library = ModuleType("sentence_transformers")
    tried: list[str] = []

    def full(_: str, *, device: str, **__: Any) -> None:
        tried.append(device)
        raise FULL

    library.SentenceTransformer = full  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentence_transformers", library)
    world, machine = World(), sight([sound(FIRST)], [FIRST])
    with leased_embedder(
        tmp_path, OnProcessor(), world.devices, world.store, purpose="e", sight=machine
    ) as embedder:
        assert (embedder.embed(["text"] * GPU_TEXTS_MIN) == 0.25).all()
    assert tried == ["cuda:0", "cuda:0"]
    assert [(one.reason, one.fallbacks) for one in world.store.gpu_fallbacks()] == [("memory", 1)]
    with pytest.raises(PermanentError, match="cannot be read"):
        TransformerEmbedder(tmp_path).embed(["a note"])


def test_without_a_gpu_for_torch_large_batches_are_the_processors(tmp_path: Path) -> None:
    """FAISS seeing one does not help a model of torch."""
    found = {"nvml": Finding(1, "one"), "torch": Finding(0, "no"), "faiss": Finding(1, "one")}
    world = World()
    devices = GpuDevices("auto", lambda: found)
    with leased_embedder(
        tmp_path, OnProcessor(), devices, world.store, purpose="e", sight=sight([], [])
    ) as embedder:
        assert (embedder.embed(["text"] * GPU_TEXTS_MIN) == 0.25).all()
    assert world.store.gpu_leases() == []
