"""The codec as two ONNX graphs, encoder (with the quantiser) and decoder, states as explicit inputs and outputs.

Between a trained codec and engine/codec.py. Both graphs take a fixed block of frames of which the first `count` are
real: a fixed shape makes every frame's arithmetic the same however the stream is cut, so that codes never depend
on the size of a push. Weights are stored as fp16 and widened when the session is made.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from attacca.export.graph import GraphBuilder
from attacca.training.codec_model import Block, CodecConfig, CodecNet, tiny_config
from attacca.training.codec_train import State
from attacca.training.quantizer import Quantizer, fit_quantizer

BLOCK_FRAMES = 8  # reading the weights is what costs: eight frames take little longer than one
ENCODER_FILE = "codec_encoder.onnx"
DECODER_FILE = "codec_decoder.onnx"

Array = npt.NDArray[np.float32]


def _array(value: Tensor) -> Array:
    return value.detach().float().cpu().numpy()


class _Network:
    """Writes the shared parts of both networks into a graph; values are [block, channels] between blocks."""

    def __init__(self, name: str, config: CodecConfig, precision: str, block_frames: int) -> None:
        self.graph = GraphBuilder(name)
        self.config, self.precision, self.block_frames = config, precision, block_frames
        self.states = 0
        self._count = ""

    def count(self) -> str:
        """The input that says how many frames of the block are real; int64 [1]."""
        self._count = self.graph.input("count", np.int64, [1])
        return self._count

    def linear(self, x: str, name: str, layer: nn.Linear) -> str:
        product = self.graph.linear(x, f"{name}.weight", _array(layer.weight), self.precision)
        return self.graph.node("Add", [product, self.graph.constant(f"{name}.bias", _array(layer.bias))])

    def block(self, x: str, name: str, block: Block) -> str:
        """One residual block; its convolution's past is a state [1, channels, kernel - 1]."""
        graph, channels = self.graph, self.config.channels
        past = graph.input(f"state_{self.states}", np.float32, [1, channels, block.past])
        turned = graph.node("Transpose", [x], perm=[1, 0])
        axis0 = graph.constant("axis_0", np.array([0]))
        joined = graph.node("Concat", [past, graph.node("Unsqueeze", [turned, axis0])], axis=2)
        end = graph.node("Add", [self._count, graph.constant(f"past_{block.past}", np.array([block.past]))])
        axis2 = graph.constant("axis_2", np.array([2]))
        graph.node("Slice", [joined, self._count, end, axis2], out=f"new_state_{self.states}")
        graph.output(f"new_state_{self.states}", np.float32, [1, channels, block.past])
        self.states += 1
        weight = graph.widened(f"{name}.mix.weight", _array(block.mix.weight), self.precision)
        bias = graph.constant(f"{name}.mix.bias", _array(block.mix.bias))
        mixed = graph.node("Conv", [joined, weight, bias], group=channels, kernel_shape=[self.config.kernel])
        rows = graph.node("Transpose", [graph.node("Squeeze", [mixed, axis0])], perm=[1, 0])
        scale = graph.constant(f"{name}.norm.weight", _array(block.norm.weight))
        shift = graph.constant(f"{name}.norm.bias", _array(block.norm.bias))
        normed = graph.node("LayerNormalization", [rows, scale, shift], axis=-1, epsilon=block.norm.eps)
        hidden = graph.node("Gelu", [self.linear(normed, f"{name}.widen", block.widen)])
        narrow = self.linear(hidden, f"{name}.narrow", block.narrow)
        scaled = graph.node("Mul", [narrow, graph.constant(f"{name}.scale", _array(block.scale))])
        return graph.node("Add", [x, scaled])

    def stack(self, x: str, name: str, blocks: nn.ModuleList) -> str:
        for i, block in enumerate(blocks):
            assert isinstance(block, Block)
            x = self.block(x, f"{name}.blocks.{i}", block)
        return x


def encoder_graph(
    net: CodecNet, quantizer: Quantizer, *, precision: str = "fp16", block_frames: int = BLOCK_FRAMES
) -> onnx.ModelProto:
    """`frames` float32 [block, width], `count`, states -> `codes` int64 [block, K], new states."""
    build = _Network("codec_encoder", net.config, precision, block_frames)
    graph = build.graph
    x = graph.input("frames", np.float32, [block_frames, net.config.spectral.width])
    build.count()
    centred = graph.node("Sub", [x, graph.constant("mean", _array(net.mean))])
    x = graph.node("Div", [centred, graph.constant("deviation", _array(net.deviation))])
    x = build.linear(x, "encoder.enter", net.encoder.enter)
    x = build.stack(x, "encoder", net.encoder.blocks)
    latent = build.linear(x, "encoder.leave", net.encoder.leave)
    residual = graph.node("Sub", [latent, graph.constant("offset", _array(quantizer.offset))])
    residual = graph.node("MatMul", [residual, graph.constant("project", _array(quantizer.project))])
    codes = []
    for k, book in enumerate(_array(quantizer.codebooks)):
        likeness = graph.node("MatMul", [residual, graph.constant(f"codebook_{k}.turned", book.T)])
        half = graph.constant(f"codebook_{k}.half", 0.5 * np.square(book).sum(axis=1))
        code = graph.node("ArgMax", [graph.node("Sub", [likeness, half])], axis=1, keepdims=0)
        chosen = graph.node("Gather", [graph.constant(f"codebook_{k}", book), code], axis=0)
        residual = graph.node("Sub", [residual, chosen])
        codes.append(graph.node("Unsqueeze", [code, graph.constant("axis_1", np.array([1]))]))
    graph.node("Concat", codes, axis=1, out="codes")
    graph.output("codes", np.int64, [block_frames, len(codes)])
    return graph.model()


