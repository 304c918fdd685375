"""A MusicGen checkpoint to a bundle: `python -m attacca.export.musicgen_bundle FOLDER --out DIR`.

The last stage of conversion: decoder, text encoder and codec are written as graphs beside a manifest. Needs no
torch where the weights are safetensors. They stay under their authors' licence, which the manifest states.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnx
import typer
from msgspec import UNSET
from msgspec.structs import replace

from attacca.engine.generator import Conditions, Sampling
from attacca.engine.manifest import (
    DECODER_BATCH_ROLE,
    DECODER_DATA_ROLE,
    DECODER_ROLE,
    MELODY,
    MUSICGEN,
    ConditioningSection,
    DecoderSection,
    Manifest,
    PatternSection,
    SamplingDefaults,
    TextSection,
)
from attacca.engine.melody import MelodyDecoder, MelodyRuntime
from attacca.engine.musicgen import MusicgenDecoder, PromptBox
from attacca.engine.pattern import make_pattern
from attacca.engine.prompted import Prompt, PromptedRuntime
from attacca.export.batch import DEFAULT_TAKES, build_step_batch, save_batch
from attacca.export.bundle import write_bundle
from attacca.export.calibrate import cache_scales
from attacca.export.encodec import DECODER_FILE as CODEC_DECODER_FILE
from attacca.export.encodec import ENCODER_FILE as CODEC_ENCODER_FILE
from attacca.export.encodec import export_encodec
from attacca.export.musicgen import MusicgenExport, Weights, build_prefix, build_prompt, build_step
from attacca.export.musicgen_checkpoint import MusicgenCheckpoint, MusicgenShape, read_musicgen
from attacca.export.t5 import T5Shape, save_t5
from attacca.export.tensors import CheckpointError, read_config, read_tensors

LICENCE = "CC-BY-NC-4.0"  # of the weights that Meta publishes
WINDOW_FRAMES = 1536  # the 30 s that the published models see, and the pattern's lag
MELODY_ROWS = 235  # 30 s of chroma, where the configuration does not say
SAMPLING = SamplingDefaults(temperature=1.0, top_k=250, guidance=3.0)
DECODER_FILE, DECODER_DATA_FILE = "decoder.onnx", "decoder.onnx.data"
TEXT_FILE, PROMPT_FILE, TOKENIZER_FILE = "text_encoder.onnx", "prompt.onnx", "tokenizer.json"
MAX_SINGLE_BYTES = 1 << 30  # of a graph with its weights in it; protobuf takes 2 GB at most
_CALIBRATION_FRAMES = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """What to make of a checkpoint. fp32 gives the tokens that the original gives; int8 and int4 are faster."""

    precision: str = "fp32"
    kv_bits: int = 32
    codec_precision: str = "fp32"  # fp16 halves its files, int8 its decoder's once more
    window_frames: int = WINDOW_FRAMES
    takes: int = DEFAULT_TAKES  # that a server can step at once; 0: no graph for it
    name: str | None = None  # the folder's if None
    licence: str = LICENCE
    text_encoder: Path | None = None  # a T5 folder in transformers' layout, for checkpoints that hold none

    def export(self, **changes: Any) -> MusicgenExport:
        given = {"precision": self.precision, "kv_bits": self.kv_bits, "window_frames": self.window_frames}
        return MusicgenExport(**(given | changes))


def convert_musicgen(source: Path, out: Path, options: ConvertOptions | None = None) -> Manifest:
    """Write the bundle of the checkpoint in `source` into `out`. ValueError says what is wrong."""
    options = options or ConvertOptions()
    checkpoint = read_musicgen(source)
    shape = checkpoint.shape
    out.mkdir(parents=True, exist_ok=True)
    files, text = _write_text(checkpoint, source, out, options)
    if text is not None:  # a melody's rows and a text's stand in the window too
        beyond = text.melody_rows and text.melody_rows + text.max_tokens
        options = dataclasses.replace(options, window_frames=options.window_frames + beyond)
    codec = export_encodec(source, out, audio_channels=shape.audio_channels, precision=options.codec_precision)
    if (codec["num_codebooks"], codec["codebook_size"]) != (shape.num_codebooks, shape.codebook_size):
        raise CheckpointError(
            f"the codec has {codec['num_codebooks']} x {codec['codebook_size']} codes, "
            f"the decoder {shape.num_codebooks} x {shape.codebook_size}"
        )
    fields = _manifest_fields(source, checkpoint, codec, text, options)
    scales = _calibrate(checkpoint, fields, options) if options.kv_bits == 8 else None
    files |= write_step(out, checkpoint.decoder, shape, options, scales)
    if options.takes and shape.cross:
        several = build_step_batch(checkpoint.decoder, shape, options.export(), options.takes, scales)
        files[DECODER_BATCH_ROLE] = save_batch(several, out / DECODER_FILE)
    files |= {"codec_encoder": CODEC_ENCODER_FILE, "codec_decoder": CODEC_DECODER_FILE}
    return write_bundle(out, fields, files)


def _write_text(
    checkpoint: MusicgenCheckpoint, source: Path, out: Path, options: ConvertOptions
) -> tuple[dict[str, str], TextSection | None]:
    """Text encoder, prompt graph and tokenizer; nothing for a checkpoint without one where none is given."""
    folder = options.text_encoder or source
    if options.text_encoder is not None:
        tensors, config = read_tensors(folder), read_config(folder)
    else:
        tensors, config = checkpoint.text_encoder, dict(checkpoint.config.get("text_encoder", {}))
    if not len(tensors):
        if not checkpoint.shape.cross:
            raise CheckpointError(f"{source} is a melody checkpoint without a text encoder: name a T5 folder")
        return {}, None
    if not (folder / TOKENIZER_FILE).is_file():
        raise CheckpointError(f"{folder} has no {TOKENIZER_FILE}, without which no text can be read")
    shape = T5Shape.of(config)
    if shape.d_model != checkpoint.shape.text_dim:
        raise CheckpointError(
            f"states of the text encoder in {folder} have {shape.d_model} values, "
            f"the decoder reads {checkpoint.shape.text_dim}"
        )
    # A prompt is made once and its errors stay: halves at the least, however coarse the decoder is.
    precision = "fp32" if options.precision == "fp32" else "fp16"
    save_t5(out / TEXT_FILE, tensors, shape, precision=precision)
    build = build_prompt if checkpoint.shape.cross else build_prefix
    prompt = build(checkpoint.decoder, checkpoint.shape, options.export())
    (out / PROMPT_FILE).write_bytes(prompt.SerializeToString(deterministic=True))
    shutil.copyfile(folder / TOKENIZER_FILE, out / TOKENIZER_FILE)
    files = {"text_encoder": TEXT_FILE, "prompt": PROMPT_FILE, "tokenizer": TOKENIZER_FILE}
    rows = 0 if checkpoint.shape.cross else int(checkpoint.config.get("chroma_length", MELODY_ROWS))
    return files, TextSection(dim=shape.d_model, melody_rows=rows)


def _manifest_fields(
    source: Path,
    checkpoint: MusicgenCheckpoint,
    codec: dict[str, Any],
    text: TextSection | None,
    options: ConvertOptions,
) -> dict[str, Any]:
    shape = checkpoint.shape
    name = options.name or re.sub(r"[^a-z0-9._-]+", "-", source.resolve().name.lower()).strip("-._")[:64]
    sizes = ("sample_rate", "hop_samples", "num_codebooks", "codebook_size")
    return {
        "name": name or "musicgen",
        "version": "1",
        "licence": options.licence,
        **{field: codec[field] for field in sizes},
        "window_frames": options.window_frames,
        "pattern": PatternSection(
            name="delay", channels=shape.audio_channels if shape.audio_channels > 1 else UNSET
        ),
        "conditioning": ConditioningSection(width=0, groups=()),
        "decoder": DecoderSection(
            layers=shape.layers,
            heads=shape.heads,
            head_dim=shape.dim // shape.heads,
            dim=shape.dim,
            precision=options.precision,
            kv_bits=options.kv_bits,
            kind=MUSICGEN if shape.cross else MELODY,
        ),
        "codec": codec,
        "text": UNSET if text is None else text,
        "sampling": SAMPLING,
        "provenance": {
            "source": source.resolve().name,
            "layout": checkpoint.source,
            "codec_precision": options.codec_precision,
        },
    }


def write_step(
    out: Path, weights: Weights, shape: MusicgenShape, options: ConvertOptions, scales: Weights | None
) -> dict[str, str]:
    """Write the step graph into `out`; the files by role."""
    return save_step(out, build_step(weights, shape, options.export(), scales))


def save_step(out: Path, graph: onnx.ModelProto) -> dict[str, str]:
    """Write a step graph into `out`, its weights beside it where they are many; the files by role."""
    if sum(len(tensor.raw_data) for tensor in graph.graph.initializer) <= MAX_SINGLE_BYTES:
        (out / DECODER_FILE).write_bytes(graph.SerializeToString(deterministic=True))
        return {DECODER_ROLE: DECODER_FILE}
    (out / DECODER_DATA_FILE).unlink(missing_ok=True)  # it would be appended to
    onnx.save_model(graph, out / DECODER_FILE, save_as_external_data=True, location=DECODER_DATA_FILE)
    return {DECODER_ROLE: DECODER_FILE, DECODER_DATA_ROLE: DECODER_DATA_FILE}


class _NoConditions:
    def rows(self, first_frame: int, count: int) -> Conditions:
        return np.zeros((count, 0), np.float32)


def _calibrate(checkpoint: MusicgenCheckpoint, fields: dict[str, Any], options: ConvertOptions) -> Weights:
    """Scales of an 8-bit cache, from what the model makes up by itself with a cache of floats."""
    cross = checkpoint.shape.cross
    exact = build_step(checkpoint.decoder, checkpoint.shape, options.export(kv_bits=32))
    if sum(len(tensor.raw_data) for tensor in exact.graph.initializer) > MAX_SINGLE_BYTES:
        exact = build_step(checkpoint.decoder, checkpoint.shape, options.export(kv_bits=32, precision="int8"))
    section = replace(fields["decoder"], kv_bits=32)
    manifest = Manifest(format_version=1, files={}, **(fields | {"decoder": section}))
    runtime = (PromptedRuntime if cross else MelodyRuntime)(exact.SerializeToString(), manifest)
    pattern = make_pattern("delay", checkpoint.shape.num_codebooks, channels=checkpoint.shape.audio_channels)
    decoder = (MusicgenDecoder if cross else MelodyDecoder)(
        runtime, pattern, PromptBox(Prompt.silent(runtime.shape))
    )
    frames = min(_CALIBRATION_FRAMES, options.window_frames)
    decoder.plan(frames, _NoConditions(), Sampling(top_k=SAMPLING.top_k))
    return cache_scales(decoder, runtime.shape)


def main(
    source: Annotated[Path, typer.Argument(help="Checkpoint folder, transformers' or audiocraft's.")],
    out: Annotated[Path, typer.Option("--out", help="Bundle folder to write.")],
    precision: Annotated[str, typer.Option(help="Decoder weights: fp32, fp16, int8, int4.")] = "fp32",
    kv_bits: Annotated[int, typer.Option(help="Cache: 32 or 8.")] = 32,
    codec_precision: Annotated[str, typer.Option(help="Codec's weights: fp32, fp16, int8.")] = "fp32",
    window_frames: Annotated[int, typer.Option(help="Frames that a frame sees.")] = WINDOW_FRAMES,
    name: Annotated[str | None, typer.Option(help="Name of the bundle.")] = None,
    text_encoder: Annotated[Path | None, typer.Option(help="T5 folder, for audiocraft's checkpoints.")] = None,
) -> None:
    """Convert a MusicGen checkpoint."""
    options = ConvertOptions(
        precision=precision,
        kv_bits=kv_bits,
        codec_precision=codec_precision,
        window_frames=window_frames,
        name=name,
        text_encoder=text_encoder,
    )
    manifest = convert_musicgen(source, out, options)
    size = sum(entry.bytes for entry in manifest.files.values())
    print(f"{out}: {manifest.name}, {size / 1e6:.1f} MB, licence {manifest.licence}")


if __name__ == "__main__":
    typer.run(main)
