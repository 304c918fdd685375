"""Decoders that benchmarks/gpu.py measures: the shapes, with random weights, as graphs for the CPU and for GPUs.

Time does not hang on what the weights are. Graphs are written once into the run's folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import UNSET

from attacca.engine.conditioning import full_layout
from attacca.engine.decoder import PatternDecoder
from attacca.engine.device_decoder import DeviceDecoder
from attacca.engine.device_lane import DeviceRuntime
from attacca.engine.device_prompted import DeviceMusicgenDecoder, DevicePromptedRuntime
from attacca.engine.gpu_spec import GpuSpec, spec_of
from attacca.engine.manifest import MUSICGEN, ConditioningSection, DecoderSection, Manifest, PatternSection
from attacca.engine.musicgen import MusicgenDecoder, PromptBox
from attacca.engine.pattern import Pattern, make_pattern
from attacca.engine.prompted import Prompt, PromptedRuntime
from attacca.engine.runtime import StepRuntime
from attacca.engine.stacked import StackedRuntime
from attacca.export.decoder import DecoderExport, build_decoder
from attacca.export.gpu_bundle import save
from attacca.export.gpu_graph import build_gpu_decoder
from attacca.export.gpu_musicgen import build_gpu_musicgen
from attacca.export.gpu_ops import GpuExport
from attacca.export.musicgen import MusicgenExport, build_step
from attacca.export.musicgen_checkpoint import MusicgenShape
from attacca.export.musicgen_stacked import LEVELS, build_stacked_step
from attacca.export.weight_pool import WeightPool

FRAMES_PER_SECOND = 50.0
HISTORY, PROMPT_TOKENS = 32, 64
_NOISE = 1 << 16  # random values that all weights repeat: to draw more of them costs minutes


@dataclass(frozen=True, kw_only=True)
class Case:
    """A decoder's shape. `kind` is stacked (ostinato) or musicgen."""

    name: str
    kind: str
    layers: int
    dim: int
    heads: int
    hidden: int
    num_codebooks: int
    codebook_size: int
    window: int
    pattern: str

    @cached_property
    def steps(self) -> Pattern:
        return make_pattern(self.pattern, self.num_codebooks)

    @property
    def rows(self) -> int:
        return self.num_codebooks + 1 if self.steps.family == "stack" else 1

    @property
    def parameters(self) -> int:
        return sum(weight.size for weight in self.weights().values())

    def shallow(self, layers: int) -> Case:
        """The same with at most so many layers, for comparisons in which all widths count."""
        return replace(self, name=f"{self.name}-{layers}", layers=min(layers, self.layers))

    @property
    def manifest(self) -> Manifest:
        musicgen = self.kind == "musicgen"
        layout = full_layout(16)
        none = ConditioningSection(width=0, groups=())
        return Manifest(
            format_version=1,
            name=self.name,
            version="1",
            licence="none",
            sample_rate=32000,
            hop_samples=640,
            num_codebooks=self.num_codebooks,
            codebook_size=self.codebook_size,
            window_frames=self.window,
            pattern=PatternSection(name=self.pattern, p=self.steps.p),
            conditioning=none if musicgen else ConditioningSection.of(layout),
            decoder=DecoderSection(
                layers=self.layers,
                heads=self.heads,
                head_dim=self.dim // self.heads,
                dim=self.dim,
                kind=MUSICGEN if musicgen else UNSET,
            ),
            codec={},
            files={},
        )

    def spec(self, precision: str) -> GpuSpec:
        tokens = PROMPT_TOKENS if self.kind == "musicgen" else 0
        sizes = {"rows": self.rows, "history": HISTORY, "prompt_tokens": tokens}
        return spec_of(self.manifest, precision=precision, **sizes)

    @property
    def musicgen_shape(self) -> MusicgenShape:
        return MusicgenShape(
            layers=self.layers,
            dim=self.dim,
            heads=self.heads,
            hidden=self.hidden,
            num_codebooks=self.num_codebooks,
            codebook_size=self.codebook_size,
            audio_channels=1,
            text_dim=self.dim,
        )

    def weights(self) -> dict[str, npt.NDArray[np.float32]]:
        """Random, scaled so that signals keep their size."""
        noise = np.random.default_rng(0).standard_normal(_NOISE).astype(np.float32)

        def drawn(shape: tuple[int, ...], scale: float) -> npt.NDArray[np.float32]:
            return np.resize(noise * np.float32(scale), shape)

        if self.kind == "musicgen":
            levels = {LEVELS: drawn((self.num_codebooks + 1, self.dim), 1.0)} if self.rows > 1 else {}
            return levels | {
                name: drawn(shape, 0.1) + np.float32("norm.weight" in name)
                if len(shape) == 1
                else drawn(shape, shape[-1] ** -0.5)
                for name, shape in self.musicgen_shape.tensors()
            }
        found = {
            "tok_emb": drawn((self.num_codebooks, self.codebook_size + 1, self.dim), self.num_codebooks**-0.5),
            "level_emb": drawn((self.num_codebooks + 1, self.dim), 1.0),
            "cond.weight": drawn((self.dim, full_layout(16).width), 0.3),
            "norm.weight": np.ones(self.dim, np.float32),
            "heads": drawn((self.num_codebooks, self.dim, self.codebook_size), self.dim**-0.5),
        }
        for layer in range(self.layers):
            prefix, d, h = f"layers.{layer}.", self.dim, self.hidden
            sizes = {"qkv": (3 * d, d), "out": (d, d), "ffn_in": (2 * h, d), "ffn_out": (d, h)}
            found |= {f"{prefix}{name}.weight": drawn(size, size[-1] ** -0.5) for name, size in sizes.items()}
            found |= {f"{prefix}norm{i}.weight": np.ones(d, np.float32) for i in (1, 2)}
        return found


