"""The demo's figures, each measured on what was recorded and on when chunks came, none assumed.

Between a finished run (client, recording) and demo.json, the table and the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from attacca.bridge.client import Client
from attacca.bridge.client_network import Arrival
from attacca.bridge.client_takes import TakeRecord
from attacca.bridge.protocol import Status
from attacca.bridge.ring import Samples
from attacca.bridge.transport import nearest_sample
from attacca.bridge.virtual_host import Recording


@dataclass(kw_only=True)
class Trace:
    """What was noted block by block. Times are stream positions in samples."""

    lookahead: list[tuple[int, int]] = field(default_factory=list)  # (position, samples) while a take sounds
    statuses: list[tuple[int, Status]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)  # what the engine complained of
    control_position: int | None = None


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Where things happened, in stream positions; `bar_line` is exact."""

    trigger: int
    bar_line: Fraction
    start: int | None  # first sample of the take that was heard
    release: int | None


def take_arrivals(client: Client, take: int) -> list[Arrival]:
    """The chunks of a take, as they came."""
    return [arrival for arrival in client.network.arrivals if arrival.chunk.take == take]


def marks_of(client: Client, recording: Recording, record: TakeRecord, bar_line: Fraction) -> Marks:
    """Trigger, exact bar line, and where the take really starts in the recorded signal."""
    return Marks(
        trigger=record.trigger.position,
        bar_line=bar_line,
        start=_measured_start(recording.wet, client, record.take),
        release=client.takes.records[-1].released,
    )


def _measured_start(wet: Samples, client: Client, take: int) -> int | None:
    """Position of the take's first sample in the recording.

    The first sound is found in the recorded signal and matched with the chunks' own samples (ramped, if the take
    joined away from its launch), so that a take that begins with silence is placed by what follows.
    """
    sounding = np.flatnonzero(wet.any(axis=1))
    if not len(sounding) or not client.playback.entries:
        return None
    first_sound, entry = int(sounding[0]), client.playback.entries[0]
    for arrival in take_arrivals(client, take):
        chunk, head = arrival.chunk, arrival.head
        within = np.flatnonzero(head.any(axis=1))
        if not chunk.committed or not len(within):
            continue
        silent = int(within[0])
        played = wet[first_sound : first_sound + len(head) - silent]
        gains = (
            np.ones(len(played))
            if entry.launch
            else client.playback.join_gains(first_sound - entry.position, len(played))
        )
        if np.allclose(played, head[silent : silent + len(played)] * gains[:, None], rtol=1e-4, atol=1e-6):
            return first_sound - silent
        break
    return first_sound


def measures_of(
    client: Client, recording: Recording, record: TakeRecord, marks: Marks, trace: Trace, *, paced: bool
) -> dict[str, Any]:
    """The figures of demo.json, rounded to what they are worth."""
    rate = recording.sample_rate
    arrivals = take_arrivals(client, record.take)
    playable = [arrival.at_s for arrival in arrivals if arrival.kept_samples > 0]
    last = next((status for _, status in reversed(trace.statuses) if status.rtf_total > 0), None)
    ahead = np.array([samples for _, samples in trace.lookahead], dtype=np.float64) * 1000 / rate
    counters, ring, network = client.playback.counters, client.ring, client.network
    told = _told_samples(trace)
    return {
        "rtf": {
            "decoder": _rounded(last.rtf_decoder if last else None, 4),
            "codec": _rounded(last.rtf_codec if last else None, 4),
            "total": _rounded(last.rtf_total if last else None, 4),
        },
        # Flat out the host waits for the engine, so there is no time to measure.
        "ttfa_ms": _rounded((min(playable) - record.triggered_s) * 1000 if playable and paced else None, 1),
        "start_error_samples": None if marks.start is None else marks.start - nearest_sample(marks.bar_line),
        "start_error_exact_samples": None
        if marks.start is None
        else _rounded(float(marks.start - marks.bar_line), 4),
        "underruns": {"callbacks": counters.underrun_callbacks, "samples": counters.underrun_samples},
        "waiting_samples": counters.waiting_samples,
        "control_latency_ms": _control_latency_ms(arrivals, trace.control_position, rate, told=told),
        "control_latency_engine_ms": _rounded(None if told is None else told * 1000 / rate, 1),
        "late_samples": ring.late_samples,
        "fallbacks": {
            "planned": counters.planned_samples,
            "repeat": counters.repeat_samples,
            "fade": counters.fade_samples,
        },
        "lookahead_ms": {
            "p50": _rounded(float(np.percentile(ahead, 50)) if len(ahead) else None, 1),
            "p5": _rounded(float(np.percentile(ahead, 5)) if len(ahead) else None, 1),
            "min": _rounded(float(ahead.min()) if len(ahead) else None, 1),
        },
        "late_callbacks": recording.late_callbacks if paced else None,
        "callback_ms": _callbacks_ms(recording),
        "chunks": len(arrivals),
        "network": {name: count for name, count in sorted(network.counts.items()) if count},
        "seed": next((s.seed for _, s in trace.statuses if s.take == record.take), record.trigger.seed),
    }


def _control_latency_ms(
    arrivals: Sequence[Arrival], control_position: int | None, rate: int, *, told: int | None
) -> float | None:
    """From a changed control to the first sample of the first chunk that knows of it.

    What was under way when the control changed knows nothing of it, though it comes later. The engine plans anew:
    a chunk that takes the place of a plan (announced again, or committed with other samples) knows. If the change
    met no plan, the first that knows is new, and only the engine can say which it is: `told` samples after the
    change, which is believed of a chunk that came after the change and is not as it was planned before. When the
    engine said so does not matter: its status comes up to a tenth of a second and a chunk or two later.
    """
    if control_position is None:
        return None
    planned: dict[int, Arrival] = {}
    for arrival in arrivals:
        chunk, before = arrival.chunk, planned.get(arrival.chunk.position)
        if arrival.read_end >= control_position:
            if before is not None and not (chunk.committed and before.digest == arrival.digest):
                return _rounded((chunk.position - control_position) * 1000 / rate, 1)
            first = None if told is None else control_position + told
            if before is None and first is not None and chunk.position + chunk.samples > first:
                return _rounded((max(chunk.position, first) - control_position) * 1000 / rate, 1)
        if not chunk.committed:
            planned[chunk.position] = arrival
    return None


def _told_samples(trace: Trace) -> int | None:
    """From the changed control to the first sample made under it, by the first status that tells of a new plan."""
    if trace.control_position is None:
        return None
    before = [s.control_latency_samples for at, s in trace.statuses if at < trace.control_position]
    was = before[-1] if before else 0
    after = (s.control_latency_samples for at, s in trace.statuses if at >= trace.control_position)
    return next((samples for samples in after if samples not in (0, was)), None)


def _callbacks_ms(recording: Recording) -> dict[str, float | None]:
    seconds = np.array([block.seconds for block in recording.blocks])
    return {
        "p50": _rounded(float(np.percentile(seconds, 50)) * 1000, 3),
        "p99": _rounded(float(np.percentile(seconds, 99)) * 1000, 3),
        "max": _rounded(float(seconds.max()) * 1000, 3),
    }


def in_ms(figure: float | None) -> str:
    """A figure of demo.json for people: "-" where there is none."""
    return "-" if figure is None else f"{figure} ms"


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
