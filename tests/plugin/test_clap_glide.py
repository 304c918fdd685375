"""The built CLAP in a paced host whose tempo glides under a sounding take: nothing falls silent, nothing clicks.

The engine's samples are their own stream positions: every sample heard lies in its place, in real time too. How far
the beat is off meanwhile is measured without a plugin, in tests/test_glide.py: the engine is the same.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clap_host import Script, clap_file, host_of
from conftest import Native
from fault_run import STATES, TICK, watch
from fault_scene import Engine, at
from paced import paced
from stream_places import FADE_S, Heard, spans

pytestmark = [pytest.mark.plugin, pytest.mark.timeout(300)]

RATE, BLOCK = 48000, 512
QUICK = (at(1.5), 140, at(1.5))  # from, to, within
SLOW = (at(3.5), 125, at(7.1))  # four bars
LEAST_SHARE = 0.95
KINDS = ("allocations", "frees", "locks", "try_locks", "signals", "system_calls")


@paced
def test_a_paced_take_sounds_through_its_ramps(native: Native, tmp_path: Path) -> None:
    with Engine() as engine:
        host = host_of(native, tmp_path, ATTACCA_ENGINE=engine.address)
        script = Script(plugin=clap_file(native), rate=RATE, length=at(11.5), blocks=(BLOCK,)).play(-1)
        script.at(0, "flush", "mix", 1).at(0, "flush", "lookahead_ms", 400)
        script.at(0, "wait", "connection", 1, 10).note(RATE // 4)
        for start, bpm, length in (QUICK, SLOW):
            script.at(start, "ramp", bpm, length)
        run = watch(host, script, {})
    found = spans(run.played)
    heard = np.zeros(len(run.audio), bool)
    for span in found:
        heard[span.start : span.stop] = span.heard is Heard.PLACED
        assert span.heard is not Heard.FADE or span.stop - span.start <= FADE_S * RATE, f"out of place: {span}"
    assert RATE / 2 <= int(np.argmax(heard)) < QUICK[0], (
        "it enters on its bar line, or soon after on a busy machine"
    )
    for start, _, length in (QUICK, SLOW):
        assert heard[start : start + length].mean() >= LEAST_SHARE
    assert heard[SLOW[0] + SLOW[2] + RATE // 2 :].all()
    assert {kind: run.played.counts[kind] for kind in KINDS} == dict.fromkeys(KINDS, 0)
    playing = run.meter("state") == STATES.index("playing")
    along = (run.positions > QUICK[0] + TICK) & (run.positions < QUICK[0] + QUICK[2])
    assert playing[along].mean() >= LEAST_SHARE
