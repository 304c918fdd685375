"""Takes stepped together have the tokens, and the logits to the bit, that each has alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from decoder_fixtures import TINY_LAYOUT, Source, random_codes
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx")

from attacca.engine.batch import BatchRuntime
from attacca.engine.decoder import PatternDecoder
from attacca.engine.generator import Sampling
from attacca.engine.manifest import DecoderSection, Manifest, ManifestError
from attacca.engine.musicgen import MusicgenDecoder, PromptBox
from attacca.engine.pace import measure_pace
from attacca.engine.pattern import make_pattern
from attacca.engine.prompted import Prompt, PromptedRuntime
from attacca.engine.rolling import RollingDecoder
from attacca.engine.runtime import StepRuntime
from attacca.engine.sharing import Part, plan_together
from attacca.export.batch import build_decoder_batch, build_step_batch, save_batch, share_weights
from attacca.export.decoder import DecoderExport, build_decoder, save_decoder
from attacca.export.musicgen import MusicgenExport, build_step
from attacca.export.shapes import (
    Shape,
    manifest_of,
    manifest_without_bundle,
    musicgen_shape,
    random_weights,
    write_shape,
)
from attacca.export.tiny import random_decoder

pytestmark = pytest.mark.train

CODEBOOKS, SIZE, WINDOW, DIM, HEADS, LAYERS, TAKES = 4, 32, 24, 128, 2, 2, 3
SAMPLINGS = [
    Sampling(seed=1, guidance=2.0),
    Sampling(seed=2, guidance=0.5, temperature=0.8, top_k=5),
    Sampling(seed=3, temperature=0.0, guidance=1.5),
]
HEARD = [1, 30, 77]  # frames: at the beginning, past the window, past a compaction


def options(precision: str) -> DecoderExport:
    return DecoderExport(heads=HEADS, window_frames=WINDOW, precision=precision)


@cache
def weights(seed: int = 0) -> dict[str, np.ndarray]:
    return random_decoder(
        layers=LAYERS,
        dim=DIM,
        hidden=192,
        num_codebooks=CODEBOOKS,
        codebook_size=SIZE,
        conditioning_width=TINY_LAYOUT.width,
        seed=seed,
    )


def manifest(precision: str) -> Manifest:
    section = DecoderSection(layers=LAYERS, heads=HEADS, head_dim=DIM // HEADS, dim=DIM, precision=precision)
    return manifest_without_bundle(section, codes=(CODEBOOKS, SIZE), window=WINDOW, layout=TINY_LAYOUT)


@cache
def runtimes(pattern: str, precision: str) -> tuple[StepRuntime, BatchRuntime]:
    single = StepRuntime(build_decoder(weights(), options(precision)).SerializeToString(), manifest(precision))
    graph = build_decoder_batch(weights(), options(precision), TAKES).SerializeToString()
    return single, BatchRuntime(graph, single)


def heard(pattern: str, precision: str) -> list[PatternDecoder]:
    """Takes at different lengths."""
    decoders = []
    for number, frames in enumerate(HEARD):
        decoder = PatternDecoder(runtimes(pattern, precision)[0], make_pattern(pattern, CODEBOOKS, p=3))
        decoder.listen(random_codes(frames, seed=number, size=SIZE), Source(number).rows(0, frames))
        decoders.append(decoder)
    return decoders


def step(decoder: PatternDecoder, number: int, count: int) -> None:
    decoder.plan(10**6, Source(number), SAMPLINGS[number], max_steps=count)


def assert_equal(together: list[PatternDecoder], alone: list[PatternDecoder]) -> None:
    for one, other in zip(together, alone, strict=True):
        assert one.frontier == other.frontier
        span = (max(0, one.frontier - WINDOW), one.frontier)
        np.testing.assert_array_equal(one.read(*span), other.read(*span))
        np.testing.assert_array_equal(one._lane.logits, other._lane.logits)


def prefix(order: list[int]) -> st.SearchStrategy[tuple[int, ...]]:
    return st.integers(1, TAKES).map(lambda count: tuple(order[:count]))


Command = tuple[str, int, tuple[int, ...]]
takes = st.integers(0, TAKES - 1)
commands = st.one_of(
    st.tuples(st.just("step"), st.integers(1, 9), st.permutations(range(TAKES)).flatmap(prefix)),
    st.tuples(st.just("rollback"), st.integers(1, 12), takes.map(lambda take: (take,))),
    st.tuples(st.just("snapshot"), st.just(0), takes.map(lambda take: (take,))),
    st.tuples(st.just("restore"), st.just(0), takes.map(lambda take: (take,))),
)


def obey(
    decoders: list[PatternDecoder],
    command: Command,
    steps: Callable[[tuple[int, ...], int], None],
    kept: dict[int, object],
) -> None:
    what, count, who = command
    if what == "step":
        steps(who, count)
        return
    decoder = decoders[who[0]]
    if what == "rollback":
        decoder.rollback(max(HEARD[who[0]], decoder.frontier - count))
    elif what == "snapshot":
        kept[who[0]] = decoder.snapshot()
    elif who[0] in kept:
        decoder.restore(kept[who[0]])


@pytest.mark.parametrize(("pattern", "precision"), [("stack-delay", "int8"), ("delay", "int4"), ("delay", "fp32")])
@settings(max_examples=8, deadline=None)
@given(st.lists(commands, min_size=1, max_size=12))
def test_together_equals_alone(pattern: str, precision: str, script: list[Command]) -> None:
    """Joined and left at any step, rolled back and restored on the way."""
    together, alone = heard(pattern, precision), heard(pattern, precision)
    stepper = runtimes(pattern, precision)[1].stepper()

    def jointly(who: tuple[int, ...], count: int) -> None:
        parts = [
            Part(generator=together[n], until_frame=10**6, source=Source(n), sampling=SAMPLINGS[n]) for n in who
        ]
        assert plan_together(stepper, parts, count) == [count] * len(who)

    def severally(who: tuple[int, ...], count: int) -> None:
        for number in who:
            step(alone[number], number, count)

    kept: tuple[dict[int, object], dict[int, object]] = ({}, {})
    for command in [*script, ("step", 2, tuple(range(TAKES)))]:
        obey(together, command, jointly, kept[0])
        obey(alone, command, severally, kept[1])
    assert_equal(together, alone)


def test_the_lead_is_not_waited_for() -> None:
    """Riders stop where the lead is done, and need fewer steps where they are."""
    together, alone = heard("delay", "int8"), heard("delay", "int8")
    stepper = runtimes("delay", "int8")[1].stepper()
    wanted = [HEARD[0] + 6, HEARD[1] + 2, HEARD[2] + 20]
    parts = [
        Part(generator=decoder, until_frame=wanted[n], source=Source(n), sampling=SAMPLINGS[n])
        for n, decoder in enumerate(together)
    ]
    ran = plan_together(stepper, parts, 50)
    assert together[0].frontier == wanted[0] and together[1].frontier == wanted[1]
    assert ran[2] == ran[0] > ran[1] and together[2].frontier < wanted[2]
    for number, count in enumerate(ran):
        step(alone[number], number, count)
    assert_equal(together, alone)


class Broken(Source):
    def rows(self, first_frame: int, count: int) -> np.ndarray:
        raise RuntimeError("no conditions")


class Poisoned(Source):
    def rows(self, first_frame: int, count: int) -> np.ndarray:
        return super().rows(first_frame, count) * np.float32(np.nan)


@pytest.mark.parametrize("bad", [Broken(), Poisoned()])
def test_a_riders_failure_is_its_own(bad: Source) -> None:
    together, alone = heard("delay", "int8"), heard("delay", "int8")
    stepper = runtimes("delay", "int8")[1].stepper()
    sources = [Source(0), bad, Source(2)]
    parts = [
        Part(generator=decoder, until_frame=10**6, source=sources[n], sampling=SAMPLINGS[n])
        for n, decoder in enumerate(together)
    ]
    assert plan_together(stepper, parts, 5) == [5, 0, 5]
    with pytest.raises((RuntimeError, FloatingPointError)):
        plan_together(stepper, [parts[1], parts[0]], 5)
    step(alone[0], 0, 6 if isinstance(bad, Poisoned) else 5)  # a lead's bad logits take nothing from a rider
    step(alone[2], 2, 5)
    assert_equal([together[0], together[2]], [alone[0], alone[2]])


def test_memory_of_takes_that_left_is_let_go() -> None:
    decoders = heard("delay", "int8")
    stepper = runtimes("delay", "int8")[1].stepper()

    def run(who: list[int]) -> None:
        for n in who:
            decoders[n].open_step(Source(n), SAMPLINGS[n], {})
        stepper.run([decoders[n]._lane for n in who])

    run([0, 1, 2])
    run([2, 0])
    held = decoders[1]._lane.cache.live.copy()
    run([0, 2])
    np.testing.assert_array_equal(decoders[1]._lane.cache.live, held)
    assert [place for place in stepper._places if place is not None] == [decoders[0]._lane, decoders[2]._lane]
    stepper.forget()
    assert stepper._places == [None] * TAKES


def test_weights_are_read_from_the_graph_of_one(tmp_path: Path) -> None:
    save_decoder(tmp_path / "decoder.onnx", weights(), options("int8"))
    graph = share_weights(build_decoder_batch(weights(), options("int8"), TAKES), tmp_path / "decoder.onnx")
    (tmp_path / "batch.onnx").write_bytes(graph.SerializeToString())
    assert len((tmp_path / "batch.onnx").read_bytes()) < 0.25 * len((tmp_path / "decoder.onnx").read_bytes())
    single, whole = runtimes("delay", "int8")
    outputs = []
    for batch in (whole, BatchRuntime(str(tmp_path / "batch.onnx"), single)):
        decoders = heard("delay", "int8")
        parts = [
            Part(generator=d, until_frame=10**6, source=Source(n), sampling=SAMPLINGS[n])
            for n, d in enumerate(decoders)
        ]
        plan_together(batch.stepper(), parts, 6)
        outputs.append([d._lane.logits for d in decoders])
    np.testing.assert_array_equal(outputs[0], outputs[1])
    with pytest.raises(ValueError, match="does not hold the weight"):
        share_weights(build_decoder_batch(weights(1), options("int8"), TAKES), tmp_path / "decoder.onnx")


def test_a_graph_that_does_not_fit_is_refused() -> None:
    single, _ = runtimes("delay", "int8")
    with pytest.raises(ManifestError, match="not readable"):
        BatchRuntime(b"nonsense", single)
    with pytest.raises(ManifestError, match="does not fit"):
        BatchRuntime(build_decoder(weights(), options("int8")).SerializeToString(), single)
    wider = build_decoder_batch(weights(), replace(options("int8"), window_frames=25), TAKES).SerializeToString()
    with pytest.raises(ManifestError, match="does not fit"):
        BatchRuntime(wider, single)
    with pytest.raises(ValueError, match=r"2\.\.32"):
        build_decoder_batch(weights(), options("int8"), 1)


@cache
def prompted() -> tuple[PromptedRuntime, BatchRuntime, list[Prompt]]:
    shape = Shape(name="small", layers=2, dim=128, hidden=256, codebook_size=SIZE, musicgen=True)
    drawn, made = random_weights(shape), MusicgenExport(window_frames=WINDOW, precision="int8")
    single = PromptedRuntime(
        build_step(drawn, musicgen_shape(shape), made).SerializeToString(), manifest_of(shape, "int8", 32, WINDOW)
    )
    graph = build_step_batch(drawn, musicgen_shape(shape), made, TAKES).SerializeToString()
    prompts = []
    for seed in range(2):
        random = np.random.default_rng(seed)
        values = {
            name: random.standard_normal([size or 5 for size in sizes]).astype(np.float32)
            for name, sizes in single.shape.prompt_outputs().items()
        }
        prompts.append(Prompt.of(values, np.ones(5, np.float32)))
    return single, BatchRuntime(graph, single), prompts


def rolling(prompt: Prompt) -> RollingDecoder:
    single = prompted()[0]
    pattern = make_pattern("delay", CODEBOOKS)
    return RollingDecoder(
        lambda: MusicgenDecoder(single, pattern, PromptBox(prompt)), horizon=18, keep=6, num_codebooks=CODEBOOKS
    )


class Nothing:
    def rows(self, first_frame: int, count: int) -> np.ndarray:
        return np.zeros((count, 0), np.float32)


@pytest.mark.parametrize("count", [2, 3])
def test_prompted_takes_share_across_segments(count: int) -> None:
    """Each told something else, one in the middle of a fade; windows begin anew at other times for each. Odd
    numbers too, where a row is left over."""
    _, batch, prompts = prompted()
    together, alone = ([rolling(prompts[n % 2]) for n in range(count)] for _ in range(2))
    parts = [
        Part(generator=take, until_frame=60, source=Nothing(), sampling=replace(SAMPLINGS[n], guidance=3.0))
        for n, take in enumerate(together)
    ]
    for n, take in enumerate(together):
        take.plan(3 * n, Nothing(), parts[n].sampling)
        alone[n].plan(3 * n, Nothing(), parts[n].sampling)
    for takes in (together, alone):
        takes[-1].tell(prompts[0], fade_steps=9)
    assert plan_together(batch.stepper(), parts, 99)[0] > 60
    for n, take in enumerate(alone):
        take.plan(together[n].frontier, Nothing(), parts[n].sampling)
        span = (take.frontier - 18, take.frontier)
        np.testing.assert_array_equal(take.read(*span), together[n].read(*span))
        for base, segment in take._segments.items():
            np.testing.assert_array_equal(segment._lane.logits, together[n]._segments[base]._lane.logits)


def test_melody_models_have_no_graph_of_several() -> None:
    shape = replace(musicgen_shape(Shape(name="small", layers=1, dim=128, hidden=256, musicgen=True)), cross=False)
    with pytest.raises(ValueError, match="melody"):
        build_step_batch({}, shape, MusicgenExport(window_frames=WINDOW), TAKES)


@pytest.mark.parametrize("musicgen", [False, True])
@pytest.mark.parametrize(("precision", "kv_bits"), [("int8", 8), ("fp16", 32), ("int4", 8)])
def test_every_precision_keeps_its_bits(musicgen: bool, precision: str, kv_bits: int, tmp_path: Path) -> None:
    """One to four takes, one and five rows, over a cache of noise; weights read from the graph of one."""
    shape = Shape(name="small", layers=1, dim=128, hidden=256, codebook_size=SIZE, musicgen=musicgen)
    drawn = random_weights(shape)
    scales = {f"{part}_0": np.full(128, 0.05, np.float32) for part in ("key", "value")} if kv_bits == 8 else None
    made = {"window_frames": WINDOW, "precision": precision, "kv_bits": kv_bits}
    written = write_shape(
        shape, tmp_path, weights=drawn, kv_scales=scales, window=WINDOW, precision=precision, kv_bits=kv_bits
    )
    if musicgen:
        graph = build_step_batch(drawn, musicgen_shape(shape), MusicgenExport(**made), 4, scales)
    else:
        graph = build_decoder_batch(drawn, DecoderExport(heads=shape.heads, **made), 4, scales)
    single = written.load()
    batch = BatchRuntime(str(tmp_path / save_batch(graph, written.path)), single)
    for rows in (1,) if musicgen else (1, 5):
        assert measure_pace(single, batch, rows=rows).equal
