"""The step loop on the tiny bundle: equal to the bit however it was cut, rolled back, copied or compacted."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from decoder_fixtures import SAMPLING, Source, listening, random_codes, tiny_decoder, tiny_runtime
from hypothesis import given, settings
from hypothesis import strategies as st

from attacca.engine import runtime as runtime_module
from attacca.engine.cache import CacheConfig
from attacca.engine.decoder import PatternDecoder
from attacca.engine.generator import Sampling
from attacca.engine.noise import NoiseTable, gumbel_noise
from attacca.engine.pattern import make_pattern

CONTEXT, END = 90, 200  # past the window of 48 and two compactions


RUNTIME = tiny_runtime()


def planned_at_once() -> np.ndarray:
    decoder = listening(RUNTIME, CONTEXT)
    decoder.plan(END, Source(), SAMPLING)
    return decoder.read(CONTEXT, END)


WHOLE = planned_at_once()  # the reference


def test_seed_decides() -> None:
    again, other = listening(RUNTIME, CONTEXT), listening(RUNTIME, CONTEXT)
    again.plan(END, Source(), SAMPLING)
    other.plan(END, Source(), Sampling(seed=6, guidance=2.0))
    np.testing.assert_array_equal(again.read(CONTEXT, END), WHOLE)
    assert np.mean(other.read(CONTEXT, END) != WHOLE) > 0.5


@pytest.mark.parametrize("change", [{"temperature": 0.0}, {"top_k": 1}, {"guidance": 0.0}, {"temperature": 3.0}])
def test_sampling_matters(change: dict[str, float]) -> None:
    decoder = listening(RUNTIME, CONTEXT)
    decoder.plan(END, Source(), Sampling(**{"seed": 5, "guidance": 2.0, **change}))
    assert np.mean(decoder.read(CONTEXT, END) != WHOLE) > 0.1


def test_greedy_and_top_1_are_one() -> None:
    greedy, first = listening(RUNTIME, 20), listening(RUNTIME, 20)
    greedy.plan(60, Source(), Sampling(temperature=0.0, guidance=1.5))
    first.plan(60, Source(), Sampling(temperature=2.0, top_k=1, guidance=1.5, seed=9))
    np.testing.assert_array_equal(greedy.read(20, 60), first.read(20, 60))


def test_conditions_and_context_matter() -> None:
    commanded, heard = listening(RUNTIME, CONTEXT), tiny_decoder(RUNTIME)
    commanded.plan(END, Source(salt=1), SAMPLING)
    heard.listen(random_codes(CONTEXT, seed=2), Source().rows(0, CONTEXT))
    heard.plan(END, Source(), SAMPLING)
    for decoder in (commanded, heard):
        assert np.mean(decoder.read(CONTEXT, END) != WHOLE) > 0.15


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=8),
    st.lists(st.integers(1, 9), min_size=1, max_size=8),
)
def test_pieces_equal_the_whole(pieces: list[int], steps: list[int]) -> None:
    decoder, codes, conditions = tiny_decoder(RUNTIME), random_codes(CONTEXT), Source().rows(0, CONTEXT)
    for size in [*pieces, CONTEXT]:
        start = decoder.frontier
        decoder.listen(codes[start : start + size], conditions[start : start + size])
    i = 0
    while decoder.frontier < END:
        ran = decoder.plan(END, Source(), SAMPLING, max_steps=steps[i % len(steps)])
        assert 1 <= ran <= steps[i % len(steps)]
        i += 1
    np.testing.assert_array_equal(decoder.read(CONTEXT, END), WHOLE)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(CONTEXT, END), min_size=1, max_size=4), st.integers(0, 7))
def test_rollback_equals_never_having_planned(goals: list[int], extra_steps: int) -> None:
    decoder = listening(RUNTIME, CONTEXT)
    for goal in goals:
        decoder.plan(goal, Source(salt=3), SAMPLING)
        decoder.plan(END, Source(salt=3), SAMPLING, max_steps=extra_steps)
        decoder.rollback(CONTEXT)
        assert decoder.frontier == CONTEXT
    decoder.plan(END, Source(), SAMPLING)
    np.testing.assert_array_equal(decoder.read(CONTEXT, END), WHOLE)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 60), st.integers(0, 60), st.integers(0, 60))
def test_rollback_into_a_plan_equals_never_having_gone_on(kept: int, beyond: int, other: int) -> None:
    first, second = listening(RUNTIME, 30), listening(RUNTIME, 30)
    first.plan(30 + kept, Source(), SAMPLING)
    second.plan(30 + kept, Source(), SAMPLING)
    first.plan(30 + kept + beyond, Source(), SAMPLING)
    second.plan(30 + kept + other, Source(salt=1), SAMPLING)
    for decoder in (first, second):
        decoder.rollback(30 + kept)
        decoder.plan(150, Source(), SAMPLING)
    np.testing.assert_array_equal(first.read(0, 150), second.read(0, 150))


def test_rollback_behind_the_context_equals_less_context() -> None:
    decoder, short = listening(RUNTIME, CONTEXT), listening(RUNTIME, 70)
    decoder.plan(120, Source(), SAMPLING)
    decoder.rollback(70)
    decoder.plan(140, Source(), SAMPLING)
    short.plan(140, Source(), SAMPLING)
    np.testing.assert_array_equal(decoder.read(0, 140), short.read(0, 140))


def test_rollback_to_the_start() -> None:
    decoder, fresh = listening(RUNTIME, 0), listening(RUNTIME, 0)
    decoder.plan(30, Source(), SAMPLING)
    decoder.rollback(0)
    for each in (decoder, fresh):
        each.plan(60, Source(), SAMPLING)
    np.testing.assert_array_equal(decoder.read(0, 60), fresh.read(0, 60))


def test_listening_drops_what_was_not_finished() -> None:
    decoder, plain = listening(RUNTIME, 40), listening(RUNTIME, 40)
    decoder.plan(41, Source(), SAMPLING, max_steps=3)
    assert decoder.frontier == 40
    for each in (decoder, plain):
        each.listen(random_codes(20, seed=4), Source().rows(40, 20))
        each.plan(90, Source(), SAMPLING)
    np.testing.assert_array_equal(decoder.read(0, 90), plain.read(0, 90))


def test_forced_frames_are_as_if_heard() -> None:
    forced, heard = listening(RUNTIME, 40), listening(RUNTIME, 40)
    codes = random_codes(25, seed=4)
    forced.force(codes, Source(salt=2))
    heard.listen(codes, Source(salt=2).rows(40, 25))
    for each in (forced, heard):
        each.plan(100, Source(), SAMPLING)
    np.testing.assert_array_equal(forced.read(0, 100), heard.read(0, 100))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 120), st.integers(0, 40))
def test_snapshot_continues_to_the_bit(steps: int, more: int) -> None:
    decoder = listening(RUNTIME, CONTEXT)
    decoder.plan(END, Source(), SAMPLING, max_steps=steps)
    state = decoder.snapshot()
    decoder.plan(END, Source(salt=1), SAMPLING, max_steps=more)
    other = tiny_decoder(RUNTIME)
    for each in (decoder, other):
        each.restore(state)
        each.plan(END, Source(), SAMPLING)
        np.testing.assert_array_equal(each.read(CONTEXT, END), WHOLE)


def test_forks_do_not_disturb_each_other() -> None:
    listener = listening(RUNTIME, CONTEXT)
    first, second = listener.fork(), listener.fork()
    first.plan(150, Source(), SAMPLING)
    listener.listen(random_codes(40, seed=8), Source().rows(CONTEXT, 40))
    second.plan(170, Source(salt=1), SAMPLING)
    first.plan(END, Source(), SAMPLING)
    np.testing.assert_array_equal(first.read(CONTEXT, END), WHOLE)
    assert listener.frontier == CONTEXT + 40


def test_reset_forgets_everything() -> None:
    decoder = listening(RUNTIME, 130)
    decoder.plan(170, Source(salt=1), SAMPLING)
    decoder.reset()
    assert decoder.frontier == 0
    decoder.listen(random_codes(CONTEXT), Source().rows(0, CONTEXT))
    decoder.plan(END, Source(), SAMPLING)
    np.testing.assert_array_equal(decoder.read(CONTEXT, END), WHOLE)


def test_compaction_is_invisible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_module, "CacheConfig", partial(CacheConfig, block=512))
    endless = listening(RUNTIME, CONTEXT)
    endless.plan(END, Source(), SAMPLING)
    assert endless._cache.place(endless._cache.count) == endless._cache.count  # never compacted
    np.testing.assert_array_equal(endless.read(CONTEXT, END), WHOLE)


@pytest.mark.parametrize(
    ("name", "p"), [("stack-delay", 1), ("stack-delay", 4), ("stack", 1), ("delay", 1), ("flat", 1)]
)
def test_every_pattern_rolls_back(name: str, p: int) -> None:
    pattern = make_pattern(name, 4, p=p)
    decoders = [PatternDecoder(RUNTIME, pattern) for _ in range(2)]
    for decoder in decoders:
        decoder.listen(random_codes(20), Source().rows(0, 20))
    assert decoders[0].plan(60, Source(), SAMPLING) == pattern.num_steps(40)
    decoders[0].rollback(20)
    for decoder in decoders:
        decoder.plan(70, Source(), SAMPLING)
    np.testing.assert_array_equal(decoders[0].read(0, 70), decoders[1].read(0, 70))


def test_a_timestep_keeps_the_conditions_it_entered_with() -> None:
    decoder, source = listening(RUNTIME, 20), Source()
    decoder.plan(40, source, SAMPLING)
    source.asked.clear()
    decoder.plan(60, source, SAMPLING)
    assert min(source.asked) >= 40
    source.asked.clear()
    decoder.rollback(45)
    assert not source.asked


def test_endless_take_is_bounded() -> None:
    decoder = listening(RUNTIME, 20)
    decoder.plan(700, Source(), SAMPLING)
    held = decoder._cache.nbytes
    decoder.plan(1500, Source(), SAMPLING)
    assert decoder._cache.nbytes == held
    with pytest.raises(ValueError, match="outside the kept"):
        decoder.read(0, 10)
    with pytest.raises(ValueError, match="further back than the kept window"):
        decoder.rollback(100)
    decoder.rollback(1500 - 100)
    assert decoder.frontier == 1400


@pytest.mark.parametrize(
    "codes",
    [np.zeros((3, 5), np.uint16), np.zeros(4, np.uint16), np.full((3, 4), 16, np.uint16)],
)
def test_bad_codes_are_refused_and_change_nothing(codes: np.ndarray) -> None:
    decoder = listening(RUNTIME, 10)
    with pytest.raises(ValueError, match="codes"):
        decoder.listen(codes, Source().rows(10, 3))
    with pytest.raises(ValueError, match="conditions have shape"):
        decoder.listen(random_codes(3), Source().rows(10, 2))
    assert decoder.frontier == 10


def test_bad_frames_are_refused() -> None:
    decoder = listening(RUNTIME, 10)
    for frame in (-1, 11):
        with pytest.raises(ValueError, match=f"rollback to frame {frame}"):
            decoder.rollback(frame)
    for start, stop in ((0, 11), (5, 4), (-1, 3)):
        with pytest.raises(ValueError, match="outside the kept"):
            decoder.read(start, stop)
    with pytest.raises(TypeError, match="allowed: a PatternDecoder's snapshot"):
        decoder.restore({"known": 3})
    assert decoder.plan(5, Source(), SAMPLING) == 0
    assert decoder.plan(50, Source(), SAMPLING, max_steps=0) == 0


def test_noise_depends_on_seed_timestep_and_codebook_alone() -> None:
    table = NoiseTable(4, 64)
    forward = [table.row(7, t, k).copy() for t in range(100) for k in range(4)]
    other = NoiseTable(4, 64)
    backward = [other.row(7, t, k).copy() for t in reversed(range(100)) for k in reversed(range(4))]
    np.testing.assert_array_equal(forward, backward[::-1])
    assert len(np.unique(np.stack(forward)[:, 0])) == 400
    np.testing.assert_array_equal(gumbel_noise(7, 3, (2, 64)), gumbel_noise(7, 3, (4, 64))[:2])
    assert not np.array_equal(table.row(8, 0, 0), forward[0])


def test_noise_is_standard_gumbel() -> None:
    noise = np.concatenate([gumbel_noise(1, t, (4, 1024)).reshape(-1) for t in range(50)]).astype(np.float64)
    assert np.isfinite(noise).all()
    assert abs(noise.mean() - 0.5772) < 0.01
    assert abs(noise.std() - np.pi / 6**0.5) < 0.01
    assert abs(np.mean(noise < 0.0) - np.exp(-1.0)) < 0.005


def test_logits_that_are_not_numbers_end_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = listening(RUNTIME, CONTEXT)
    lane = decoder._lane
    run = lane.run

    def poisoned(*arguments: object, **named: object) -> None:
        run(*arguments, **named)  # type: ignore[arg-type]
        lane.logits[0, 0] = np.nan

    monkeypatch.setattr(lane, "run", poisoned)
    with pytest.raises(FloatingPointError, match="not finite"):
        decoder.plan(END, Source(), SAMPLING)
