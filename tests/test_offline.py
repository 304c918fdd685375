"""Continuing a recording, and the stream on a real decoder and codec: the tiny bundle of random weights."""

from __future__ import annotations

import tracemalloc
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_fakes import Host, IndexModel, request

from attacca.engine.bundle import Model, load_bundle
from attacca.engine.events import ChunkEvent
from attacca.engine.fake import FakeConfig, FakeModel
from attacca.engine.generator import Sampling
from attacca.engine.offline import SteadyController, continue_offline

TINY = Path(__file__).parent / "data" / "tiny"


@cache
def tiny() -> Model:
    return load_bundle(TINY)


def noise(samples: int, channels: int = 1) -> np.ndarray:
    rng = np.random.default_rng(4)
    return (0.1 * rng.standard_normal((samples, channels))).astype(np.float32)


@pytest.mark.parametrize("rate", [32000, 44100, 48000])
def test_the_continuation_follows_the_last_sample(rate: int) -> None:
    told: list[float] = []
    result = continue_offline(
        IndexModel(), np.zeros((rate * 2 + 17, 2), np.float32), rate, seconds=3.0, progress=told.append
    )
    assert result.pcm.shape == (3 * rate, 2)
    assert np.array_equal(result.pcm[:, 0], result.pcm[:, 1])
    wanted = (np.arange(3 * rate) + 2 * rate + 17) * (32000 / rate)
    assert np.abs(result.pcm[:, 0] - wanted).max() < 0.5
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert result.measures.late_chunks == 0


def test_only_the_last_of_a_long_recording_is_heard() -> None:
    result = continue_offline(IndexModel(), np.zeros(32000 * 20, np.float32), 32000, seconds=0.5, context_s=4.0)
    assert result.pcm[0, 0] == 4 * 32000
    assert result.pcm.shape == (16000, 1)


def test_nothing_can_be_continued_too() -> None:
    assert continue_offline(IndexModel(), np.zeros(0, np.float32), 48000, seconds=0.25).pcm.shape == (12000, 1)


def test_a_model_that_fails_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="made to fail"):
        continue_offline(IndexModel(fail_at=60), np.zeros(32000, np.float32), 32000, seconds=1.0)


@pytest.mark.parametrize(
    ("changes", "word"), [({"seconds": 0.0}, "seconds"), ({"audio": np.zeros((1, 1, 1))}, "shape")]
)
def test_bad_arguments_are_named(changes: dict[str, Any], word: str) -> None:
    given_arguments = {"audio": np.zeros(100, np.float32), "seconds": 1.0} | changes
    with pytest.raises(ValueError, match=word):
        continue_offline(IndexModel(), given_arguments.pop("audio"), 48000, **given_arguments)


def test_steady_controller_counts_bars() -> None:
    controls = SteadyController(sample_rate=48000, bpm=90.0, meter_num=7, meter_den=8).controls(
        np.array([0.0, 32000.0, 112000.0, 112001.0])
    )
    assert controls.ppq == pytest.approx([0.0, 1.0, 3.5, 3.5 + 90 / 60 / 48000])
    assert controls.bar_start_ppq == pytest.approx([0.0, 0.0, 3.5, 3.5])
    assert controls.beat_known.all()
    assert not SteadyController(sample_rate=48000).controls(np.zeros(3)).beat_known.any()
    with pytest.raises(ValueError, match="bpm"):
        SteadyController(sample_rate=48000, bpm=5.0)
    with pytest.raises(ValueError, match="meter_den"):
        SteadyController(sample_rate=48000, meter_den=0)


# --- the tiny bundle ----------------------------------------------------------------------------------------------


def offline(seed: int) -> Any:
    controller = SteadyController(sample_rate=44100, bpm=111.0)
    return continue_offline(
        tiny(), noise(44100), 44100, seconds=1.5, sampling=Sampling(seed=seed), controller=controller
    )


def test_same_seed_same_bits() -> None:
    one, same, other = offline(1), offline(1), offline(2)
    assert np.array_equal(one.codes, same.codes)
    assert np.array_equal(one.pcm, same.pcm)
    assert not np.array_equal(one.codes, other.codes)
    assert np.isfinite(one.pcm).all()
    assert np.abs(one.pcm).max() > 0


def recording(host: Host) -> None:
    pcm = noise(host.rate)[:, 0]
    host.play(host.rate, lambda positions: pcm[positions])
    host.engine.start(
        1, request(host.rate + 5000, position=host.rate, sampling=Sampling(seed=3), end_position=2 * host.rate)
    )
    host.drain()


