"""Listening: what the host sends becomes context however it is cut; what is broken is repaired or begun anew."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_fakes import HOP, Host, IndexModel, exact, request

from attacca.engine.events import ListeningRestarted


def context(host: Host) -> np.ndarray:
    """What a take that forks now goes on from."""
    fork = host.engine._sessions[1].listener.fork()
    return fork.read(0, fork.frontier)


def steps_of(positions: np.ndarray) -> np.ndarray:
    return (positions // HOP % 1000) / 1000


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 5000), min_size=1, max_size=12), st.integers(0, 10**7))
def test_listening_does_not_depend_on_blocks(sizes: list[int], origin: int) -> None:
    host, reference = (Host(32000, origin=origin) for _ in range(2))
    for size in sizes:
        host.block = size
        host.play(size, lambda p: steps_of(p - origin))
    reference.block = sum(sizes)
    reference.play(sum(sizes), lambda p: steps_of(p - origin))
    assert np.array_equal(context(host), context(reference))
    assert list(context(host)[:, 2]) == list(range(sum(sizes) // HOP))


def test_holes_are_silence_and_overlaps_are_dropped() -> None:
    host = Host(32000)
    send = lambda a, b: host.engine.listen(1, a, steps_of(np.arange(a, b)).astype(np.float32))  # noqa: E731
    send(0, 6400)
    send(6000, 12800)  # 400 known already
    send(0, 3000)  # all of it
    send(19200, 25600)  # a hole of ten frames
    host.drain()
    marks = context(host)[:, 2].tolist()
    assert marks == [*range(20), *[0] * 10, *range(30, 40)]
    measures = host.engine.measures(1)
    assert measures is not None
    assert (measures.gap_samples, measures.overlap_samples, measures.bad_samples) == (6400, 3400, 0)


def test_what_is_not_a_number_is_silence() -> None:
    host = Host(32000, channels=2)
    pcm = np.full((6400, 2), 0.5, np.float32)
    pcm[640:1280, 0], pcm[1280, 1] = np.nan, np.inf
    host.engine.listen(1, 0, pcm)
    host.drain()
    assert context(host)[:3, 2].tolist() == [500, 250, 250]
    measures = host.engine.measures(1)
    assert measures is not None
    assert measures.bad_samples == 641


@pytest.mark.parametrize("jump", [200_000, -200_000, 2**61, -(2**61)])
def test_a_jump_restarts_listening_there(jump: int) -> None:
    host = Host(32000, origin=10**6)
    host.play(32000)
    host.head += jump
    fresh = host.play(16000)
    assert [type(event) for event in fresh] == [ListeningRestarted]
    host.origin = 10**6 + 32000 + jump
    host.engine.start(1, request(host.head + 1000, position=host.head, end_position=host.head + 9000))
    start = host.head + 1000
    host.play(12000)
    assert exact(host) == (start, start + 8000)
    assert host.engine._sessions[1].listener.counters.restarts == 1


def test_too_much_unheard_audio_restarts_listening_and_is_bounded() -> None:
    host = Host(32000)
    for i in range(100):
        host.engine.listen(1, i * 32000, np.zeros(32000, np.float32))
    assert host.engine._sessions[1].listener.pending_samples <= 320_000
    fresh = host.drain()
    assert any(isinstance(event, ListeningRestarted) for event in fresh)
    assert host.engine.work() == []


@pytest.mark.parametrize("shape", [(0,), (0, 2), (3, 0), (2, 2, 2)])
def test_audio_of_no_shape_is_ignored(shape: tuple[int, ...]) -> None:
    host = Host(32000)
    host.engine.listen(1, 0, np.zeros(shape, np.float32))
    assert host.drain() == []


def test_listening_goes_on_during_takes() -> None:
    host = Host(32000)
    host.play(32000, steps_of)
    host.engine.start(1, request(40000, position=32000))
    host.play(64000, steps_of)
    assert list(context(host)[:, 2]) == list(range(96000 // HOP))
    exact(host)


def test_frames_are_heard_in_groups_counted_from_the_first() -> None:
    host = Host(32000, block=640, listen_frames=8)
    prefilled: list[int] = []
    listener = host.engine._sessions[1].listener
    hear = listener.generator.listen
    listener.generator.listen = lambda codes, rows: (prefilled.append(len(codes)), hear(codes, rows))  # type: ignore
    host.play(640 * 43)
    assert prefilled == [8] * 5
    host.engine.start(1, request(host.head + 3000, position=host.head))
    host.drain()
    assert len(context(host)) == 43  # a take hears the rest as soon as it needs it
    host.play(640 * 21)
    assert prefilled == [8] * 5 + [16]  # and the groups stay where they were; beside a take two come at once


def test_a_group_waits_for_what_the_encoder_looks_ahead() -> None:
    """Else every block would cost an encoder that works in groups a call of its own."""
    host = Host(32000, block=640, listen_frames=8, model=IndexModel(look_ahead_samples=4 * HOP))
    encoder = host.engine._sessions[1].listener._encoder
    pushed: list[int] = []
    push = encoder.push
    encoder.push = lambda pcm: (pushed.append(len(pcm)), push(pcm))[1]  # type: ignore
    host.play(640 * (4 + 8 * 5))
    assert sum(pushed) == 640 * (4 + 8 * 5) and len(pushed) == 6  # the first block shows where listening begins
    assert len(context(host)) == 40


def test_groups_are_whole_however_much_is_heard_at_a_time() -> None:
    """Rows in eights are computed alike, one eight at a time or two (tests/test_speed.py)."""
    hosts = [Host(32000, block=block, listen_frames=8) for block in (100, 640 * 64)]
    calls: list[list[int]] = [[], []]
    for host, sizes in zip(hosts, calls, strict=True):
        generator = host.engine._sessions[1].listener.generator
        hear = generator.listen
        generator.listen = lambda codes, rows, hear=hear, sizes=sizes: (sizes.append(len(codes)), hear(codes, rows))  # type: ignore
        host.play(640 * 64)
    assert calls[0] == [8] * 8
    assert sum(calls[1]) == 64 and all(size % 8 == 0 for size in calls[1])
