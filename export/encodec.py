"""EnCodec as two streaming ONNX graphs, encoder (with the quantiser) and decoder; states are inputs and outputs.

Between an EnCodec checkpoint and engine/encodec.py. Chunked equals whole for any cutting, beginning and end
included: export/encodec_graph.py has the layers and says how. Blocks have one fixed shape of which the first
`count` frames are real, so that a frame's arithmetic does not hang on how the stream was cut.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from attacca.export.encodec_checkpoint import EncodecCheckpoint, read_encodec
from attacca.export.encodec_graph import Network, Stream
from attacca.export.encodec_plan import decoder_layers, encoder_layers

BLOCK_FRAMES = 8  # reading the weights is what costs: eight frames take little longer than four
STORED = ("fp32", "fp16", "int8")
ENCODER_FILE = "encodec_encoder.onnx"
DECODER_FILE = "encodec_decoder.onnx"


def encoder_graph(
    checkpoint: EncodecCheckpoint, *, audio_channels: int = 1, block_frames: int = BLOCK_FRAMES,
    precision: str = "fp32",
) -> tuple[onnx.ModelProto, int]:  # fmt: skip
    """The graph, and by how many frames its codes are late.

    `samples` float32 [channels, block * hop], `frame`, `count`, `end` (samples of the whole) and states ->
    `codes` int64 [block, channels * K], left and right in turn, of the frames from `frame - delay` on; new states.
    """
    build = Network("encodec_encoder", checkpoint, audio_channels=audio_channels, block_frames=block_frames,
                     precision=precision)  # fmt: skip
    graph, config = build.graph, checkpoint.config
    samples = graph.input("samples", np.float32, [audio_channels, block_frames * config.hop_samples])
    end = graph.input("end", np.int64, [1])
    x = graph.node("Unsqueeze", [samples, build.number(2)])
    stream = build.run(Stream(value=x, channels=1, rate=config.hop_samples, delay=0, length=end),
                       encoder_layers(config))  # fmt: skip
    residual = graph.node("Transpose", [stream.value], perm=[1, 0, 2])  # [block, channels, hidden]
    codes = []
    for k in range(config.num_codebooks):
        book = checkpoint.weights[f"quantizer.layers.{k}.codebook.embed"]
        likeness = graph.node("MatMul", [residual, graph.constant(f"codebook_{k}.turned", book.T)])
        half = graph.constant(f"codebook_{k}.half", (0.5 * np.square(book.astype(np.float64)).sum(1)).astype("f4"))
        code = graph.node("ArgMax", [graph.node("Sub", [likeness, half])], axis=2, keepdims=0)
        chosen = graph.node("Gather", [graph.constant(f"codebook_{k}", book), code], axis=0)
        residual = graph.node("Sub", [residual, chosen])
        codes.append(code)
    graph.node("Concat", codes, axis=1, out="codes")
    graph.output("codes", np.int64, [block_frames, audio_channels * config.num_codebooks])
    return graph.model(), stream.delay


def decoder_graph(
    checkpoint: EncodecCheckpoint, *, audio_channels: int = 1, block_frames: int = BLOCK_FRAMES,
    precision: str = "fp32",
) -> tuple[onnx.ModelProto, int]:  # fmt: skip
    """The graph, and by how many samples its sound is late.

    `codes` int64 [block, channels * K], `frame`, `count`, `end` (frames of the whole) and states -> `samples`
    float32 [channels, block * hop] from sample `frame * hop - delay` on; new states.
    """
    build = Network("encodec_decoder", checkpoint, audio_channels=audio_channels, block_frames=block_frames,
                     precision=precision)  # fmt: skip
    graph, config = build.graph, checkpoint.config
    codes = graph.input("codes", np.int64, [block_frames, audio_channels * config.num_codebooks])
    end = graph.input("end", np.int64, [1])
    latent = ""
    for k in range(config.num_codebooks):
        columns = build.number(*range(k * audio_channels, (k + 1) * audio_channels))
        chosen = graph.node(
            "Gather",
            [
                graph.constant(f"codebook_{k}", checkpoint.weights[f"quantizer.layers.{k}.codebook.embed"]),
                graph.node("Gather", [codes, columns], axis=1),
            ],
            axis=0,
        )
        latent = chosen if not latent else graph.node("Add", [latent, chosen])
    x = graph.node("Transpose", [latent], perm=[1, 0, 2])
    stream = build.run(Stream(value=x, channels=config.hidden, rate=1, delay=0, length=end), decoder_layers(config))
    graph.node("Squeeze", [stream.value, build.number(2)], out="samples")
    graph.output("samples", np.float32, [audio_channels, block_frames * config.hop_samples])
    return graph.model(), stream.delay


def write_encodec(
    checkpoint: EncodecCheckpoint, out_dir: Path, *, audio_channels: int = 1, block_frames: int = BLOCK_FRAMES,
    precision: str = "fp32",
) -> dict[str, object]:  # fmt: skip
    """Write both graphs into `out_dir`; the manifest's codec section. Stereo is two mono streams side by side.

    Of int8 only the decoder is: the encoder's codes decide what is heard from then on, and stay those of halves.
    """
    if audio_channels not in (1, 2):
        raise ValueError(f"audio_channels is {audio_channels}, allowed: 1 or 2")
    sizes = {"audio_channels": audio_channels, "block_frames": block_frames}
    finer = "fp16" if precision == "int8" else precision
    encoder, encoder_delay = encoder_graph(checkpoint, **sizes, precision=finer)
    decoder, decoder_delay = decoder_graph(checkpoint, **sizes, precision=precision)
    out_dir.mkdir(parents=True, exist_ok=True)
    onnx.save(encoder, out_dir / ENCODER_FILE)
    onnx.save(decoder, out_dir / DECODER_FILE)
    config = checkpoint.config
    return {
        "kind": "encodec",
        "sample_rate": config.sample_rate,
        "hop_samples": config.hop_samples,
        "num_codebooks": audio_channels * config.num_codebooks,
        "codebook_size": config.codebook_size,
        **sizes,
        "encoder_delay_frames": encoder_delay,
        "decoder_delay_samples": decoder_delay,
    }


def export_encodec(
    source: Path, out_dir: Path, *, audio_channels: int = 1, precision: str = "fp32"
) -> dict[str, object]:
    """Convert a checkpoint (see `read_encodec`), weights stored in `precision`; the manifest's codec section."""
    if precision not in STORED:
        raise ValueError(f"the codec's precision is {precision!r}, allowed: {', '.join(STORED)}")
    return write_encodec(read_encodec(source), out_dir, audio_channels=audio_channels, precision=precision)