_OSTINATO: dict[str, Any] = {
    "kind": "stacked",
    "layers": 6,
    "dim": 256,
    "heads": 4,
    "hidden": 704,
    "num_codebooks": 6,
    "codebook_size": 1024,
    "window": 304,
}
_MUSICGEN: dict[str, Any] = {
    "kind": "musicgen",
    "num_codebooks": 4,
    "codebook_size": 2048,
    "window": 500,
    "pattern": "delay",
}
_SMALL: dict[str, Any] = _MUSICGEN | {"layers": 24, "dim": 1024, "heads": 16, "hidden": 4096}
CASES: Mapping[str, Case] = {
    case.name: case
    for case in (
        Case(name="ostinato", pattern="stack-delay", **_OSTINATO),
        Case(name="ostinato-delay", pattern="delay", **_OSTINATO),
        Case(name="small", **_SMALL),
        Case(name="small-stacked", **(_SMALL | {"pattern": "stack-delay"})),
        Case(name="medium", layers=48, dim=1536, heads=24, hidden=6144, **_MUSICGEN),
    )
}
_TOY: dict[str, Any] = {"layers": 2, "dim": 32, "heads": 2, "hidden": 48, "num_codebooks": 3, "codebook_size": 32}
TOYS: Mapping[str, Case] = {
    case.name: case
    for case in (
        Case(name="ostinato", kind="stacked", pattern="stack-delay", window=40, **_TOY),
        Case(name="ostinato-delay", kind="stacked", pattern="delay", window=40, **_TOY),
        Case(name="small", kind="musicgen", pattern="delay", window=40, **_TOY),
        Case(name="small-stacked", kind="musicgen", pattern="stack-delay", window=40, **_TOY),
    )
}


@dataclass(frozen=True, kw_only=True)
class Flavour:
    """How a graph is written."""

    precision: str
    dialect: str
    attention: str

    @property
    def name(self) -> str:
        return f"{self.precision}-{self.dialect}-{self.attention}"


def gpu_graph(case: Case, flavour: Flavour, folder: Path, *, takes: int = 1) -> Path:
    """The graph for GPUs, written into `folder` unless it is there; a case's graphs share their weights' file."""
    name = f"{case.name}-{flavour.name}-t{takes}.onnx"
    path = folder / name
    if path.is_file():
        return path
    spec = case.spec(flavour.precision)
    options = GpuExport(
        rows=spec.rows,
        capacity=spec.capacity,
        history=spec.history,
        takes=takes,
        precision=flavour.precision,
        dialect=flavour.dialect,
        attention=flavour.attention,
    )
    weights = case.weights()
    if case.kind == "musicgen":
        model = build_gpu_musicgen(
            weights, case.musicgen_shape, options, window_frames=case.window, prompt_tokens=PROMPT_TOKENS
        )
    else:
        model = build_gpu_decoder(weights, options, heads=case.heads, window_frames=case.window)
    folder.mkdir(parents=True, exist_ok=True)
    weights_path = folder / f"{case.name}-{flavour.precision}.data"
    pool = WeightPool(weights_path, index=weights_path.with_suffix(".json"))
    save(model, folder, name, dialect=flavour.dialect, takes=takes, pool=pool)
    return path


def cpu_decoder(case: Case) -> PatternDecoder:
    """The engine's own runtime with the same weights in fp32: what a device is compared with."""
    weights = case.weights()
    if case.kind == "musicgen":
        build, kind = (build_stacked_step, StackedRuntime) if case.rows > 1 else (build_step, PromptedRuntime)
        graph = build(weights, case.musicgen_shape, MusicgenExport(window_frames=case.window))
        runtime = kind(graph.SerializeToString(), case.manifest)
        return MusicgenDecoder(runtime, case.steps, PromptBox(prompt_of(case)))
    plain = build_decoder(weights, DecoderExport(heads=case.heads, window_frames=case.window))
    return PatternDecoder(StepRuntime(plain.SerializeToString(), case.manifest), case.steps)


def device_runtime(
    case: Case, flavour: Flavour, maker: Any, *, several: Mapping[int, Any] | None = None
) -> DeviceRuntime:
    """A device's runtime over loaded graphs."""
    kind = DevicePromptedRuntime if case.kind == "musicgen" else DeviceRuntime
    return kind(maker, case.spec(flavour.precision), case.manifest, several=several)


def device_decoder(case: Case, runtime: Any) -> DeviceDecoder:
    """A stream on a device."""
    if case.kind == "musicgen":
        return DeviceMusicgenDecoder(runtime, case.steps, PromptBox(prompt_of(case)))
    return DeviceDecoder(runtime, case.steps)


def prompt_of(case: Case) -> Prompt:
    """A random prompt of a dozen tokens."""
    generator, size = np.random.default_rng(1), case.dim // case.heads
    values = {}
    for layer in range(case.layers):
        keys, vectors = generator.standard_normal((2, case.heads, 12, size)).astype(np.float32)
        values[f"cross_key_{layer}"] = np.ascontiguousarray(keys.transpose(0, 2, 1))
        values[f"cross_value_{layer}"] = vectors
    return Prompt.of(values, np.ones(12, np.float32))
