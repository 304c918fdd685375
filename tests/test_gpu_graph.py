"""Graphs for GPUs on the CPU: in fp32 they draw the tokens that the engine's own graph draws, in every dialect."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from decoder_fixtures import SAMPLING, TINY, Source, random_codes, tiny_runtime  # noqa: E402
from gpu_fixtures import (  # noqa: E402
    MUSICGEN_PATTERN,
    musicgen_cpu,
    musicgen_device,
    musicgen_graph,
    musicgen_spec,
    musicgen_weights,
    random_prompt,
    tiny_device,
    tiny_graph,
    tiny_manifest,
    tiny_spec,
    tiny_weights,
)

from attacca.engine.decoder import PatternDecoder  # noqa: E402
from attacca.engine.device import HostDriver  # noqa: E402
from attacca.engine.device_decoder import DeviceDecoder  # noqa: E402
from attacca.engine.device_prompted import DeviceMusicgenDecoder  # noqa: E402
from attacca.engine.device_step import DeviceStep  # noqa: E402
from attacca.engine.generator import Sampling  # noqa: E402
from attacca.engine.musicgen import MusicgenDecoder, PromptBox  # noqa: E402
from attacca.engine.ort_device import OrtMaker  # noqa: E402
from attacca.engine.pattern import make_pattern  # noqa: E402
from attacca.engine.ring_slots import RingSlots  # noqa: E402
from attacca.export.bundle_weights import read_musicgen, read_weights  # noqa: E402
from attacca.export.gpu_ops import ATTENTIONS, DIALECTS, GpuExport  # noqa: E402

pytestmark = pytest.mark.train
STACKED = make_pattern("stack-delay", 4)
FLAVOURS = [(dialect, attention) for dialect in DIALECTS for attention in ATTENTIONS]


def played(decoder: PatternDecoder, frames: int, sampling: Sampling) -> list[np.ndarray]:
    """What a decoder plans after some context, after a rollback, in pieces, and in a fork."""
    source = Source()
    decoder.listen(random_codes(20), source.rows(0, 20))
    decoder.plan(frames, source, sampling)
    first = max(20, frames - 200)
    whole = decoder.read(first, frames)
    decoder.rollback(frames - 30)
    decoder.plan(frames, source, sampling, max_steps=7)
    decoder.plan(frames, source, sampling)
    fork = decoder.fork()
    fork.plan(frames + 10, source, sampling)
    return [whole, decoder.read(first, frames), fork.read(frames - 30, frames + 10)]


@pytest.mark.parametrize(
    ("name", "p"), [("stack-delay", 3), ("stack", 1), ("delay", 1), ("flat", 1), ("parallel", 1)]
)
def test_a_pattern_draws_the_tokens_of_the_cpu_with_feedback_on_the_device(name: str, p: int) -> None:
    pattern = make_pattern(name, 4, p=p)
    exact = played(PatternDecoder(tiny_runtime(tiny_manifest(pattern)), pattern), 52, SAMPLING)
    for made in (
        played(kind(tiny_device(pattern), pattern), 52, SAMPLING) for kind in (PatternDecoder, DeviceDecoder)
    ):
        for wanted, found in zip(exact, made, strict=True):
            np.testing.assert_array_equal(wanted, found)


def test_a_take_that_goes_round_the_ring_twice_draws_the_same_tokens() -> None:
    frames = 2 * tiny_spec(STACKED).ring.period + 30
    exact = played(PatternDecoder(tiny_runtime(tiny_manifest(STACKED)), STACKED), frames, SAMPLING)
    for wanted, found in zip(
        exact, played(DeviceDecoder(tiny_device(STACKED), STACKED), frames, SAMPLING), strict=True
    ):
        np.testing.assert_array_equal(wanted, found)


@pytest.mark.parametrize(("dialect", "attention"), FLAVOURS[1:])
@pytest.mark.parametrize("top_k", [0, 3])
def test_every_dialect_draws_the_same(dialect: str, attention: str, top_k: int) -> None:
    sampling = Sampling(seed=2, temperature=0.9, top_k=top_k, guidance=1.7)
    exact = played(PatternDecoder(tiny_runtime(tiny_manifest(STACKED)), STACKED), 60, sampling)
    runtime = tiny_device(STACKED, dialect=dialect, attention=attention)
    for wanted, found in zip(exact, played(DeviceDecoder(runtime, STACKED), 60, sampling), strict=True):
        np.testing.assert_array_equal(wanted, found)


def forced(runtime: object, pattern: object, codes: np.ndarray) -> np.ndarray:
    """Logits [T, K, V] of codes forced into a lane, row by row."""
    from attacca.export.calibrate import forced_logits

    vectors = np.concatenate([np.zeros((1, Source().rows(0, 1).shape[1]), np.float32), Source().rows(0, 60)])
    found = forced_logits(runtime, pattern, codes, vectors, prefix=10, guidance=1.7)
    return np.stack([found[cell] for cell in sorted(found)])


class FullLogits:
    """A runtime whose lanes hand out all logits."""

    def __init__(self, runtime: object) -> None:
        self.shape, self._runtime = runtime.shape, runtime

    def lane(self) -> object:
        lane = self._runtime.lane()
        lane.full_logits = True
        return lane


@pytest.mark.parametrize(("dialect", "attention"), FLAVOURS)
def test_halves_stay_near(dialect: str, attention: str) -> None:
    codes = random_codes(40, 3)
    exact = forced(tiny_runtime(tiny_manifest(STACKED)), STACKED, codes)
    for precision, bound in (("fp32", 1e-5), ("fp16", 3e-3)):
        made = forced(
            FullLogits(tiny_device(STACKED, precision, dialect=dialect, attention=attention)), STACKED, codes
        )
        apart = float(np.sqrt(np.mean((made - exact) ** 2) / np.mean(exact**2)))
        assert apart < bound
    assert apart > 1e-5  # halves are not the floats again


def musicgen_played(decoder: MusicgenDecoder) -> np.ndarray:
    source, nothing = Nothing(), np.zeros((20, 0), np.float32)
    sampling = Sampling(seed=4, temperature=1.0, top_k=12, guidance=3.0)
    decoder.listen(random_codes(20, 5, 24), nothing)
    decoder.plan(60, source, sampling)
    decoder.tell(random_prompt(6, 9), 8)
    decoder.plan(110, source, sampling)
    decoder.rollback(75)
    decoder.plan(110, source, sampling)
    return decoder.read(20, 110)


class Nothing:
    def rows(self, first_frame: int, count: int) -> np.ndarray:
        return np.zeros((count, 0), np.float32)


@pytest.mark.parametrize(("dialect", "attention"), FLAVOURS)
def test_musicgen_draws_the_same_under_prompts_that_fade(dialect: str, attention: str) -> None:
    box = PromptBox(random_prompt(5, 8))
    wanted = musicgen_played(MusicgenDecoder(musicgen_cpu(), MUSICGEN_PATTERN, box))
    runtime = musicgen_device(dialect=dialect, attention=attention)
    found = musicgen_played(DeviceMusicgenDecoder(runtime, MUSICGEN_PATTERN, box))
    np.testing.assert_array_equal(wanted, found)
    halves = musicgen_device("fp16", dialect=dialect, attention=attention)
    near = musicgen_played(DeviceMusicgenDecoder(halves, MUSICGEN_PATTERN, box))
    assert near.shape == wanted.shape


def test_weights_of_a_bundles_graph_are_what_it_was_built_from() -> None:
    read = read_weights(onnx.load(TINY / "decoder.onnx"), num_codebooks=4)
    for name, weight in tiny_weights().items():
        np.testing.assert_array_equal(read[name], weight)


def test_weights_of_a_musicgen_graph_are_what_it_was_built_from() -> None:
    from gpu_fixtures import MUSICGEN_SHAPE

    from attacca.export.musicgen import MusicgenExport, build_step

    graph = build_step(musicgen_weights(), MUSICGEN_SHAPE, MusicgenExport(window_frames=48))
    read, shape = read_musicgen(graph, layers=2, heads=2, num_codebooks=4)
    assert shape == MUSICGEN_SHAPE
    assert len(read) > 30
    for name, weight in read.items():
        np.testing.assert_array_equal(weight, musicgen_weights()[name])


@pytest.mark.parametrize("standard", [True, False])
def test_shapes_are_fixed_and_nothing_needs_the_host(standard: bool) -> None:
    options = {"dialect": "standard", "attention": "operator"} if standard else {}
    for graph in (
        tiny_graph(tiny_spec(STACKED, "fp16"), 3, **options),
        musicgen_graph(musicgen_spec("fp16"), **options),
    ):
        model = onnx.load_from_string(graph)
        values = [*model.graph.input, *model.graph.output]
        assert all(size.dim_value > 0 for value in values for size in value.type.tensor_type.shape.dim)
        used = {node.op_type for node in model.graph.node}
        assert not used & {"If", "Loop", "Scan", "Shape", "Size", "NonZero", "RandomNormal", "RandomUniform"}
        domains = {node.domain for node in model.graph.node}
        assert domains == ({""} if standard else {"", "com.microsoft"})
        constants = {tensor.name for tensor in model.graph.initializer}
        for node in model.graph.node:  # inputs that onnxruntime's CUDA kernels want in the host's memory
            if node.op_type in {"TopK", "Reshape", "Split", "Expand", "ReduceSum"}:
                assert node.input[1] in constants
        if standard:
            onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 0}, "GpuExport.rows is 0"),
        ({"precision": "int8"}, "GpuExport.precision is 'int8', allowed: fp32, fp16"),
        ({"dialect": "other"}, "GpuExport.dialect is 'other'"),
        ({"rows": 9, "capacity": 8}, "GpuExport.capacity is 8"),
    ],
)
def test_sizes_that_make_no_graph_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GpuExport(**({"rows": 5, "capacity": 64} | change))


def rows_at(spec: object, take: int, slot: int) -> tuple[np.ndarray, RingSlots]:
    """Random rows of a take, and its ring with so many slots kept."""
    ring = RingSlots(spec.ring)
    for timestep in range(slot):
        ring.place(timestep)
        ring.keep([timestep])
    return np.random.default_rng([take, slot]).integers(0, 16, (spec.rows, 4)), ring


def test_takes_in_one_step_are_what_each_is_alone() -> None:
    spec, lengths = tiny_spec(STACKED), (0, 37, tiny_spec(STACKED).ring.period + 11)
    alone, together = (DeviceStep(OrtMaker(tiny_graph(spec, takes), HostDriver()), spec, takes) for takes in (1, 3))
    found = []
    for step, groups in ((alone, [[0], [1], [2]]), (together, [[0, 1, 2]])):
        for group in groups:
            for take in range(step.takes):
                step.memory.clear(take)
            for turn in range(6):  # each from its own length on, one slot kept a step
                for place, take in enumerate(group):
                    stack, ring = rows_at(spec, take, lengths[take] + turn)
                    inputs = step.at(place)
                    inputs["stack"][:] = stack
                    inputs["write_slots"][:] = ring.place(ring.count)
                    ring.mask(ring.count, inputs["mask"])
                    drawn = np.random.default_rng([take, turn, 1])
                    for name in ("cos", "sin", "cond", "noise"):
                        inputs[name][:] = drawn.standard_normal(inputs[name].shape)
                    inputs["level"][:] = np.arange(5)[::-1]
                    inputs["row_of_level"][:] = np.arange(4) + 1
                    inputs["temperature"][:], inputs["guidance"][:] = 0.5 + take, 1.0 + take
                    inputs["top_k"][:] = 3 + 5 * take
                step.submit()
                found.append((step.collect()[0].tokens.copy(), step.logits()))
    for take in range(3):
        for turn in range(6):
            tokens, logits = found[6 * take + turn]
            np.testing.assert_array_equal(found[18 + turn][0][take], tokens[0])
            np.testing.assert_allclose(found[18 + turn][1][take], logits[0], rtol=2e-5, atol=2e-5)
