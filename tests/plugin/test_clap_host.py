"""The CLAP host itself, proven by a plugin whose behaviour is known (plugin_stub/tests/clap_host_probe.cpp)."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clap_host import ClapHost, Script, bar_lines, host_of, nearest
from conftest import Native
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.plugin

COUNTED = ("allocations", "frees", "locks", "try_locks", "signals", "system_calls")
NONE, MALLOC, LOCK, TRY_LOCK, SYSTEM_CALL, NOISE = range(6)  # the probe's sins
GETPPID = 110


@pytest.fixture(scope="module")
def probe(native: Native) -> Path:
    return native.program("clap_probe.clap")


@pytest.fixture(scope="module")
def host(native: Native, tmp_path_factory: pytest.TempPathFactory) -> ClapHost:
    return host_of(native, tmp_path_factory.mktemp("probe"))


def clicks(audio: np.ndarray) -> list[int]:
    return np.flatnonzero(audio[:, 1]).tolist()


def test_a_pass_through_is_exact_and_counts_nothing(host: ClapHost, probe: Path) -> None:
    for blocks in ((1,), (1, 3, 64, 127), "random 7 1 700"):
        played = host.run(Script(plugin=probe, length=9000, blocks=blocks).set("input", "ramp"))
        assert np.array_equal(played.audio[:, 0], np.arange(9000, dtype=np.float32) * np.float32(2.0**-24))
        assert {name: played.counts[name] for name in COUNTED} == dict.fromkeys(COUNTED, 0)
        assert played.counts["allocations_counted"]
        assert played.blocks[:, 1].sum() == 9000
        assert (
            played.report["not_finite"] == played.report["spills"] == played.report["out_events"]["misplaced"] == 0
        )


@pytest.mark.parametrize(
    ("sin", "counted"),
    [
        (MALLOC, {"allocations": 10, "frees": 10}),
        (LOCK, {"locks": 10}),
        (TRY_LOCK, {"try_locks": 10}),
        (SYSTEM_CALL, {"system_calls": 10}),
    ],
)
def test_every_sin_is_counted_where_it_happens(
    host: ClapHost, probe: Path, sin: int, counted: dict[str, int]
) -> None:
    script = Script(plugin=probe, length=3000, blocks=(100,)).at(1000, "param", "sin", sin)
    counts = host.run(script.at(2000, "param", "sin", NONE)).counts
    if sin == SYSTEM_CALL and not counts["system_calls_counted"]:
        pytest.skip(counts["system_calls_missing"])
    assert {name: counts[name] for name in COUNTED} == dict.fromkeys(COUNTED, 0) | counted
    assert counts["first_at"] == 1000
    assert counts["numbers"] == ([GETPPID] * 10 if sin == SYSTEM_CALL else [])


def test_noise_and_writing_beyond_the_block_are_seen(host: ClapHost, probe: Path) -> None:
    report = host.run(Script(plugin=probe, length=300, blocks=(100,)).at(100, "param", "sin", NOISE)).report
    assert (report["not_finite"], report["spills"]) == (2, 2)


@given(
    bpm=st.integers(30_000, 300_000).map(lambda milli: Fraction(milli, 1000)),
    meter=st.sampled_from([(4, 4), (3, 4), (5, 4), (6, 8), (7, 8), (15, 16)]),
    ppq=st.fractions(-8, 3000, max_denominator=10_000),
    rate=st.sampled_from([22050, 44100, 48000, 96000]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_told_bar_lines_are_the_exact_ones(
    host: ClapHost, probe: Path, bpm: Fraction, meter: tuple[int, int], ppq: Fraction, rate: int, seed: int
) -> None:
    """Half a sample of error is what rounding makes; the rest is CLAP's fixed point (2**-31 of a quarter)."""
    length = 3 * rate
    script = Script(plugin=probe, rate=rate, length=length, blocks=f"random {seed} 1 3000")
    heard = clicks(host.run(script.play(ppq, bpm=bpm, meter=meter)).audio)
    exact = bar_lines(length, rate, ppq, bpm, meter)
    assert len(heard) == len([at for at in exact if nearest(at) < length])
    assert all(abs(at - line) < Fraction(501, 1000) for at, line in zip(heard, exact, strict=False))


