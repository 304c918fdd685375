"""The built CLAP in a paced host while its engine is killed, started again, frozen, late or hostile.

Measured on the recorded output: it is finite, does not click, every sample is on its rung of the fallback ladder,
the meters say what is heard, and music is back within a bar of the engine's return.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clap_host import Script, clap_file, host_of
from clicks import (
    COMMITTED,
    NOTHING,
    REPEATED,
    SILENT,
    Span,
    clicks,
    hard_cuts,
    near_seams,
    repeats,
    rungs,
)
from conftest import Native
from fault_run import STATES, TICK, Watched, watch
from fault_scene import BAR, BLOCK, BPM, LAUNCH, RATE, START_PPQ, Engine, at, killed_and_frozen, lines_of, script_of
from faulty_wire import GREETING, READY, HostilePeer, framed
from lying_engine import LyingEngine
from paced import paced

pytestmark = [pytest.mark.plugin, pytest.mark.timeout(300)]

RECONNECT_S = 0.6  # the longest pause between two attempts, and a hello
TONE_STEP = 0.1 * 2 * np.pi * 220 / RATE
RNG = np.random.default_rng(7)
GARBAGE = [GREETING, READY, *[framed(RNG.bytes(64), RNG.bytes(500))] * 300, b"\x02" + (2**62).to_bytes(8, "big")]
GARBAGE += [bytes(1_000_000), RNG.bytes(100_000)]
KINDS = ("allocations", "frees", "locks", "try_locks", "signals", "system_calls")


@pytest.fixture(scope="module")
def clap(native: Native) -> Path:
    return clap_file(native)


def check_quiet(run: Watched) -> None:
    """process() called nothing that it must not, and wrote finite numbers into its block alone."""
    report = run.played.report
    assert {kind: run.played.counts[kind] for kind in KINDS} == dict.fromkeys(KINDS, 0)
    assert (report["not_finite"], report["spills"], report["errors"], report["wait_timeouts"]) == (0, 0, 0, 0)


def short_blocks(run: Watched, spans: Sequence[Span]) -> int:
    """Blocks in which a span lies at least in part."""
    starts, sizes = run.played.blocks[:, 0], run.played.blocks[:, 1]
    short = np.zeros(len(starts), bool)
    for span in spans:
        short |= (starts < span.stop) & (starts + sizes > span.start)
    return int(short.sum())


def back_after(spans: Sequence[Span], position: int) -> int:
    """First committed sample at or after a position, at which there was none."""
    return next(max(s.start, position) for s in spans if s.rung == COMMITTED and s.stop > position)


def check_places(run: Watched, spans: Sequence[Span]) -> None:
    """What is committed lies where it belongs, counted from what its session heard first: a block's start.

    Or whole bars later, where the engine skipped some.
    """
    for span in spans:
        if span.rung == COMMITTED:
            moved_by = span.stop - 1 - int(run.audio[span.stop - 1])
            bars = round(moved_by / BAR)
            assert moved_by % BLOCK == 0 or abs(moved_by - bars * BAR) <= 1, (span, moved_by)


def test_the_measures_notice_a_misplaced_repeat_and_a_misplaced_chunk() -> None:
    lines = [Fraction(1000 * bar) for bar in range(5)]
    index = np.arange(4000, dtype=np.float32)
    index[2500:3500] -= 1000
    assert [(s.rung, s.start) for s in rungs(index, lines, RATE)][2:] == [(REPEATED, 2500), (COMMITTED, 3500)]
    assert repeats(index, lines, RATE) == [(2500 - round(0.002 * RATE) + 1, 3500)]
    index[2500:3500] += 1
    assert REPEATED not in [span.rung for span in rungs(index, lines, RATE)]
    index[2600:2800] = 7
    with pytest.raises(AssertionError, match="on no rung"):
        rungs(index, lines, RATE)


@paced
def test_killed_restarted_and_frozen(native: Native, clap: Path, tmp_path: Path) -> None:
    """Every sample is on its rung: committed, the plan, the bar before it exactly; and the meters count them."""
    with Engine() as engine:
        run, returned = killed_and_frozen(host_of(native, tmp_path, ATTACCA_ENGINE=engine.address), clap, engine)
    check_quiet(run)
    spans = rungs(run.audio, lines_of(run), RATE)
    assert spans[0] == Span(rung=NOTHING, start=0, stop=int(LAUNCH))
    assert [span.rung for span in spans].count(REPEATED) == 2
    check_places(run, spans)
    for back, repeat in zip(returned, (s for s in spans if s.rung == REPEATED), strict=True):
        answering = run.connected_from(back)
        assert answering - back <= RECONNECT_S * RATE
        assert back_after(spans, repeat.stop) - answering <= BAR + TICK
    assert run.played.value("underruns") == short_blocks(run, [s for s in spans if s.rung == REPEATED])
    words = [word for _, word in run.states]
    assert words == ["idle", "armed", "playing", "bridging", "playing", "bridging", "playing"]
    assert run.meter("connection")[0] == run.meter("connection")[-1] == 1
    assert not run.meter("connection")[run.positions <= run.connected_from(returned[0])].all()


@paced
def test_killed_restarted_and_frozen_without_a_click(native: Native, clap: Path, tmp_path: Path) -> None:
    """The tone's own steps are known; a seam adds what a crossfade does, and is far from a hard cut."""
    with Engine("--tone") as engine:
        run, _ = killed_and_frozen(host_of(native, tmp_path, ATTACCA_ENGINE=engine.address), clap, engine)
    check_quiet(run)
    lines, launch = lines_of(run), int(LAUNCH)
    assert len(repeats(run.audio, lines, RATE)) == 2
    near = near_seams(run.audio, lines, RATE, run.changes)
    found = clicks(run.audio[launch:], near[launch:], RATE)
    assert found.clean_step == pytest.approx(TONE_STEP, rel=1e-3)
    assert found.seam_step <= found.allowed_step
    cut = clicks(hard_cuts(run.audio, lines, RATE)[launch:], near[launch:], RATE)
    assert cut.seam_step > 2 * found.allowed_step
    assert found.seam_flux < cut.seam_flux / 2


