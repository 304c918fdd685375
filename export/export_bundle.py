"""Checkpoints to a verified bundle: `python -m attacca.export.export_bundle --codec RUN --decoder RUN --out DIR`.

The last stage of the recipe. Both networks are exported, compared with torch on what the model itself makes up, and
written with hashes, provenance and the figures of that comparison; a graph that differs is not written.
"""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import onnxruntime
import torch
import typer

from attacca.engine.bundle import load_bundle, verify_bundle
from attacca.engine.codec import Codec
from attacca.engine.conditioning import ConditioningLayout
from attacca.engine.decoder import PatternDecoder
from attacca.engine.generator import Sampling
from attacca.engine.manifest import (
    CODE_LEVELS_ROLE,
    DECODER_BATCH_ROLE,
    DECODER_ROLE,
    ConditioningSection,
    DecoderSection,
    Manifest,
    PatternSection,
    SamplingDefaults,
)
from attacca.engine.runtime import StepRuntime
from attacca.export.batch import DEFAULT_TAKES, build_decoder_batch, save_batch
from attacca.export.batch import FILE as BATCH_FILE
from attacca.export.bundle import write_bundle
from attacca.export.calibrate import calibrate_cache
from attacca.export.code_levels import write_code_levels
from attacca.export.codec import DECODER_FILE as CODEC_DECODER_FILE
from attacca.export.codec import ENCODER_FILE as CODEC_ENCODER_FILE
from attacca.export.codec import export_codec
from attacca.export.decoder import DecoderExport, Weights, build_decoder
from attacca.export.verify import BeatSource, compare_codec, compare_decoder, made_up_frames, runtime_of
from attacca.training.codec_train import State
from attacca.training.decoder_model import Decoder
from attacca.training.decoder_train import CHECKPOINT, checkpoint_layout, load_decoder

DECODER_FILE = "decoder.onnx"
CODE_LEVELS_FILE = "code_levels.npz"
CODEC_CHECKPOINT = "codec.pt"
# Of the codec's decoder alone: its error is a tenth of the quantiser's. The encoder's codes must be the training's.
CODEC_DECODER_PRECISION = "int8"
MAX_LOGIT_ERROR = 1e-4  # of an fp32 graph against torch, relative to the logits' RMS where that is above 1
MAX_BUNDLE_BYTES = 60_000_000
_CHECK_FRAMES = 96


class ExportError(RuntimeError):
    """An export that must not be used; the message says by how much it is off."""


def export_decoder(
    model: Decoder,
    path: Path,
    layout: ConditioningLayout,
    *,
    precision: str,
    kv_bits: int,
    metrics: dict[str, float],
) -> DecoderSection:
    """Export, compare with torch, write. Adds to `metrics`. ExportError if the fp32 graph differs from torch."""
    config = model.config
    weights: Weights = {name: value.detach().float().numpy() for name, value in model.state_dict().items()}
    shape = {"heads": config.heads, "window_frames": config.window_frames}
    exact = runtime_of(config, build_decoder(weights, DecoderExport(**shape)), layout)
    source = BeatSource(layout)
    codes = made_up_frames(exact, config.make_pattern(), source, _CHECK_FRAMES)
    found = compare_decoder(model, exact, codes, source)
    metrics["logits_fp32_max_error"] = found.max_error
    if found.max_error > MAX_LOGIT_ERROR * max(1.0, found.rms):
        raise ExportError(f"fp32 logits differ from torch by {found.max_error:.2g}, allowed: {MAX_LOGIT_ERROR}")
    scales = calibrate_cache(exact, config.make_pattern(), source) if kv_bits == 8 else None
    options = DecoderExport(**shape, precision=precision, kv_bits=kv_bits)
    graph = build_decoder(weights, options, scales)
    stored = runtime_of(config, graph, layout, precision=precision, kv_bits=kv_bits)
    found = compare_decoder(model, stored, codes, source)
    metrics |= {
        "logits_rms_error": found.rms_error,
        "logits_rms": found.rms,
        "top_1_agreement": found.top_1_agreement,
        "kl_bits_per_codebook": found.kl_bits,
        "step_p50_ms": step_ms(stored, model, source),
    }
    path.write_bytes(graph.SerializeToString(deterministic=True))
    save_batch(build_decoder_batch(weights, options, DEFAULT_TAKES, scales), path)
    head_dim = config.dim // config.heads
    return DecoderSection(
        layers=config.layers,
        heads=config.heads,
        head_dim=head_dim,
        dim=config.dim,
        precision=precision,
        kv_bits=kv_bits,
    )


