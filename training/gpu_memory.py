"""What training a decoder keeps in memory, counted without a GPU: tensors of the real shapes that hold no numbers.

For training/gpu_decoder.py: which micro-batch a device bears. The forward pass runs on fake tensors in bfloat16
autocast, and what autograd saves for the backward pass is summed. On CUDA a softmax's result is float32, which on a
CPU is not: that is added. Not counted: what one operation needs while it runs, and the allocator's slack; a fifth
of the device should stay free. In all, with 6 codebooks and p = 3: ostinato-l (16x1024) 78 GiB for 16 crops of 448
frames, 67 for 8 of 640; ostinato (6x256) 29 for 64 of 448, 48 for 64 of 640.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from attacca.training.decoder_model import Decoder, DecoderConfig, LayoutTensors
from attacca.training.decoder_train import codebook_losses
from attacca.training.layout import Layout, build_layout

_COPIES = 5  # float32 each: weights, their average, gradients, and the optimiser's two


def saved_bytes(config: DecoderConfig, frames: int, crops: int, *, softmax_float32: bool = True) -> int:
    """Bytes that the forward pass of so many crops of so many frames leaves for the backward pass.

    softmax_float32: as CUDA's autocast has it.
    """
    layout = build_layout(config.make_pattern(), frames, 0, config.window_frames)
    tensors = LayoutTensors(layout, torch.device("cpu"), torch.bfloat16)
    storages: dict[int, tuple[int, torch.UntypedStorage]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage._cdata] = (storage.nbytes(), storage)  # held: its address must stay its own
        return tensor

    with FakeTensorMode(allow_non_fake_inputs=True):
        model = Decoder(config)
        codes = torch.zeros(crops, frames, config.num_codebooks, dtype=torch.int64)
        cond = torch.zeros(crops, frames + 1, config.cond_width)
        own = {weight.untyped_storage()._cdata for weight in model.parameters()}
        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", dtype=torch.bfloat16),
        ):
            torch.stack(codebook_losses(model, codes, cond, tensors)).mean()
    total = sum(size for address, (size, _) in storages.items() if address not in own)
    if softmax_float32:
        total += 4 * crops * config.heads * config.layers * _softmax_numbers(layout)
    return total


def _softmax_numbers(layout: Layout) -> int:
    """Weights of one head: every row over the memory rows, query rows over those of their step as well."""
    memory, rows = layout.num_memory, len(layout.level)
    return rows * memory + (rows - memory) * layout.step_mask.shape[1]


def training_bytes(config: DecoderConfig, frames: int, crops: int) -> int:
    """Bytes of an update on so many crops at once: what is saved, weights, averages, gradients and optimiser."""
    with FakeTensorMode():
        weights = sum(weight.numel() for weight in Decoder(config).parameters())
    return saved_bytes(config, frames, crops) + 4 * _COPIES * weights