def tokens(host: Host) -> dict[int, bytes]:
    return {chunk.first_frame + i: row.tobytes() for chunk in host.chunks() for i, row in enumerate(chunk.codes)}


@cache
def undisturbed(rate: int) -> tuple[int, bytes, dict[int, bytes]]:
    host = Host(rate, model=tiny())
    recording(host)
    host.play(rate)
    position, pcm = host.heard()
    assert len(pcm) == rate - 5000
    return position, pcm.tobytes(), tokens(host)


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 20000), st.booleans(), st.integers(0, 9000))
def test_replanning_keeps_what_it_should_to_the_bit(wait: int, epoch: bool, offset: int) -> None:
    runs = []
    for _ in range(2):
        host = Host(48000, model=tiny(), block=960)
        recording(host)
        host.play(wait)
        where = host.head + offset
        kept = host.chunks()
        host.engine.replan(1, where if epoch else None, 2 if epoch else None)
        host.play(2 * 48000 - host.head)
        sound = np.full(2 * 48000, np.nan, np.float32)
        for chunk in kept + [chunk for chunk in host.chunks() if chunk.epoch == 2 or chunk not in kept]:
            sound[chunk.position : chunk.position + chunk.samples] = chunk.pcm[:, 0]
        runs.append(sound[53000:])
    until = where if epoch else max((chunk.position + chunk.samples for chunk in kept), default=0)
    before = np.frombuffer(undisturbed(48000)[1], np.float32)[: max(0, until - 53000 - 3000)]
    assert runs[0].tobytes() == runs[1].tobytes()
    assert np.isfinite(runs[0]).all()
    assert np.array_equal(runs[0][: len(before)], before)  # but for what the codec holds back of changed frames


def test_two_takes_at_once_are_each_as_if_alone() -> None:
    host = Host(48000, model=tiny())
    recording(host)
    host.engine.start(1, request(53000, position=48000, take=2, sampling=Sampling(seed=9), end_position=90000))
    host.play(48000)
    first = [event for event in host.events if isinstance(event, ChunkEvent) and event.take == 1]
    assert first
    assert host.heard(1)[1].tobytes() == undisturbed(48000)[1]
    assert len(host.heard(2)[1]) == 37000


def test_a_take_of_the_tiny_bundle_is_restored_to_the_bit() -> None:
    host = Host(44100, model=tiny())
    recording(host)
    host.play(9000)
    take = host.engine._sessions[1].takes[1]
    state = take.snapshot()
    runs = []
    for _ in range(2):
        take.restore(state)
        chunks: list[ChunkEvent] = []
        for head in range(host.head, host.head + 20000, 441):
            while take.has_work(head):
                chunks += [event for event in take.work(head) if isinstance(event, ChunkEvent)]
        runs.append([(c.seq, c.position, c.pcm.tobytes(), c.codes.tobytes(), c.committed) for c in chunks])
    assert runs[0] == runs[1]
    assert len(runs[0]) > 4


@pytest.mark.parametrize(("rate", "delay"), [(32000, 0), (44100, 1280), (96000, 700)])
def test_the_fake_backend_is_placed_exactly(rate: int, delay: int) -> None:
    host = Host(rate, model=FakeModel(manifest=FakeConfig(delay_samples=delay)))
    host.play(rate)
    host.engine.start(1, request(rate + 4321, position=rate, end_position=rate * 2))
    host.play(rate)
    position, pcm = host.heard()
    assert (position, position + len(pcm)) == (rate + 4321, rate * 2)
    assert np.abs(pcm - host.model_index(position, len(pcm))).max() < (0.5 if rate != 32000 else 1e-9)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_minutes_of_a_real_decoder_stay_flat() -> None:
    host = Host(48000, model=tiny(), block=4800)
    host.play(48000)
    host.engine.start(1, request(60000, position=48000, sampling=Sampling(seed=1)))
    kept = []
    for minute in range(10):
        if minute in (1, 8):
            tracemalloc.start()
        host.play(60 * 48000)
        host.events.clear()
        if minute in (1, 8):
            kept.append(tracemalloc.get_traced_memory()[0])
            tracemalloc.stop()
    assert kept[1] < 1.2 * kept[0] + 500_000
    take = host.engine._sessions[1].takes[1]
    assert take.meters.late_chunks == 0
    assert take.meters.generated_frames == pytest.approx(600 * 50, abs=40)