@paced
def test_late_in_the_first_bar_then_lost_doubled_and_disordered(native: Native, clap: Path, tmp_path: Path) -> None:
    """No whole bar can be repeated yet: the take fades out and joins in phase when its audio comes."""
    faults = {"drop": 0.2, "double": 0.2, "swap": 0.2, "seed": 5}
    with Engine("--relay") as engine:
        stalled, spoilt = at(0.7), at(2.8)
        counts: list[dict[str, int]] = []
        deeds = {
            stalled: lambda: engine.fault(stall_s=1.4),
            spoilt: lambda: engine.fault(**faults),
            at(5.4): lambda: counts.append(engine.fault()),
        }
        run = watch(host_of(native, tmp_path, ATTACCA_ENGINE=engine.address), script_of(clap, 5.8), deeds)
    check_quiet(run)
    spans = rungs(run.audio, lines_of(run), RATE)
    check_places(run, spans)
    faded = next(span for span in spans if span.rung == SILENT)
    assert stalled < faded.start < at(1.5) and faded.stop - (stalled + at(1.4)) < BAR
    holes = [span for span in spans if span.rung in (REPEATED, SILENT)]
    assert run.played.value("underruns") == short_blocks(run, holes)
    assert min(counts[0][name] for name in ("dropped", "doubled", "swapped")) > 0
    assert any(span.rung == REPEATED and span.start > spoilt for span in spans)
    assert [word for _, word in run.states][:6] == ["idle", "armed", "playing", "bridging", "late", "playing"]
    assert run.meter("connection").all()


def test_a_take_held_without_an_engine_is_late(native: Native, clap: Path, tmp_path: Path) -> None:
    script = Script(plugin=clap, rate=RATE, length=at(0.8), blocks=(BLOCK,)).play(START_PPQ, bpm=BPM)
    script.note(1000, 24_000).at(16_384, "mark", "held").at(32_768, "mark", "let go")
    played = host_of(native, tmp_path, ATTACCA_ENGINE="tcp://127.0.0.1:1").run(script)
    assert [STATES[round(played.value("state", mark))] for mark in ("held", "let go")] == ["late", "idle"]