def step_ms(runtime: StepRuntime, model: Decoder, source: BeatSource, steps: int = 80) -> float:
    """Median processor time of a step on one thread at a full window, milliseconds."""
    decoder = PatternDecoder(runtime, model.config.make_pattern())
    window = model.config.window_frames
    decoder.force(np.zeros((window, model.config.num_codebooks), np.uint16), source)
    times = []
    for _ in range(steps):
        began = time.process_time()
        decoder.plan(window + steps, source, Sampling(guidance=2.0), max_steps=1)
        times.append(time.process_time() - began)
    return 1e3 * float(np.median(times))


def provenance(codec: State, checkpoint: dict[str, Any]) -> dict[str, str | int | float | bool | None]:
    """Where the weights come from, flat."""
    revision = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    last = checkpoint["history"][-1] if checkpoint["history"] else {}
    found: dict[str, str | int | float | bool | None] = {
        "data": "music composed by attacca.training, rendered by FluidSynth with FluidR3 (MIT)",
        "command": shlex.join([Path(sys.executable).name, "-m", "attacca.export.export_bundle", *sys.argv[1:]]),
        "commit": revision.stdout.strip(),
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
        "onnxruntime": onnxruntime.__version__,
        "decoder_updates": checkpoint["updates"],
        "decoder_minutes": round(checkpoint["elapsed_s"] / 60.0, 1),
        "codec_updates": codec.updates,
    }
    for name in ("bits_per_frame", "bits_unconditioned_per_frame"):
        if name in last:
            found[f"heldout_{name}"] = last[name]
    found |= {f"recipe_{k}": v for k, v in checkpoint["recipe"].items() if isinstance(v, str | int | float)}
    return found


def export(
    codec_run: Path,
    decoder_run: Path,
    out: Path,
    *,
    precision: str = "int8",
    kv_bits: int = 32,
    name: str = "ostinato",
    version: str = "0",
    sampling: SamplingDefaults | None = None,
    tokens: Path | None = None,
) -> Manifest:
    """Write the bundle into `out`, with code levels where there are songs' `tokens` to fit them to.

    ExportError or ValueError if anything is not what it should be.
    """
    codec_state = State.load(codec_run / CODEC_CHECKPOINT)
    model = load_decoder(decoder_run / CHECKPOINT)
    checkpoint = torch.load(decoder_run / CHECKPOINT, map_location="cpu", weights_only=True)
    out.mkdir(parents=True, exist_ok=True)
    section = export_codec(codec_run / CODEC_CHECKPOINT, out, decoder_precision=CODEC_DECODER_PRECISION)
    metrics: dict[str, float] = {}
    layout = checkpoint_layout(checkpoint)
    decoder = export_decoder(
        model, out / DECODER_FILE, layout, precision=precision, kv_bits=kv_bits, metrics=metrics
    )
    files = {"codec_encoder": CODEC_ENCODER_FILE, "codec_decoder": CODEC_DECODER_FILE}
    codec = Codec.load({role: out / file for role, file in files.items()}, section)
    metrics |= compare_codec(codec_state, codec)
    if tokens is not None:
        assert codec_state.quantizer is not None  # or it would not have been exported
        codebooks = codec_state.quantizer.codebooks.detach().numpy()
        metrics |= write_code_levels(out / CODE_LEVELS_FILE, codec, codebooks, tokens)
        files[CODE_LEVELS_ROLE] = CODE_LEVELS_FILE
    config = model.config
    if (codec.num_codebooks, codec.codebook_size) != (config.num_codebooks, config.codebook_size):
        raise ExportError(
            f"codec has {codec.num_codebooks} x {codec.codebook_size} codes, "
            f"decoder {config.num_codebooks} x {config.codebook_size}"
        )
    manifest = write_bundle(
        out,
        {
            "name": name,
            "version": version,
            "licence": "Apache-2.0",
            "sample_rate": codec.sample_rate,
            "hop_samples": codec.hop_samples,
            "num_codebooks": codec.num_codebooks,
            "codebook_size": codec.codebook_size,
            "window_frames": config.window_frames,
            "pattern": PatternSection(name=config.pattern, p=config.p),
            "conditioning": ConditioningSection.of(layout),
            "decoder": decoder,
            "codec": section,
            "sampling": sampling or SamplingDefaults(),
            "provenance": provenance(codec_state, checkpoint) | {k: float(f"{v:.4g}") for k, v in metrics.items()},
        },
        {DECODER_ROLE: DECODER_FILE, DECODER_BATCH_ROLE: BATCH_FILE, **files},
    )
    play(out, manifest)
    return manifest