def test_tempo_meter_seek_and_loop_change_at_their_sample(host: ClapHost, probe: Path) -> None:
    script = Script(plugin=probe, length=300_000, blocks=(512,)).play(0)
    script.at(30_001, "tempo", 90).at(120_000, "meter", 3, 4).at(200_003, "seek", "31/8")
    script.at(250_000, "loop", 6, 7)
    heard = clicks(host.run(script).audio)
    second = bar_lines(90_000, 48000, Fraction(30_001, 24_000), Fraction(90), (4, 4))
    at_meter = Fraction(30_001, 24_000) + Fraction(89_999, 32_000)
    third = bar_lines(80_003, 48000, at_meter, Fraction(90), (3, 4), Fraction(4))
    # The seek goes back before the change of meter: bars are still counted from its bar line.
    fourth = bar_lines(49_997, 48000, Fraction(31, 8), Fraction(90), (3, 4), Fraction(4))
    expected = [0, *(30_001 + nearest(at) for at in second), *(120_000 + nearest(at) for at in third)]
    expected += [200_003 + nearest(at) for at in fourth]
    assert heard[: len(expected)] == expected
    ppq = Fraction(31, 8) + Fraction(300_000 - 200_003, 32_000)
    assert ppq < 7 and len(heard) == len(expected)


