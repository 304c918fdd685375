"""The live path, timed as a musician meets it: an engine process, sockets, and a virtual host in real time.

Beside the path, for `attacca bench`. Every figure is read off what was recorded and when chunks came, by the demo's
own measures (bridge/demo_measure.py); each run is a session of its own, so cold means that nothing was heard.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from attacca.bridge.bench_neighbours import Neighbours
from attacca.bridge.bench_path import chord, no_decoder
from attacca.bridge.bench_rows import Figure, Row, Subject, summarise
from attacca.bridge.client import Client
from attacca.bridge.client_config import At, ClientConfig
from attacca.bridge.demo_measure import Trace, marks_of, measures_of
from attacca.bridge.engine_process import EngineProcess
from attacca.bridge.host_tracks import AudioTrack
from attacca.bridge.host_transport import HostConfig
from attacca.bridge.protocol import Param, Release, Status, Trigger
from attacca.bridge.virtual_host import BlockRecord, RealTime, VirtualHost

RATE_HZ, BLOCK = 48000, 256
_BPM = Fraction(120)
_BAR_S = 2.0  # at 120 BPM in 4/4
_IMMEDIATE = {"quantum_bars": None, "quantum_ppq": 0.0}
_STEP_SAMPLES = 137  # each run's trigger falls elsewhere in a block
_CONTROL_SPREAD_S, _CONTROL_STEP = 0.16, 0.618  # a chunk; each run's control falls elsewhere in it
_CONNECT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class LiveOptions:
    """How often and how long. `engine_arguments`: flags of `attacca serve` that name the model."""

    engine_arguments: Sequence[str]
    runs: int
    lead_s: float  # heard before a trigger
    play_s: float  # of a take
    long_s: float  # of the take whose underruns are counted
    busy: int  # neighbours beside a second long take; 0: none is played
    seed: int = 1


@dataclass(kw_only=True)
class Run:
    """One session with one take, and what was measured."""

    measures: dict[str, Any]
    sound_ms: float | None  # trigger to the first sample heard
    played_s: float


@dataclass(kw_only=True)
class Found:
    """All that the live part finds."""

    rows: list[Row] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def measure_live(options: LiveOptions, subject: Subject) -> Found:
    """Play all runs; as long as they last. EngineProcessError or EngineError if there is no engine to play with."""
    found = Found()
    began = time.monotonic()
    with EngineProcess(options.engine_arguments) as engine:
        ready_s = time.monotonic() - began
        found.figures.append(_figure("engine start", ready_s, "s", "process start to ready"))
        cold = [_play(engine, options, i, lead_s=0.0) for i in range(_fewer(options.runs))]
        now = [_play(engine, options, i, lead_s=options.lead_s) for i in range(options.runs)]
        bar = [_play(engine, options, i, lead_s=options.lead_s, quantised=True) for i in range(options.runs)]
        long = [_play(engine, options, 0, lead_s=options.lead_s, play_s=options.long_s)]
        memory = resident_bytes(engine.process.pid)
        busy: list[Run] = []
        if options.busy:
            with Neighbours(options.busy):
                busy = [_play(engine, options, 0, lead_s=options.lead_s, play_s=options.long_s)]
    _durations(found, subject, cold, now, bar)
    _counts(found, options, now, bar, long, busy)
    found.figures.append(_figure("memory", memory / 1e6 if memory else None, "MB", "engine process, resident"))
    return found


def _fewer(runs: int) -> int:
    return max(1, runs // 2)


def _play(
    engine: EngineProcess,
    options: LiveOptions,
    index: int,
    *,
    lead_s: float,
    play_s: float | None = None,
    quantised: bool = False,
) -> Run:
    """A session: `lead_s` of sound, a trigger, a take, a control changed about half-way, the release."""
    play_s = options.play_s if play_s is None else play_s
    at_s = lead_s if not quantised else _BAR_S * (lead_s // _BAR_S) + 0.4 * _BAR_S
    trigger_at = round(at_s * RATE_HZ) + (1 + index) * _STEP_SAMPLES
    starts_at = trigger_at if not quantised else round((at_s // _BAR_S + 1) * _BAR_S * RATE_HZ)
    until = starts_at + round(play_s * RATE_HZ)
    control = starts_at + round(control_s(play_s, index) * RATE_HZ)
    grid: dict[str, Any] = {} if quantised else _IMMEDIATE
    trigger = Trigger(take=0, position=0, seed=options.seed + index, **grid)
    trace = Trace(control_position=control)
    config = ClientConfig(sample_rate=RATE_HZ, channels=1, name="attacca bench")
    host = VirtualHost(
        HostConfig(sample_rate=RATE_HZ, block_samples=BLOCK, bpm=_BPM),
        audio=AudioTrack(chord(round(_BAR_S * RATE_HZ), RATE_HZ)[:, None], loop_samples=Fraction(2 * RATE_HZ)),
        clock=RealTime(),
    )
    script = [
        (trigger_at, At(offset=0, event=trigger)),
        (control, At(offset=0, event=Param(name="lead", value=2.0))),
        (until - BLOCK, At(offset=0, event=Release(take=0, position=0))),
    ]
    with Client(engine.address, config) as client:
        client.connect(_CONNECT_S)
        recording = host.run(client, until, script=script, on_block=lambda block: _note(client, trace, block))
        if not client.takes.records:
            return Run(measures={}, sound_ms=None, played_s=0.0)
        record = client.takes.records[0]
        launch = Fraction(record.launch.ppq) if record.launch is not None else Fraction(0)
        marks = marks_of(client, recording, record, launch / (_BPM / (60 * RATE_HZ)))
        measures = measures_of(client, recording, record, marks, trace, paced=True)
    sound_ms = None if marks.start is None else (marks.start - marks.trigger) * 1000.0 / RATE_HZ
    return Run(measures=measures, sound_ms=sound_ms, played_s=play_s)


def control_s(play_s: float, index: int) -> float:
    """When a run's control changes after its start: half-way, runs spread evenly over a chunk.

    Chunks lie where the take starts, so that one moment would measure one part of a chunk over and over.
    """
    return 0.5 * play_s + index * _CONTROL_STEP % 1.0 * _CONTROL_SPREAD_S


def _note(client: Client, trace: Trace, block: BlockRecord) -> None:
    end = block.position + block.samples
    if client.playback.sounding:
        trace.lookahead.append((end, client.ring.lookahead_samples()))
    while client.network.events:
        event = client.network.events.popleft()
        if isinstance(event, Status):
            trace.statuses.append((end, event))


def _durations(found: Found, subject: Subject, cold: list[Run], now: list[Run], bar: list[Run]) -> None:
    """Rows of what is a time: to the first audio, to sound, to a control's effect."""

    def of(runs: list[Run], key: str) -> list[float | None]:
        return [run.measures.get(key) for run in runs]

    measured: tuple[tuple[str, str, list[float | None]], ...] = (
        ("TTFA, cold", "trigger at once, nothing heard", of(cold, "ttfa_ms")),
        ("TTFA, listening, immediate", "trigger at once", of(now, "ttfa_ms")),
        ("TTFA, listening, on the bar", "trigger for the next bar", of(bar, "ttfa_ms")),
        ("trigger to sound, immediate", "trigger at once", [run.sound_ms for run in now]),
        ("control latency", "change in mid-take", of([*now, *bar], "control_latency_ms")),
    )
    for name, call, values in measured:
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            found.left_out.append(f"{name}: {len(values) - len(known)} of {len(values)} runs gave no figure")
        if known:
            spent_ns = [round(value * 1e6) for value in known]
            row = summarise(name, spent_ns, group="live", call=call, subject=subject, audio_ms=None)
            found.rows.append(replace(row, subject=no_decoder(subject)))