@pytest.mark.parametrize("peer", ["garbage", "lies"])
def test_a_hostile_engine_only_lets_the_input_through(
    native: Native, clap: Path, tmp_path: Path, peer: str
) -> None:
    script = Script(plugin=clap, rate=RATE, length=at(2.0), blocks=(BLOCK,)).play(START_PPQ, bpm=BPM)
    script.set("input", "noise", 4).note(RATE // 4)
    alone = host_of(native, tmp_path, ATTACCA_ENGINE="tcp://127.0.0.1:1").run(script, "alone")
    assert alone.audio.any()
    with HostilePeer(GARBAGE, close=True) if peer == "garbage" else LyingEngine(RATE) as engine:
        run = watch(host_of(native, tmp_path, ATTACCA_ENGINE=engine.address), script, {})
        if isinstance(engine, LyingEngine):
            assert len(engine.told) >= 10 and min(engine.told.values()) > 0
        else:
            assert engine.accepted > 1
    check_quiet(run)
    assert np.array_equal(run.played.audio, alone.audio)


def test_an_engine_at_the_end_of_what_numbers_can_say(native: Native, clap: Path, tmp_path: Path) -> None:
    script = script_of(clap, 2.0).at(0, "flush", "gain", 12).set("input", "noise", 4)
    with LyingEngine(RATE, loud=True) as engine:
        run = watch(host_of(native, tmp_path, ATTACCA_ENGINE=engine.address), script, {})
        assert engine.told["loud"] > 0
    check_quiet(run)


@pytest.mark.slow
@pytest.mark.timeout(300)
@paced
def test_twenty_kills_leave_nothing_over(native: Native, clap: Path, tmp_path: Path) -> None:
    """The same threads and descriptors as before, and the take goes on after each."""
    folders: list[Path] = []
    seen: list[tuple[int, int]] = []

    def look() -> None:
        seen.append((len(os.listdir(folders[0] / "task")), len(os.listdir(folders[0] / "fd"))))

    pause = at(2.5)
    with Engine("--tone") as engine:
        deeds = {pause * (1 + turn): engine.restart for turn in range(20)}
        deeds |= {position - 4 * TICK: look for position in deeds} | {pause * 21: look}
        host = host_of(native, tmp_path, ATTACCA_ENGINE=engine.address)
        run = watch(host, script_of(clap, 21.2 * pause / RATE), deeds, looked=folders.append)
    check_quiet(run)
    assert len(seen) == 21
    assert len(set(seen)) == 1
    playing = run.meter("state") == STATES.index("playing")
    for turn in range(1, 22):
        assert playing[run.positions == turn * pause - 4 * TICK].all()


@pytest.mark.slow
@pytest.mark.timeout(300)
@paced
def test_the_default_model_killed_restarted_and_frozen(native: Native, clap: Path, tmp_path: Path) -> None:
    """Music: a seam is no more of an event than the music's own, and no larger a step than a crossfade makes it."""
    with Engine(served=True) as engine:
        host = host_of(native, tmp_path, ATTACCA_ENGINE=engine.address)
        run, returned = killed_and_frozen(host, clap, engine, seconds=12.0)
    check_quiet(run)
    lines, heard = lines_of(run), int(np.flatnonzero(run.audio)[0])
    assert repeats(run.audio, lines, RATE)
    near = near_seams(run.audio, lines, RATE, run.changes)
    found = clicks(run.audio[heard:], near[heard:], RATE)
    assert found.seam_step <= found.allowed_step
    assert found.seam_flux <= found.clean_flux
    playing = run.positions[run.meter("state") == STATES.index("playing")]
    for back in returned:
        # Two bars of this tempo: one at 116 BPM. A model needs some of it on a busy machine.
        assert playing[playing >= run.connected_from(back)][0] - run.connected_from(back) <= 2 * BAR
