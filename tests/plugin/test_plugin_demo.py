"""The plugin demo's figures on made-up recordings: each notices what it is there for."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from attacca.bridge import protocol
from attacca.bridge.demo import score_of

pytest.importorskip("matplotlib")

from benchmarks.plugin_demo import measure
from benchmarks.plugin_hosts import HostError, Performance, Song
from benchmarks.plugin_listener import HeardChunk, Listener

pytestmark = pytest.mark.plugin

RATE, BLOCK, CHUNK = 8000, 100, 800
SCORE = score_of(Fraction(120), (4, 4), 1)
START, OFF, END = 64000, 80000, 96000


def perform(*, late_samples: int = 0, spoilt: slice = slice(0), lost: int | None = None) -> dict[str, object]:
    """Figures of a take that was heard `late_samples` too late, with zeros at `spoilt`, and a chunk never sent."""
    rng = np.random.default_rng(0)
    track, wet = rng.uniform(0.1, 1, (2, END, 2)).astype(np.float32)
    track[START:OFF] = 0.0
    output = track.copy()
    output[START + late_samples : OFF] = wet[START + late_samples : OFF]
    output[spoilt] = 0.0
    listener = Listener("tcp://127.0.0.1:9")
    for seq, at in enumerate(range(START - CHUNK, OFF, CHUNK)):
        chunk = protocol.Chunk(
            session=1, epoch=1, take=1, seq=seq, position=at, ppq=0.0, samples=CHUNK, channels=2,
            first_frame=0, frames=1, committed=True,
        )  # fmt: skip
        if seq != lost:
            heard_s = (at - 2 * CHUNK) / RATE
            listener.chunks.append(HeardChunk(at_s=heard_s, chunk=chunk, samples=wet[at : at + CHUNK]))
    song = Song(
        track=track, rate=RATE, block=BLOCK, bpm=Fraction(120), meter=(4, 4), note=24, seed=1, seed_normalised=0.0,
        note_on_ppq=SCORE.note_on_ppq, note_off_ppq=SCORE.note_off_ppq,
    )  # fmt: skip
    return measure(Performance(output=output, began_s=0.0, report={}), listener, song, SCORE).figures


def test_a_perfect_take_has_no_error() -> None:
    figures = perform()
    assert (figures["start_error_samples"], figures["underruns"]) == (0, {"callbacks": 0, "samples": 0})
    assert figures["lookahead_ms"] == {"p50": 250.0, "p5": 200.0, "min": 200.0}


@pytest.mark.parametrize("late_samples", [1, 37])
def test_a_late_start_is_noticed(late_samples: int) -> None:
    assert perform(late_samples=late_samples)["start_error_samples"] == late_samples


def test_samples_that_were_not_as_sent_are_counted() -> None:
    assert perform(spoilt=slice(70050, 70150))["underruns"] == {"callbacks": 2, "samples": 100}
    assert perform(lost=5)["underruns"] == {"callbacks": CHUNK // BLOCK, "samples": CHUNK}


def test_a_dry_signal_that_was_changed_counts_as_a_start_too_early() -> None:
    assert perform(spoilt=slice(1000, 1001))["start_error_samples"] == 1000 - START


def test_silence_is_an_error() -> None:
    with pytest.raises(HostError, match="no take was heard"):
        perform(late_samples=OFF - START)
