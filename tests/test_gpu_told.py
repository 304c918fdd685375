"""MusicGen under stack patterns and its melody models as graphs for GPUs: the CPU's tokens, alone and shared."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

pytest.importorskip("onnx")

from gpu_fixtures import HISTORY, MUSICGEN_SHAPE, PROMPT_TOKENS, random_prompt, step_rows

from attacca.engine.device import HostDriver
from attacca.engine.device_melody import DeviceMelodyDecoder, DeviceMelodyRuntime
from attacca.engine.device_prompted import DeviceMusicgenDecoder, DevicePromptedRuntime
from attacca.engine.device_sharing import DeviceStepper
from attacca.engine.generator import Sampling
from attacca.engine.gpu_spec import GpuSpec, spec_of
from attacca.engine.manifest import MELODY, MUSICGEN, ConditioningSection, DecoderSection, Manifest, PatternSection
from attacca.engine.melody import MelodyDecoder, MelodyRuntime
from attacca.engine.musicgen import MusicgenDecoder, PromptBox
from attacca.engine.ort_device import OrtMaker
from attacca.engine.pattern import Pattern, make_pattern
from attacca.engine.prompted import Prompt
from attacca.engine.rolling import RollingDecoder
from attacca.engine.sharing import Part
from attacca.engine.stacked import StackedRuntime
from attacca.export.bundle_weights import read_musicgen
from attacca.export.gpu_musicgen import build_gpu_musicgen
from attacca.export.gpu_ops import ATTENTIONS, DIALECTS, GpuExport
from attacca.export.musicgen import MusicgenExport, build_step
from attacca.export.musicgen_stacked import LEVELS, build_stacked_step
from attacca.export.tensorrt_engine import EngineOptions, build_engine

pytestmark = pytest.mark.train
WINDOW, SIZE = 48, MUSICGEN_SHAPE.codebook_size
MELODY_SHAPE = replace(MUSICGEN_SHAPE, cross=False, num_chroma=12)
SAMPLING = Sampling(seed=4, temperature=1.0, top_k=12, guidance=3.0)
FLAVOURS = [(dialect, attention) for dialect in DIALECTS for attention in ATTENTIONS]


class Nothing:
    def rows(self, first_frame: int, count: int) -> np.ndarray:
        return np.zeros((count, 0), np.float32)


def weights(melody: bool) -> dict[str, np.ndarray]:
    generator, found = np.random.default_rng(0), {}
    for name, shape in (MELODY_SHAPE if melody else MUSICGEN_SHAPE).tensors():
        scale = 1.5 * shape[-1] ** -0.5 if len(shape) == 2 else 0.1
        found[name] = (scale * generator.standard_normal(shape) + ("norm.weight" in name)).astype(np.float32)
    if not melody:
        found[LEVELS] = generator.standard_normal((5, MUSICGEN_SHAPE.dim)).astype(np.float32)
    return found


def manifest(kind: str, pattern: Pattern, channels: int = 1) -> Manifest:
    shape = MUSICGEN_SHAPE
    sizes = {"layers": shape.layers, "heads": shape.heads, "head_dim": shape.dim // shape.heads, "dim": shape.dim}
    return Manifest(
        format_version=1,
        name="random",
        version="1",
        licence="none",
        sample_rate=8000,
        hop_samples=160,
        num_codebooks=shape.num_codebooks,
        codebook_size=SIZE,
        window_frames=WINDOW,
        pattern=PatternSection(name=pattern.name, p=pattern.p),
        conditioning=ConditioningSection(width=0, groups=()),
        decoder=DecoderSection(**sizes, kind=kind),
        codec={"audio_channels": channels},
        files={},
    )


def graph(spec: GpuSpec, takes: int = 1, **options: str) -> bytes:
    sizes = {"rows": spec.rows, "capacity": spec.capacity, "history": spec.history, "precision": spec.precision}
    shape = MELODY_SHAPE if spec.melody else MUSICGEN_SHAPE
    return build_gpu_musicgen(
        weights(spec.melody),
        shape,
        GpuExport(**sizes, takes=takes, **options),
        window_frames=WINDOW,
        prompt_tokens=spec.prompt_tokens,
    ).SerializeToString()


def sizes(told: Manifest, pattern: Pattern) -> GpuSpec:
    tokens = 0 if told.decoder.kind == MELODY else PROMPT_TOKENS
    return spec_of(told, rows=step_rows(pattern), history=HISTORY, precision="fp32", prompt_tokens=tokens)


def stacked(p: int, channels: int, **options: str) -> tuple[Any, Any]:
    """The CPU's decoder and a device's, under one prompt."""
    pattern = make_pattern("stack-delay", 4, p=p)
    told, box = manifest(MUSICGEN, pattern, channels), PromptBox(random_prompt(5, 8))
    exact = build_stacked_step(weights(False), MUSICGEN_SHAPE, MusicgenExport(window_frames=WINDOW))
    spec = sizes(told, pattern)
    runtime = DevicePromptedRuntime(OrtMaker(graph(spec, **options), HostDriver()), spec, told)
    cpu = MusicgenDecoder(StackedRuntime(exact.SerializeToString(), told), pattern, box)
    return cpu, DeviceMusicgenDecoder(runtime, pattern, box)


MELODY_PATTERN = make_pattern("delay", 4)


@cache
def melody_cpu() -> MelodyRuntime:
    exact = build_step(weights(True), MELODY_SHAPE, MusicgenExport(window_frames=WINDOW))
    return MelodyRuntime(exact.SerializeToString(), manifest(MELODY, MELODY_PATTERN))


def melody_device(counts: tuple[int, ...] = (), **options: str) -> DeviceMelodyRuntime:
    told, driver = manifest(MELODY, MELODY_PATTERN), HostDriver()
    spec = sizes(told, MELODY_PATTERN)
    several = {takes: OrtMaker(graph(spec, takes, **options), driver) for takes in counts}
    return DeviceMelodyRuntime(OrtMaker(graph(spec, **options), driver), spec, told, several=several)


def melody(rows: int, seed: int) -> Prompt:
    prefix = np.random.default_rng(seed).standard_normal((2, rows, MUSICGEN_SHAPE.dim)).astype(np.float32)
    return Prompt({"prefix": prefix})


def codes(frames: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, SIZE, (frames, 4)).astype(np.uint16)


def played(decoder: Any, other: Prompt, frames: int) -> np.ndarray:
    """After some context, told another prompt on the way, rolled back across that, forked."""
    decoder.listen(codes(9, 5), np.zeros((9, 0), np.float32))
    decoder.plan(frames - 12, Nothing(), SAMPLING)
    decoder.tell(other)
    decoder.plan(frames, Nothing(), SAMPLING)
    decoder.rollback(frames - 15)
    fork = decoder.fork()
    fork.plan(frames - 10, Nothing(), SAMPLING, max_steps=3)
    fork.plan(frames, Nothing(), SAMPLING)
    return fork.read(0, frames)


@pytest.mark.parametrize(("p", "channels"), [(1, 1), (3, 1), (1, 2)])
def test_under_stack_patterns_a_device_draws_the_cpus_tokens(p: int, channels: int) -> None:
    cpu, device = stacked(p, channels)
    wanted = played(cpu, random_prompt(6, 9), 60)
    np.testing.assert_array_equal(wanted, played(device, random_prompt(6, 9), 60))
    assert len(np.unique(wanted)) > SIZE // 2


@pytest.mark.parametrize(("dialect", "attention"), FLAVOURS)
def test_melody_models_draw_the_cpus_tokens(dialect: str, attention: str) -> None:
    box, other = PromptBox(melody(11, 1)), melody(9, 2)
    wanted = played(MelodyDecoder(melody_cpu(), MELODY_PATTERN, box), other, 34)
    runtime = melody_device(dialect=dialect, attention=attention)
    np.testing.assert_array_equal(wanted, played(DeviceMelodyDecoder(runtime, MELODY_PATTERN, box), other, 34))
    plain = played(DeviceMelodyDecoder(runtime, MELODY_PATTERN, PromptBox(other)), other, 34)
    assert not np.array_equal(plain, wanted)


@pytest.mark.parametrize("kind", [MUSICGEN, MELODY])
def test_tensorrt_takes_their_graphs_of_several_takes(kind: str, tmp_path: Path) -> None:
    module = pytest.importorskip("tensorrt_rtx_bindings", reason="needs tensorrt-rtx-cu13-libs and -bindings")
    pattern = make_pattern("stack-delay", 4) if kind == MUSICGEN else MELODY_PATTERN
    spec = msgspec.structs.replace(sizes(manifest(kind, pattern), pattern), precision="fp16")
    (tmp_path / "step.onnx").write_bytes(graph(spec, 4, dialect="standard", attention="operator"))
    options = EngineOptions(capability=(8, 6), effort=0)
    assert len(build_engine(tmp_path / "step.onnx", module, options)) > 10_000


def test_takes_told_by_melodies_share_steps_over_windows_that_begin_anew() -> None:
    runtime, told = melody_device((2, 4)), [melody(11, n) for n in range(3)]

    def rolling(make: Any) -> RollingDecoder:
        return RollingDecoder(make, horizon=30, keep=9, num_codebooks=4)

    takes = [
        rolling(lambda prompt=prompt: DeviceMelodyDecoder(runtime, MELODY_PATTERN, PromptBox(prompt)))
        for prompt in told
    ]
    parts = [
        Part(generator=take, until_frame=90, source=Nothing(), sampling=replace(SAMPLING, seed=n))
        for n, take in enumerate(takes)
    ]
    for n, take in enumerate(takes):
        take.plan(4 * n, Nothing(), parts[n].sampling)
    assert DeviceStepper(runtime).plan(parts, 200)[0] > 90
    for n, prompt in enumerate(told):
        alone = rolling(lambda prompt=prompt: MelodyDecoder(melody_cpu(), MELODY_PATTERN, PromptBox(prompt)))
        alone.plan(4 * n, Nothing(), parts[n].sampling)
        alone.plan(takes[n].frontier, Nothing(), parts[n].sampling)
        span = (alone.frontier - 30, alone.frontier)
        np.testing.assert_array_equal(takes[n].read(*span), alone.read(*span))


def test_weights_are_read_back_from_a_bundles_graph() -> None:
    options = MusicgenExport(window_frames=WINDOW)
    for shape, made in (
        (MUSICGEN_SHAPE, build_stacked_step(weights(False), MUSICGEN_SHAPE, options)),
        (MELODY_SHAPE, build_step(weights(True), MELODY_SHAPE, options)),
    ):
        melody = not shape.cross
        read, found = read_musicgen(made, layers=2, heads=2, num_codebooks=4, melody=melody)
        assert (found.cross, found.dim, found.codebook_size) == (shape.cross, shape.dim, SIZE)
        assert (LEVELS in read) == shape.cross
        for name, weight in weights(melody).items():
            if name in read:
                np.testing.assert_array_equal(read[name][: len(weight)], weight)
        assert len(read) > 20


def test_what_a_prompt_is_must_fit_the_weights() -> None:
    options = GpuExport(rows=1, capacity=320)
    with pytest.raises(ValueError, match="prompt_tokens is 4, allowed: 0"):
        build_gpu_musicgen(weights(True), MELODY_SHAPE, options, window_frames=WINDOW, prompt_tokens=4)
    with pytest.raises(ValueError, match="prompt_tokens is 0, allowed: 1 or more"):
        build_gpu_musicgen(weights(False), MUSICGEN_SHAPE, options, window_frames=WINDOW, prompt_tokens=0)