def play(bundle: Path, manifest: Manifest) -> None:
    """Load what was written as a user would, and play a second. ExportError if it is broken or too big."""
    size = sum(entry.bytes for entry in manifest.files.values())
    if size > MAX_BUNDLE_BYTES:
        raise ExportError(f"{bundle} has {size / 1e6:.1f} MB, allowed: {MAX_BUNDLE_BYTES / 1e6:.0f}")
    problems = verify_bundle(bundle)
    if problems:
        raise ExportError("; ".join(problems))
    model = load_bundle(bundle)
    generator, frames = model.generator(), round(manifest.frames_per_second)
    generator.plan(frames, BeatSource(model.conditioning), Sampling())
    audio = model.codec.decoder().push(generator.read(0, frames))
    if not np.isfinite(audio).all():
        raise ExportError(f"{bundle} plays samples that are not finite")


def main(
    codec: Annotated[Path, typer.Option(help="run folder of the codec, with codec.pt")],
    decoder: Annotated[Path, typer.Option(help="run folder of the decoder, with decoder.pt")],
    out: Annotated[Path, typer.Option(help="bundle folder to write")],
    precision: Annotated[str, typer.Option(help="decoder weights: fp32, fp16, int8, int4")] = "int8",
    kv_bits: Annotated[int, typer.Option(help="cache: 32 or 8")] = 32,
    name: Annotated[str, typer.Option(help="name of the bundle")] = "ostinato",
    version: Annotated[str, typer.Option()] = "0",
    temperature: Annotated[float, typer.Option(help="default of the bundle")] = 1.0,
    top_k: Annotated[int, typer.Option(help="default of the bundle; 0 keeps all")] = 0,
    guidance: Annotated[float, typer.Option(help="default of the bundle; 1 is none")] = 1.0,
    emphasis: Annotated[
        float, typer.Option(help="on players commanded out after they were heard; 0 is none")
    ] = 1.0,
    tokens: Annotated[
        Path | None, typer.Option(help="folder of songs' tokens; with it takes keep their level by their codes")
    ] = None,
) -> None:
    """Export, verify against torch, and write a bundle."""
    torch.set_num_threads(1)
    defaults = SamplingDefaults(temperature=temperature, top_k=top_k, guidance=guidance, emphasis=emphasis)
    manifest = export(
        codec,
        decoder,
        out,
        precision=precision,
        kv_bits=kv_bits,
        name=name,
        version=version,
        sampling=defaults,
        tokens=tokens,
    )
    for key, value in manifest.provenance.items():
        print(f"{key}: {value}")
    print(f"{out}: {sum(entry.bytes for entry in manifest.files.values()) / 1e6:.1f} MB")


if __name__ == "__main__":
    typer.run(main)