def _counts(
    found: Found, options: LiveOptions, now: list[Run], bar: list[Run], long: list[Run], busy: list[Run]
) -> None:
    """Figures of what is no time: jitter, errors of placement, holes."""
    sounds = [run.sound_ms for run in now if run.sound_ms is not None]
    spread = float(np.std(sounds)) if len(sounds) > 1 else None
    found.figures.append(
        _figure("trigger-to-audio jitter", spread, "ms", f"standard deviation of {len(sounds)} immediate triggers")
    )
    errors = [run.measures.get("start_error_samples") for run in bar]
    placed = [abs(error) for error in errors if error is not None]
    worst = float(max(placed)) if placed else None
    found.figures.append(_figure("alignment error", worst, "samples", f"largest of {len(placed)} bar-line starts"))
    for name, runs in (("underruns", long), (f"underruns, {options.busy} neighbours", busy)):
        if not runs:
            continue
        heard = [run for run in runs if run.sound_ms is not None]
        holes = sum(run.measures["underruns"]["callbacks"] for run in heard)
        seconds = sum(run.played_s for run in heard)
        per_hour = holes * 3600.0 / seconds if heard else None  # what never sounded had no hole either
        found.figures.append(_figure(name, per_hour, "callbacks per hour", f"{holes} in {seconds:g} s played"))


def _figure(name: str, value: float | None, unit: str, of: str) -> Figure:
    return Figure(name=name, value=None if value is None else round(value, 4), unit=unit, of=of)


def resident_bytes(pid: int) -> int:
    """Memory that a process holds; 0 where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)