def decoder_graph(
    net: CodecNet, quantizer: Quantizer, *, precision: str = "fp16", block_frames: int = BLOCK_FRAMES
) -> onnx.ModelProto:
    """`codes` int64 [block, K], `count`, states -> `frames` float32 [block, width] (nats), new states."""
    build = _Network("codec_decoder", net.config, precision, block_frames)
    graph = build.graph
    tables = _array(quantizer.tables)
    codes = graph.input("codes", np.int64, [block_frames, len(tables)])
    build.count()
    x = graph.constant("offset", _array(quantizer.offset))
    for k, table in enumerate(tables):
        column = graph.node("Gather", [codes, graph.constant(f"level_{k}", np.array([k]))], axis=1)
        level = graph.node("Squeeze", [column, graph.constant("axis_1", np.array([1]))])
        table_name = graph.widened(f"table_{k}", table, build.precision)
        x = graph.node("Add", [x, graph.node("Gather", [table_name, level], axis=0)])
    x = build.linear(x, "decoder.enter", net.decoder.enter)
    x = build.stack(x, "decoder", net.decoder.blocks)
    x = build.linear(x, "decoder.leave", net.decoder.leave)
    x = graph.node("Mul", [x, graph.constant("deviation", _array(net.deviation))])
    graph.node("Add", [x, graph.constant("mean", _array(net.mean))], out="frames")
    graph.output("frames", np.float32, [block_frames, net.config.spectral.width])
    return graph.model()


def write_codec(
    net: CodecNet, quantizer: Quantizer, out_dir: Path, *, decoder_precision: str = "fp16"
) -> dict[str, object]:
    """Write both graphs into `out_dir`; the manifest's codec section."""
    net.eval()
    config = net.config
    out_dir.mkdir(parents=True, exist_ok=True)
    onnx.save(encoder_graph(net, quantizer), out_dir / ENCODER_FILE)
    onnx.save(decoder_graph(net, quantizer, precision=decoder_precision), out_dir / DECODER_FILE)
    return {
        "kind": "spectral",
        "sample_rate": config.sample_rate,
        "hop_samples": config.spectral.hop_samples,
        "num_codebooks": config.num_codebooks,
        "codebook_size": config.codebook_size,
        "block_frames": BLOCK_FRAMES,
        "channels": config.channels,
        "kernel": config.kernel,
        "encoder_blocks": config.encoder_blocks,
        "decoder_blocks": config.decoder_blocks,
        "spectral": asdict(config.spectral),
    }


def export_codec(checkpoint: Path, out_dir: Path, *, decoder_precision: str = "fp16") -> dict[str, object]:
    """Export a checkpoint of training/codec_train.py; the manifest's codec section. ValueError if unfinished."""
    state = State.load(checkpoint)
    if state.quantizer is None:
        raise ValueError(f"{checkpoint} has no quantiser yet: run the codec's training up to stage `fit` first")
    return write_codec(state.net, state.quantizer, out_dir, decoder_precision=decoder_precision)


def tiny_codec(config: CodecConfig | None = None, *, seed: int = 0) -> tuple[CodecNet, Quantizer]:
    """A small codec of random weights, for tests and the tiny bundle; its quantiser fits its own random latents."""
    config = config or tiny_config()
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = CodecNet(config).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, parameter[0].numel() ** -0.5, generator=generator)
        frames = net.mean + 4.0 * torch.rand((1, 512, config.spectral.width), generator=generator)
        latents = net.encode(frames)[0].numpy()
    quantizer = fit_quantizer(
        latents, num_codebooks=config.num_codebooks, codebook_size=config.codebook_size, iterations=3, seed=seed
    )
    return net, quantizer


def export_tiny_codec(out_dir: Path, *, config: CodecConfig | None = None, seed: int = 0) -> dict[str, object]:
    """Write the tiny random codec; the manifest's codec section."""
    return write_codec(*tiny_codec(config, seed=seed), out_dir)
