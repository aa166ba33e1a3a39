"""An embedder that leases memory of a GPU when the first large batch of texts comes.

A few notes a minute are embedded by the processor in less time than a GPU takes to wake; a network
that is embedded anew is not. The model's name and revision are those of its folder, wherever it
computes, so vectors of both may stand in one index: they differ in the last digits only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fleet.gpu_memory import CONTEXT_BYTES, GIB, MemoryNeed
from fleet.ports.embedder import Embedder, Vectors
from fleet.ports.gpu_lease_store import GpuLeaseStore
from fleet.vectors.records import EmbeddingModel
from resources.gpu.devices import GpuDevices
from resources.gpu.fallbacks import DeviceGuard, count_fallbacks
from resources.gpu.leasing import DEFAULT_SIGHT, GpuSight, GpuTurn, gpu_turn, machine_name
from resources.vectors.transformer_embedder import TransformerEmbedder

GPU_TEXTS_MIN = 256
"""Fewer texts at a time are the processor's."""

BATCH_BYTES = 1 * GIB
"""Activations of a batch of 64 texts of 512 tokens in a model of 400 million weights."""

OnDevice = Callable[[Path, str], TransformerEmbedder]


class LeasedEmbedder:
    """The `Embedder` port over what a turn gives; made by `leased_embedder`.

    Args:
        folder: of the model.
        processor: the same model on the processor.
        open_turn: takes the turn, for so much memory; it ends with the block.
        on_device: opens the model on a device.
    """

    def __init__(
        self,
        folder: Path,
        processor: Embedder,
        open_turn: Callable[[MemoryNeed], GpuTurn],
        on_device: OnDevice = TransformerEmbedder,
    ) -> None:
        """Nothing is leased yet."""
        self._folder = folder
        self._processor = processor
        self._open_turn = open_turn
        self._on_device = on_device
        self._turn: GpuTurn | None = None
        self._device: TransformerEmbedder | None = None
        self.guard = DeviceGuard(self._free)

    @property
    def model(self) -> EmbeddingModel:
        """See `fleet.ports.Embedder.model`."""
        return self._processor.model

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See `fleet.ports.Embedder.embed`; errors also as of `gpu_turn`."""
        if len(texts) < GPU_TEXTS_MIN:
            return self._processor.embed(texts)
        if self._turn is None:
            self._turn = self._open_turn(model_need(self._folder))
            if self._turn.device is not None:
                self._device = self._on_device(self._folder, f"cuda:{self._turn.device}")
        device = self._device
        if device is None:
            return self._processor.embed(texts)
        return self.guard.run(
            lambda share: device.embed(texts, share=share), lambda: self._processor.embed(texts)
        )

    def end(self) -> None:
        """Give the device's memory back: its lease ends, and others may fill it."""
        device, self._device = self._device, None
        if device is not None:
            device.unload()

    def _free(self) -> None:
        if self._device is not None:
            self._device.free()


@contextmanager
def leased_embedder(
    folder: Path,
    processor: Embedder,
    devices: GpuDevices,
    leases: GpuLeaseStore,
    *,
    purpose: str,
    sight: GpuSight = DEFAULT_SIGHT,
    on_device: OnDevice = TransformerEmbedder,
) -> Iterator[LeasedEmbedder]:
    """An embedder for one run; what it leases is given back when the block ends.

    Args:
        folder: of the model.
        processor: the same model on the processor.
        devices: policy, and what each library sees.
        leases: the control store.
        purpose: what it is for, in the lease: `embeddings/host-watch`.
        sight: how the machine is seen.
        on_device: opens the model on a device.

    Raises:
        PermanentError: at once: the policy is `require`, and no library can compute on a GPU.
        GpuBusyError: with the first large batch: the policy is `require`, and no GPU has room.
        StoreUnavailableError: with the first large batch: the store does not answer.
    """
    devices.check()
    with ExitStack() as stack:

        def open_turn(need: MemoryNeed) -> GpuTurn:
            turn = stack.enter_context(
                gpu_turn(devices, leases, need, purpose=purpose, sight=sight, library="torch")
            )
            stack.callback(embedder.end)  # before the turn ends
            return turn

        embedder = LeasedEmbedder(folder, processor, open_turn, on_device)
        node_id = sight.node_id or machine_name()
        stack.callback(lambda: count_fallbacks(leases, node_id, embedder.guard.fallbacks))
        yield embedder


def model_need(folder: Path) -> MemoryNeed:
    """What a model takes of a GPU: its files once, a batch, and the context.

    Args:
        folder: of the model; vocabularies count as well, which makes it a little too much.
    """
    weights = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    need = MemoryNeed(weights, 0, BATCH_BYTES, CONTEXT_BYTES, 0)
    return need._replace(least_bytes=need.wanted_bytes)