def test_a_loop_wraps_inside_buffers_and_keeps_its_phase(host: ClapHost, probe: Path) -> None:
    bpm, start, end = Fraction("97.3"), Fraction(4), Fraction(11, 2)
    script = Script(plugin=probe, length=400_000, blocks=(512,)).play(4, bpm=bpm).at(0, "loop", start, end)
    heard = clicks(host.run(script).audio)
    period = (end - start) * 60 * 48000 / bpm
    # The wrap comes with the first sample at or past the loop's end. Where the sample before is nearer to the line,
    # it still belongs to the pass before, and the probe looks no further.
    wraps = [-(-period * k // 1) for k in range(400_000 // period + 1)]
    assert heard == [at for k, at in enumerate(wraps) if at == nearest(period * k)]
    assert 3 < len(heard) < len(wraps)


@pytest.mark.parametrize("changes", ["split", "events"])
def test_changes_inside_a_buffer_by_cuts_and_by_events(host: ClapHost, probe: Path, changes: str) -> None:
    script = Script(plugin=probe, length=96_000, blocks=(4096,)).play(0).set("tell", "changes", changes)
    played = host.run(script.at(20_000, "seek", "31/8"))
    assert clicks(played.audio) == [0, 23_000]
    assert (4096 in played.blocks[:, 1]) and (len(played.blocks) == (25 if changes == "split" else 24))


def test_a_host_that_tells_late_is_late(host: ClapHost, probe: Path) -> None:
    """The seek happens at 20000, and is told at the next buffer, 20480."""
    script = Script(plugin=probe, length=96_000, blocks=(4096,)).play(0).set("tell", "changes", "late")
    played = host.run(script.at(20_000, "seek", "1999/500"))  # a bar line 48 samples later: inside the buffer
    assert clicks(played.audio) == [0]
    assert played.blocks[5, 2] == pytest.approx(3.998 + 480 / 24000)


def test_ramps_integrate_exactly(host: ClapHost, probe: Path) -> None:
    """60 to 180 BPM in 4 s are 8 quarters; block starts lie on the parabola."""
    script = Script(plugin=probe, length=250_000, blocks=(480,)).play(0, bpm=60).at(0, "ramp", 180, 192_000)
    blocks = host.run(script).blocks
    for position, _, ppq, _ in blocks:
        t = min(Fraction(int(position), 48_000), Fraction(4))
        after = Fraction(int(position), 48_000) - t
        assert ppq == pytest.approx(float(t + t * t / 4 + 3 * after), abs=1e-9)


@pytest.mark.parametrize(
    ("telling", "expected"),
    [
        (("bar_offset", "1/2"), [12_000, 108_000]),
        (("bar", "off"), [0, 96_000]),  # from bar start 0 on, which is right in 4/4
        (("transport", "off"), []),
    ],
)
def test_bad_hosts_tell_what_they_are_told_to(
    host: ClapHost, probe: Path, telling: tuple[str, str], expected: list[int]
) -> None:
    script = Script(plugin=probe, length=150_000, blocks=(500,)).play(0).set("tell", *telling)
    heard = clicks(host.run(script).audio)
    assert heard[: len(expected)] == expected
    assert bool(heard) == bool(expected)


def test_ticks_are_rounded_down(host: ClapHost, probe: Path) -> None:
    """At 480 ticks a quarter holds 24000 samples and a tick 50: bar lines come late by less than one."""
    script = Script(plugin=probe, length=200_000, blocks=(127,)).play("1/7").set("tell", "ticks", 480)
    heard = clicks(host.run(script).audio)
    exact = bar_lines(200_000, 48000, Fraction(1, 7), Fraction(120), (4, 4))
    late = [at - line for at, line in zip(heard, exact, strict=False)]
    assert heard
    assert all(-1 < error < 51 for error in late)
    assert any(error > 1 for error in late)


def test_events_arrive_at_their_sample_in_every_block(host: ClapHost, probe: Path) -> None:
    for blocks in ((1,), (64,), "random 3 1 500"):
        script = Script(plugin=probe, length=2000, blocks=blocks).at(63, "note_on", 0, 64, 0.5)
        script.at(64, "midi", bytes([0x90, 32, 100])).at(127, "note_on", 3, 16, 1.0).at(
            127, "midi", b"\x90\x10\x40"
        )
        script.at(1500, "note_off", 0, 64, 0.0).at(1501, "choke", 0, 64)
        played = host.run(script)
        heard = {int(at): played.audio[at, 0] * 128 for at in np.flatnonzero(played.audio[:, 0])}
        assert heard == {63: 64, 64: 32, 127: 32}
        assert played.value("heard") == 6


def test_parameters_take_effect_at_their_sample(host: ClapHost, probe: Path) -> None:
    script = Script(plugin=probe, length=1000, blocks=(333,)).set("input", "ramp")
    script.at(0, "flush", "gain", 2).at(500, "param", "gain", 0).at(777, "param", "0", 0.5).at(
        600, "mark", "middle"
    )
    played = host.run(script)
    gain = np.repeat(np.array([2.0, 0.0, 0.5], np.float32), [500, 277, 223])
    assert np.array_equal(played.audio[:, 0], np.arange(1000, dtype=np.float32) * np.float32(2.0**-24) * gain)
    assert played.value("gain", "middle") == 0
    assert played.value("gain") == 0.5


def test_state_rates_resets_and_render_modes(host: ClapHost, probe: Path) -> None:
    file = host.folder / "state"
    script = Script(plugin=probe, length=240_000, blocks=(512,)).play(0).at(1000, "param", "gain", 0.25)
    script.at(2000, "save", file).at(2000, "param", "gain", 2).at(3000, "load", file).at(3000, "mark", "loaded")
    script.at(48_000, "deactivate").at(48_000, "activate", 96_000).at(48_000, "offline").at(48_000, "reset")
    script.at(48_100, "mark", "after").at(50_000, "realtime")
    played = host.run(script)
    assert (played.value("gain", "loaded"), played.value("heard", "after"), played.value("render", "after")) == (
        0.25, 0.0, 1.0,
    )  # fmt: skip
    assert played.value("render") == 0
    assert clicks(played.audio) == [
        0,
        48_000 + 96_000,
    ]  # the second bar line after 2 s, of which 1 s at the new rate
    assert played.report["latency"] == [0, 0]
    assert file.stat().st_size == 8


def test_noise_input_is_the_same_twice_and_in_place_changes_nothing(host: ClapHost, probe: Path) -> None:
    def heard(seed: int, in_place: str) -> np.ndarray:
        script = Script(plugin=probe, length=5000, blocks=(100,)).set("input", "noise", seed)
        return host.run(script.set("in_place", in_place)).audio[:, 0]

    assert np.array_equal(heard(1, "off"), heard(1, "on"))
    assert not np.array_equal(heard(1, "off"), heard(2, "off"))
    assert 0.25 < heard(1, "off").std() < 0.33


def test_raw_input_is_played_to_its_end(host: ClapHost, probe: Path) -> None:
    samples = np.linspace(-1, 1, 700, dtype=np.float32)
    file = host.folder / "input.raw"
    np.stack([samples, -samples], axis=1).astype("<f4").tofile(file)
    audio = host.run(Script(plugin=probe, length=1000, blocks=(64,)).set("input", "raw", file)).audio
    assert np.array_equal(audio[:700, 0], samples)
    assert not audio[700:, 0].any()


def test_pacing_takes_its_time(host: ClapHost, probe: Path) -> None:
    """0.3 s of audio at three times real time take at least 0.1 s less the last buffer."""
    script = Script(plugin=probe, length=14_400, blocks=(480,)).set("pace", 3)
    assert host.run(script).report["seconds"] >= 0.096


@pytest.mark.parametrize(
    "line", ["@5 nothing", "blocks 0", "@x play", "@0 seek 1/0", "rate many", '@0 mark "x', "no 1"]
)
def test_bad_scripts_are_refused_by_line(host: ClapHost, probe: Path, line: str) -> None:
    script = Script(plugin=probe, length=10)
    script.lines.append(line)
    with pytest.raises(AssertionError, match="line 5"):
        host.run(script)
