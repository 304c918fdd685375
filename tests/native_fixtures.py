"""Step graphs of random weights for our kernels, of every kind and precision, and what runs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from attacca.engine.conditioning import full_layout
from attacca.engine.decoder import PatternDecoder
from attacca.engine.manifest import MELODY, DecoderSection, Manifest, PatternSection
from attacca.engine.melody import MelodyRuntime
from attacca.engine.native_lane import NativeKernels
from attacca.engine.native_trial import trial_decoder
from attacca.engine.native_weights import native_model
from attacca.engine.pattern import Pattern, make_pattern
from attacca.engine.prompted import PromptedRuntime
from attacca.engine.runtime import StepRuntime
from attacca.engine.stacked import StackedRuntime
from attacca.export.calibrate import cache_scales
from attacca.export.decoder import DecoderExport, build_decoder
from attacca.export.musicgen import MusicgenExport, build_step
from attacca.export.musicgen_checkpoint import MusicgenShape
from attacca.export.musicgen_stacked import build_stacked_step
from attacca.export.shapes import manifest_without_bundle, musicgen_manifest
from attacca.export.tiny import random_decoder

KINDS = ("decoder", "musicgen", "stacked", "melody")
LAYERS, HEADS, DIM, HIDDEN, BOOKS, CODES = 2, 3, 96, 176, 4, 24
WINDOW = 40
LAYOUT = full_layout(3)


class Conditions:
    """Vectors that follow from the frame alone, none of them zero."""

    def __init__(self, width: int) -> None:
        self._width = width

    def rows(self, first_frame: int, count: int) -> np.ndarray:
        return np.sin(np.arange(first_frame, first_frame + count)[:, None] + np.arange(self._width)).astype(
            np.float32
        )


@dataclass(frozen=True, kw_only=True)
class Case:
    """A graph, and what onnxruntime makes of it."""

    graph: bytes
    runtime: StepRuntime
    pattern: Pattern

    @property
    def manifest(self) -> Manifest:
        return self.runtime.manifest

    @property
    def source(self) -> Conditions:
        return Conditions(self.manifest.conditioning.width)

    def native(self, kernels: str | None = None) -> StepRuntime:
        model = native_model(self.graph, self.manifest, kernels)
        return self.runtime.on_kernels(NativeKernels(model=model))

    def decoder(self, runtime: StepRuntime) -> PatternDecoder:
        """A fresh one; under a prompt of noise where there is one."""
        return trial_decoder(runtime, self.pattern)

    def codes(self, frames: int, seed: int = 1) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, CODES, (frames, BOOKS)).astype(np.uint16)


def make(kind: str, precision: str = "fp32", kv_bits: int = 32, *, pattern: str = "") -> Case:
    """A case; scales of an 8-bit cache are measured on its graph of floats."""
    scales = None
    if kv_bits == 8:
        plain = make(kind, pattern=pattern)
        decoder = plain.decoder(plain.runtime)
        decoder.listen(plain.codes(WINDOW), plain.source.rows(0, WINDOW))
        scales = cache_scales(decoder, plain.runtime.shape)
    graph, manifest, runtime = _decoder(precision, scales) if kind == "decoder" else _told(kind, precision, scales)
    name = pattern or ("stack-delay" if kind in ("decoder", "stacked") else "delay")
    return Case(graph=graph, runtime=runtime(graph, manifest), pattern=make_pattern(name, BOOKS, p=2))


def _decoder(precision: str, scales: Any) -> tuple[bytes, Manifest, Any]:
    bits = 32 if scales is None else 8
    weights = random_decoder(
        layers=LAYERS,
        dim=DIM,
        hidden=HIDDEN,
        num_codebooks=BOOKS,
        codebook_size=CODES,
        conditioning_width=LAYOUT.width,
    )
    options = DecoderExport(heads=HEADS, window_frames=WINDOW, precision=precision, kv_bits=bits)
    section = DecoderSection(
        layers=LAYERS, heads=HEADS, head_dim=DIM // HEADS, dim=DIM, precision=precision, kv_bits=bits
    )
    manifest = manifest_without_bundle(section, codes=(BOOKS, CODES), window=WINDOW, layout=LAYOUT)
    return build_decoder(weights, options, scales).SerializeToString(), manifest, StepRuntime


def _told(kind: str, precision: str, scales: Any) -> tuple[bytes, Manifest, Any]:
    bits = 32 if scales is None else 8
    shape = MusicgenShape(
        layers=LAYERS,
        dim=DIM,
        heads=HEADS,
        hidden=HIDDEN,
        num_codebooks=BOOKS,
        codebook_size=CODES,
        audio_channels=1,
        text_dim=DIM,
        cross=kind != "melody",
    )
    weights = _musicgen_weights(shape)
    options = MusicgenExport(window_frames=WINDOW, precision=precision, kv_bits=bits)
    build = build_stacked_step if kind == "stacked" else build_step
    manifest = musicgen_manifest(shape, window=WINDOW, precision=precision, kv_bits=bits)
    changes: dict[str, Any] = {}
    if kind == "stacked":
        changes = {"pattern": PatternSection(name="stack-delay", p=2), "codec": {"audio_channels": 1}}
    if kind == "melody":
        changes = {"decoder": msgspec.structs.replace(manifest.decoder, kind=MELODY)}
    runtime = {"musicgen": PromptedRuntime, "stacked": StackedRuntime, "melody": MelodyRuntime}[kind]
    graph = build(weights, shape, options, scales).SerializeToString()
    return graph, msgspec.structs.replace(manifest, **changes), runtime


def _musicgen_weights(shape: MusicgenShape) -> dict[str, np.ndarray]:
    """Scaled so that no attention is flat and no norm the identity."""
    random = np.random.default_rng(2)
    weights = {"level_emb": random.standard_normal((BOOKS + 1, DIM)).astype(np.float32)}
    for name, sizes in shape.tensors():
        drawn = random.standard_normal(sizes).astype(np.float32)
        if len(sizes) == 1:
            weights[name] = 0.1 * drawn + np.float32("norm" in name and name.endswith("weight"))
        else:
            weights[name] = drawn * np.float32(1.0 if "embed" in name else 1.3 * sizes[-1] ** -0.5)
    return weights
