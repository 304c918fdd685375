"""What the tests of graphs for GPUs share: random MusicGen weights and bundles' graphs, on the CPU's own memory."""

from __future__ import annotations

import msgspec
import numpy as np
from decoder_fixtures import TINY

from attacca.engine.device import HostDriver
from attacca.engine.device_lane import DeviceRuntime
from attacca.engine.device_prompted import DevicePromptedRuntime
from attacca.engine.gpu_spec import GpuSpec, spec_of
from attacca.engine.manifest import Manifest, PatternSection, read_manifest
from attacca.engine.ort_device import OrtMaker
from attacca.engine.pattern import Pattern, make_pattern
from attacca.engine.prompted import Prompt, PromptedRuntime
from attacca.export.gpu_graph import build_gpu_decoder
from attacca.export.gpu_musicgen import build_gpu_musicgen
from attacca.export.gpu_ops import GpuExport
from attacca.export.musicgen import MusicgenExport, build_step
from attacca.export.musicgen_checkpoint import MusicgenShape
from attacca.export.shapes import musicgen_manifest
from attacca.export.tiny import HEADS, HIDDEN, LAYERS, random_decoder

HISTORY, PROMPT_TOKENS = 24, 12
MUSICGEN_SHAPE = MusicgenShape(
    layers=2, dim=32, heads=2, hidden=64, num_codebooks=4, codebook_size=24, audio_channels=1, text_dim=32
)


def tiny_manifest(pattern: Pattern) -> Manifest:
    section = PatternSection(name=pattern.name, p=pattern.p)
    return msgspec.structs.replace(read_manifest(TINY), pattern=section)


def tiny_weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Those of the tiny bundle, if the seed is its own."""
    manifest = read_manifest(TINY)
    return random_decoder(
        layers=LAYERS,
        dim=manifest.decoder.dim,
        hidden=HIDDEN,
        num_codebooks=manifest.num_codebooks,
        codebook_size=manifest.codebook_size,
        conditioning_width=manifest.conditioning.width,
        seed=seed,
    )


def step_rows(pattern: Pattern) -> int:
    return pattern.num_codebooks + 1 if pattern.family == "stack" else 1


def tiny_spec(pattern: Pattern, precision: str = "fp32") -> GpuSpec:
    return spec_of(tiny_manifest(pattern), rows=step_rows(pattern), history=HISTORY, precision=precision)


def tiny_graph(spec: GpuSpec, takes: int = 1, **options: str) -> bytes:
    sizes = {"rows": spec.rows, "capacity": spec.capacity, "history": spec.history, "precision": spec.precision}
    export = GpuExport(**sizes, takes=takes, **options)
    model = build_gpu_decoder(tiny_weights(), export, heads=HEADS, window_frames=spec.window)
    return model.SerializeToString(deterministic=True)


def tiny_device(pattern: Pattern, precision: str = "fp32", **options: str) -> DeviceRuntime:
    """The tiny bundle's decoder as a graph for GPUs, in this machine's memory."""
    spec = tiny_spec(pattern, precision)
    return DeviceRuntime(OrtMaker(tiny_graph(spec, **options), HostDriver()), spec, tiny_manifest(pattern))


def musicgen_weights(seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    weights = {}
    for name, shape in MUSICGEN_SHAPE.tensors():
        values = generator.standard_normal(shape).astype(np.float32)
        scale = 1.5 * shape[-1] ** -0.5 if len(shape) == 2 else 0.1
        weights[name] = values * np.float32(scale) + np.float32("norm.weight" in name)
    return weights


MUSICGEN_MANIFEST = musicgen_manifest(MUSICGEN_SHAPE, window=48)
MUSICGEN_PATTERN = make_pattern("delay", MUSICGEN_SHAPE.num_codebooks)


def musicgen_cpu() -> PromptedRuntime:
    manifest = MUSICGEN_MANIFEST
    graph = build_step(musicgen_weights(), MUSICGEN_SHAPE, MusicgenExport(window_frames=manifest.window_frames))
    return PromptedRuntime(graph.SerializeToString(), manifest)


def musicgen_spec(precision: str = "fp32") -> GpuSpec:
    return spec_of(MUSICGEN_MANIFEST, rows=1, history=HISTORY, precision=precision, prompt_tokens=PROMPT_TOKENS)


def musicgen_graph(spec: GpuSpec, takes: int = 1, **options: str) -> bytes:
    sizes = {"rows": 1, "capacity": spec.capacity, "history": spec.history, "precision": spec.precision}
    model = build_gpu_musicgen(
        musicgen_weights(),
        MUSICGEN_SHAPE,
        GpuExport(**sizes, takes=takes, **options),
        window_frames=spec.window,
        prompt_tokens=spec.prompt_tokens,
    )
    return model.SerializeToString(deterministic=True)


def musicgen_device(precision: str = "fp32", **options: str) -> DevicePromptedRuntime:
    spec = musicgen_spec(precision)
    maker = OrtMaker(musicgen_graph(spec, **options), HostDriver())
    return DevicePromptedRuntime(maker, spec, MUSICGEN_MANIFEST)


def random_prompt(tokens: int, seed: int) -> Prompt:
    """Keys and values as the prompt graph makes them, the last token padding."""
    shape, generator = MUSICGEN_SHAPE, np.random.default_rng(seed)
    size = shape.dim // shape.heads
    values = {}
    for layer in range(shape.layers):
        keys, vectors = generator.standard_normal((2, shape.heads, tokens, size)).astype(np.float32)
        values[f"cross_key_{layer}"] = np.ascontiguousarray(keys.transpose(0, 2, 1))
        values[f"cross_value_{layer}"] = vectors
    return Prompt.of(values, np.array([1.0] * (tokens - 1) + [0.0], np.float32))
