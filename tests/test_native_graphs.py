"""Our own kernels compute what onnxruntime does, in every kind of graph and precision; alone and in company."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from native_fixtures import CODES, HEADS, KINDS, WINDOW, Case, make

from attacca.engine import native
from attacca.engine.decoder import PatternDecoder
from attacca.engine.generator import Sampling
from attacca.engine.musicgen import PromptedDecoder
from attacca.engine.native_lane import NativeBatch
from attacca.engine.pace import measure_pace
from attacca.engine.prompted import Prompt, PromptedShape
from attacca.engine.runtime import StepRuntime
from attacca.engine.sharing import Part, plan_together
from attacca.engine.trial import apart, forced

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(native.built() is None, reason="the kernels were not built: no C++ compiler"),
]
SAMPLING = Sampling(seed=5, temperature=1.0, guidance=2.0, top_k=8)
LONG = WINDOW + 64 + 30  # frames: more than the window and a block of slots
PRECISIONS = [(precision, kv_bits) for precision in ("fp32", "fp16", "int8", "int4") for kv_bits in (32, 8)]


@cache
def case(kind: str, precision: str = "fp32", kv_bits: int = 32, pattern: str = "") -> tuple[Case, StepRuntime]:
    made = make(kind, precision, kv_bits, pattern=pattern)
    return made, made.native()


def near(precision: str, kv_bits: int) -> float:
    """Floats differ by the order of sums; what lies at the edge between two codes may round to the other."""
    return 5e-6 if precision in ("fp32", "fp16") and kv_bits == 32 else 0.02


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("precision", "kv_bits"), PRECISIONS)
def test_logits_are_those_of_onnxruntime(kind: str, precision: str, kv_bits: int) -> None:
    made, ours = case(kind, precision, kv_bits)
    wanted, found = (forced(made.decoder(runtime), made.manifest).logits for runtime in (made.runtime, ours))
    assert 0.5 < np.sqrt(np.mean(wanted**2)) < 50.0
    assert apart(found, wanted) < near(precision, kv_bits)


@pytest.mark.parametrize("kernels", native.kernels()[1:] if native.built() else [])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("precision", "kv_bits"), [("fp32", 32), ("int8", 8), ("int4", 32)])
def test_all_kernels_compute_alike(kernels: str, kind: str, precision: str, kv_bits: int) -> None:
    made, fastest = case(kind, precision, kv_bits)
    other = made.native(kernels)
    assert other.kernels is not None and other.kernels.name == kernels
    wanted, found = (forced(made.decoder(runtime), made.manifest).logits for runtime in (fastest, other))
    assert apart(found, wanted) < near(precision, kv_bits)


@pytest.mark.parametrize("pattern", ["delay", "flat", "stack", "parallel"])
def test_every_pattern(pattern: str) -> None:
    made, ours = case("decoder", pattern=pattern)
    wanted, found = (forced(made.decoder(runtime), made.manifest).logits for runtime in (made.runtime, ours))
    assert apart(found, wanted) < near("fp32", 32)


def logits_of(decoder: PatternDecoder, frames: int, made: Case, codes: np.ndarray) -> np.ndarray:
    """Of each step to a frame, the codes forced."""
    found: list[np.ndarray] = []

    def force(at: np.ndarray, logits: np.ndarray) -> np.ndarray:
        found.append(np.where(at[:, None] >= 0, logits, 0.0))
        return codes[np.clip(at, 0, len(codes) - 1), np.arange(codes.shape[1])].astype(np.int64)

    decoder.choose = force
    decoder.plan(frames, made.source, SAMPLING)
    return np.stack(found)


@pytest.mark.parametrize("kind", KINDS)
def test_beyond_the_window_and_back(kind: str) -> None:
    made, ours = case(kind)
    codes, back = made.codes(LONG + 20), LONG - 25
    played = []
    for runtime in (made.runtime, ours):
        decoder, fresh = made.decoder(runtime), made.decoder(runtime)
        decoder.listen(codes[:30], made.source.rows(0, 30))
        first = logits_of(decoder, LONG, made, codes)
        decoder.rollback(back)
        again = logits_of(decoder, LONG, made, codes)
        fresh.listen(codes[:30], made.source.rows(0, 30))
        logits_of(fresh, back, made, codes)
        fresh.rollback(back)
        np.testing.assert_array_equal(again, logits_of(fresh, LONG, made, codes))
        played.append(np.concatenate([first, again]))
    assert apart(played[1], played[0]) < 5e-6


def prompt_of(made: Case, seed: int, tokens: int) -> Prompt:
    random, shape = np.random.default_rng(seed), made.runtime.shape
    assert isinstance(shape, PromptedShape)
    sizes = {name: [size or tokens for size in sizes] for name, sizes in shape.prompt_outputs().items()}
    noise = {name: random.standard_normal(size, np.float32) for name, size in sizes.items()}
    return shape.prompt_of(noise, np.ones(tokens, np.float32))


@pytest.mark.parametrize("kind", ["musicgen", "stacked", "melody"])
@pytest.mark.parametrize("fade_steps", [0, 6])
def test_prompts_that_change(kind: str, fade_steps: int) -> None:
    made, ours = case(kind)
    codes, played = made.codes(80), []
    prompts = [prompt_of(made, seed, tokens) for seed, tokens in ((1, 4), (2, 3), (3, 1))]
    for runtime in (made.runtime, ours):
        decoder = made.decoder(runtime)
        assert isinstance(decoder, PromptedDecoder)
        parts = [logits_of(decoder, 8, made, codes)]
        for number, prompt in enumerate(prompts, 1):
            decoder.tell(prompt, fade_steps)
            parts.append(logits_of(decoder, 8 + 9 * number, made, codes))
        decoder.rollback(12)
        parts.append(logits_of(decoder, 40, made, codes))
        played.append(np.concatenate(parts))
    assert apart(played[1], played[0]) < 5e-6


def fed(made: Case, runtime: StepRuntime, pieces: list[int]) -> Any:
    """A lane after random rows, in calls of so many; the last has tokens and logits."""
    lane, shape = made.decoder(runtime)._lane, runtime.shape
    total, books = sum(pieces), shape.num_codebooks
    random = np.random.default_rng(3)
    stack, level = random.integers(0, CODES, (total, books)), random.integers(0, books + 1, total)
    conditions = made.source.rows(0, total)
    lane.guidance[0], lane.noise[:], lane.top_k[0] = 3.0, random.gumbel(size=lane.noise.shape), 5
    start = 0
    for count in pieces:
        rows = slice(start, start + count)
        last = np.zeros(books, np.int64) if start + count == total else None
        timestep = np.arange(start, start + count)
        lane.run(stack[rows], level[rows], timestep, conditions[rows], slot=start, row_of_level=last)
        lane.cache.keep(timestep.tolist())
        start += count
    return lane


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("precision", "kv_bits"), PRECISIONS)
def test_a_row_alone_is_the_row_among_others(kind: str, precision: str, kv_bits: int) -> None:
    made, ours = case(kind, precision, kv_bits)
    pieces = [[1] * 24, [16, 7, 1], [5, 3, 14, 1, 1], [2, 2, 2, 2, 15, 1]]
    alone, *others = [fed(made, ours, part) for part in pieces]
    for lane in others:
        np.testing.assert_array_equal(lane.cache.live[:, :, :24], alone.cache.live[:, :, :24])
        np.testing.assert_array_equal(lane.logits, alone.logits)
        np.testing.assert_array_equal(lane.tokens, alone.tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_heard_in_pieces_is_what_is_heard_whole(kind: str) -> None:
    made, ours = case(kind, "int8", 8)
    codes = made.codes(70)
    whole, pieces = made.decoder(ours), made.decoder(ours)
    whole.listen(codes, made.source.rows(0, 70))
    for start in (0, 3, 20, 21, 50):
        stop = {0: 3, 3: 20, 20: 21, 21: 50, 50: 70}[start]
        pieces.listen(codes[start:stop], made.source.rows(start, stop - start))
    for decoder in (whole, pieces):
        decoder.plan(95, made.source, SAMPLING)
    np.testing.assert_array_equal(whole.read(70, 95), pieces.read(70, 95))
    used = whole._cache.count
    assert pieces._cache.count == used
    lives = [decoder._cache.live[:, :, : decoder._cache.place(used - 1) + 1] for decoder in (whole, pieces)]
    np.testing.assert_array_equal(lives[0], lives[1])


@pytest.mark.parametrize("kind", KINDS)
def test_takes_together_are_each_alone(kind: str) -> None:
    made, ours = case(kind, "int8", 8)

    def parts() -> list[Part]:
        found = []
        for number in range(3):
            decoder = made.decoder(ours)
            if isinstance(decoder, PromptedDecoder):
                decoder.tell(prompt_of(made, number, 2 + number))
            heard = 5 * number
            decoder.listen(made.codes(heard, seed=number), made.source.rows(0, heard))
            sampling = Sampling(seed=number, guidance=1.0 + number, top_k=3 + number)
            found.append(Part(generator=decoder, until_frame=60, source=made.source, sampling=sampling))
        return found

    alone, company = parts(), parts()
    for part in alone:
        part.generator.plan(part.until_frame, part.source, part.sampling)  # type: ignore[attr-defined]
    stepper = NativeBatch(ours).stepper()
    for lead in range(3):
        order = company[lead:] + company[:lead]
        plan_together(stepper, order, 400)
    for one, other in zip(alone, company, strict=True):
        np.testing.assert_array_equal(one.generator.read(20, 60), other.generator.read(20, 60))  # type: ignore[attr-defined]
    pace = measure_pace(ours, NativeBatch(ours), rows=made.pattern.num_codebooks + 1)
    assert pace.equal


def test_a_batch_takes_as_many_as_it_has_room_for() -> None:
    made, ours = case("decoder")
    stepper = NativeBatch(ours, 2).stepper()
    lanes = [fed(made, ours, [1]) for _ in range(3)]
    for count in (1, 3):
        with pytest.raises(ValueError, match=f"{count} lanes are outside 2..2"):
            stepper.run(lanes[:count])


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_cannot_be_are_refused(kind: str) -> None:
    made, ours = case(kind)
    lane = fed(made, ours, [3])
    before, tokens = lane.cache.live.copy(), lane.tokens.copy()
    books = ours.shape.num_codebooks
    for stack, level in ((CODES + 2, 0), (-1, 0), (0, books + 1), (0, -1)):
        if level and "level" not in lane.buffers:
            continue
        row = np.full((1, books), stack), np.full(1, level), np.zeros(1, np.int64), made.source.rows(0, 1)
        with pytest.raises(ValueError, match="refuse a step"):
            lane.run(*row, slot=3, row_of_level=np.zeros(books, np.int64))
    if "row_of_level" in lane.buffers and "level" in lane.buffers:
        row = np.zeros((1, books), np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64), made.source.rows(0, 1)
        for beyond in (1, -1):
            with pytest.raises(ValueError, match="refuse a step"):
                lane.run(*row, slot=3, row_of_level=np.full(books, beyond))
    np.testing.assert_array_equal(lane.cache.live, before)
    np.testing.assert_array_equal(lane.tokens, tokens)


def test_drawing_is_greedy_without_noise_and_keeps_to_the_likeliest() -> None:
    made, ours = case("decoder")
    for runtime in (made.runtime, ours):
        lane = fed(made, runtime, [4])
        scored = lane.logits + lane.noise
        kept = lane.logits >= np.sort(lane.logits, axis=1)[:, -5][:, None]
        np.testing.assert_array_equal(lane.tokens, np.where(kept, scored, -np.inf).argmax(axis=1))
    assert HEADS * ours.shape.head_dim == made.manifest.decoder.dim
