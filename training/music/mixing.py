"""The mixing desk: dry tracks become a stereo song in a room, and its four stems; after synth.py, before songs.py.

What the desk does to a song is drawn from the song's seed and style (`draw_mix`) and is plain data. Stems are taken
before the master: they sum to what the master hears.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from attacca.engine.conditioning import INSTRUMENTS
from attacca.training.music import effects
from attacca.training.music.effects import Stereo
from attacca.training.music.song import Song
from attacca.training.music.style import KICK
from attacca.training.music.styles import find
from attacca.training.music.synth import Cents, Tracks, play

_SALT, _STREAM = 1, 50
_TUNING_STEP_S = 0.1
_LEVEL_DB = {"drums": 2.0, "bass": -4.0, "chords": -3.5, "lead": -6.0}  # of a track while it sounds
_TOPS_DB = -13.0  # cymbals and small percussion against skins
_USUAL_LEVEL = {"drums": 118, "bass": 96, "chords": 96, "lead": 92}  # Style's defaults, which these stand for
_FIRST = ("kit", "bass", "chords0", "lead")
_LAYER_DB = -4.0  # a second chordal track against the first
_MASTER_DB = -18.0


@dataclass(frozen=True, kw_only=True)
class Strip:
    """One track's channel."""

    gain_db: float  # against the balance of _LEVEL_DB
    pan: float  # -1..1
    width: float
    send: float  # to the room, as amplitude
    tilt_db: float
    drive: float
    chorus: float  # 0 is off
    cents: float


@dataclass(frozen=True, kw_only=True)
class Mix:
    """One song's desk."""

    strips: tuple[Strip, ...]
    tuning_cents: float  # of everything, drums included
    drift_cents: float  # how far each track wanders, standard deviation
    room_s: float
    predelay_ms: float
    damping: float
    pump: float
    tilt_db: float
    ratio: float  # of the master compressor; 1 is off
    threshold_db: float
    attack_ms: float
    release_ms: float
    drive: float
    noise_db: float  # hiss; -120 is none
    level_db: float


def draw_mix(song: Song) -> Mix:
    """The desk for a song: from its seed and style."""
    rng = np.random.default_rng([song.seed, _SALT, _STREAM])
    style = find(song.style_name)
    dry = rng.random() < 0.12
    strips = []
    for track in song.tracks:
        usual = _USUAL_LEVEL[track.instrument]
        spread = {"drums": 0.06, "bass": 0.05, "chords": 0.6, "lead": 0.35}[track.instrument]
        wet = {"drums": 0.5, "bass": 0.15, "chords": 1.0, "lead": 1.1}[track.instrument]
        pitched = track.instrument != "drums"
        strips.append(
            Strip(
                gain_db=(track.level - usual) / 5.0 + float(rng.normal(0.0, 1.2)),
                pan=float(rng.uniform(-spread, spread)),
                width=float(rng.uniform(0.1, 0.4) if track.instrument == "bass" else rng.uniform(0.5, 1.1)),
                send=0.0 if dry else style.wet * wet * float(rng.uniform(0.15, 0.6)),
                tilt_db=float(rng.normal(0.0, 1.5)),
                drive=float(rng.uniform(0.2, 1.0)) * style.drive if rng.random() < 0.3 else 0.0,
                chorus=float(rng.uniform(0.2, 0.7)) if pitched and rng.random() < 0.18 else 0.0,
                cents=float(rng.normal(0.0, 3.0)) if pitched else 0.0,
            )
        )
    return Mix(
        strips=tuple(strips),
        tuning_cents=float(np.clip(rng.normal(0.0, 6.0), -18.0, 18.0)),
        drift_cents=float(rng.choice([0.0, 1.5, 3.0, 5.0], p=[0.4, 0.3, 0.2, 0.1])),
        room_s=float(rng.uniform(*style.room)),
        predelay_ms=float(rng.uniform(0.0, 30.0)),
        damping=float(rng.uniform(0.1, 0.8)),
        pump=style.pump * float(rng.uniform(0.4, 1.2)),
        tilt_db=float(rng.uniform(-3.0, 3.0)),
        ratio=float(rng.uniform(1.3, 4.0)) if rng.random() < 0.75 else 1.0,
        threshold_db=float(rng.uniform(-24.0, -13.0)),
        attack_ms=float(rng.uniform(2.0, 30.0)),
        release_ms=float(rng.uniform(60.0, 300.0)),
        drive=style.drive * float(rng.uniform(0.2, 1.0)) if rng.random() < 0.6 else 0.0,
        noise_db=float(rng.uniform(-72.0, -56.0)) if rng.random() < 0.1 else -120.0,
        level_db=float(rng.uniform(-24.0, -10.0)),
    )


def tunings(song: Song, mix: Mix, seconds: float) -> list[Cents]:
    """Per track: cents against 440 Hz, a value each 100 ms, with a drift that forgets itself in about 5 s."""
    rng = np.random.default_rng([song.seed, _SALT, _STREAM + 1])
    count = max(1, round(seconds / _TUNING_STEP_S))
    memory = float(np.exp(-_TUNING_STEP_S / 5.0))
    curves = []
    for track, strip in zip(song.tracks, mix.strips, strict=True):
        steps = rng.standard_normal(count)
        wander, now = np.zeros(count), steps[0]
        for i in range(count):
            now = memory * now + np.sqrt(1.0 - memory**2) * steps[i]
            wander[i] = now
        drift = mix.drift_cents * wander if track.instrument != "drums" else 0.0 * wander
        curves.append(mix.tuning_cents + strip.cents + drift)
    return curves


def _active_db(x: Stereo, rate: int) -> float:
    """RMS level over the twentieths of a second in which there is sound."""
    size = rate // 20
    whole = x[:, : x.shape[1] // size * size]
    power = np.square(whole, dtype=np.float64).mean(axis=0).reshape(-1, size).mean(axis=1)
    loud = power[power > 1e-4 * power.max(initial=0.0)]
    return 10.0 * float(np.log10(loud.mean() + 1e-12)) if loud.size and power.max() > 1e-9 else -120.0


def ducking(song: Song, depth: float, num_samples: int, rate: int) -> np.ndarray:
    """Gain [samples] that falls with each kick that plays and comes back within most of a beat."""
    gain = np.ones(num_samples, dtype=np.float32)
    for note in song.notes:
        if depth <= 0.0 or note.instrument != "drums" or note.pitch != KICK:
            continue
        start = song.tempo.sample(note.start_ticks, rate)
        length = round(0.7 * song.tempo.us_at(note.start_ticks) * 1e-6 * rate)
        stop = min(num_samples, start + length)
        if start < stop:
            rising = (1.0 - np.arange(stop - start) / length) ** 2
            falling = np.minimum(1.0, np.arange(stop - start) / (0.004 * rate))
            gain[start:stop] = np.minimum(gain[start:stop], 1.0 - depth * rising * falling)
    return gain


def automation(song: Song, num_samples: int, rate: int) -> np.ndarray:
    """Gain [samples] of the sections: two fifths of their level in dB, ramped over 30 ms from each bar line."""
    gain = np.ones(num_samples, dtype=np.float32)
    before, ramp = 10 ** (0.4 * song.sections[0].level_db / 20), round(0.03 * rate)
    for section in song.sections:
        start = song.tempo.sample(section.first_bar * song.bar_ticks, rate)
        after = 10 ** (0.4 * section.level_db / 20)
        if start >= num_samples:
            break
        gain[start:] = after
        part = gain[start : start + ramp]
        part[:] = before + (after - before) * (np.arange(len(part)) / ramp)
        before = after
    return gain


def _strip(song: Song, mix: Mix, number: int, x: Stereo, rate: int) -> Stereo:
    track, strip = song.tracks[number], mix.strips[number]
    layer = _TOPS_DB if track.name == "tops" else _LAYER_DB if track.name not in _FIRST else 0.0
    sounding_db = _active_db(x, rate)
    if sounding_db <= -119.0:
        return np.zeros_like(x)
    if track.instrument != "drums":
        x = effects.tilt(x, strip.tilt_db, rate)
    x = effects.saturate(x, strip.drive)
    if strip.chorus:
        x = effects.chorus(x, rate, depth_ms=2.5, speed_hz=0.6, mix=strip.chorus, phase=0.1 * number)
    gain_db = _LEVEL_DB[track.instrument] + layer + strip.gain_db - _active_db(x, rate) - 20.0
    return (effects.pan(x, strip.pan, strip.width) * np.float32(10 ** (gain_db / 20))).astype(np.float32)


def mix_down(song: Song, mix: Mix, tracks: Tracks, rate: int, *, stems: bool) -> tuple[Stereo, dict[str, Stereo]]:
    """Dry tracks [tracks, 2, n] to the mastered song [2, n] and, if asked for, the stems by instrument [2, n]."""
    length = tracks.shape[2]
    rng = np.random.default_rng([song.seed, _SALT, _STREAM + 2])
    response = effects.room(rng, rate, seconds=mix.room_s, predelay_ms=mix.predelay_ms, damping=mix.damping)
    level, duck = automation(song, length, rate), ducking(song, mix.pump, length, rate)
    names = INSTRUMENTS if stems else ("all",)
    dry = {name: np.zeros((2, length), dtype=np.float32) for name in names}
    wet = {name: np.zeros((2, length), dtype=np.float32) for name in names}
    for number, track in enumerate(song.tracks):
        x = _strip(song, mix, number, tracks[number], rate) * level
        if track.instrument in ("bass", "chords"):
            x *= duck
        name = track.instrument if stems else "all"
        dry[name] += x
        wet[name] += mix.strips[number].send * x
    for name in names:
        if np.any(wet[name]):
            dry[name] += effects.reverberate(wet[name], response)
    whole = np.sum(list(dry.values()), axis=0, dtype=np.float32)
    scale = np.float32(10 ** ((_MASTER_DB - effects.level_db(whole)) / 20)) if np.any(whole) else np.float32(1.0)
    parts = {name: x * scale for name, x in dry.items()} if stems else {}
    return master(whole * scale, mix, rng, rate), parts


def master(x: Stereo, mix: Mix, rng: np.random.Generator, rate: int) -> Stereo:
    """Tilt, compression, saturation, hiss, level, limiter; of a song at -18 dBFS."""
    x = effects.tilt(x, mix.tilt_db, rate)
    if mix.ratio > 1.0:
        x = effects.compress(
            x,
            rate,
            threshold_db=mix.threshold_db,
            ratio=mix.ratio,
            attack_ms=mix.attack_ms,
            release_ms=mix.release_ms,
        )
    x = effects.saturate(x, 0.6 * mix.drive)
    if mix.noise_db > -119.0:
        x = x + (10 ** (mix.noise_db / 20) * rng.standard_normal(x.shape)).astype(np.float32)
    now = effects.level_db(x)
    return effects.limit(x * np.float32(10 ** ((mix.level_db - now) / 20)) if now > -100.0 else x)


def render(
    song: Song, num_samples: int, *, rate: int = 48000, stems: bool = False, mix: Mix | None = None
) -> tuple[Stereo, dict[str, Stereo]]:
    """The song's first `num_samples` by its own desk (or `mix`): [2, n], and its stems. Raises RenderError."""
    mix = mix or draw_mix(song)
    tracks = play(song, num_samples, rate=rate, cents=tunings(song, mix, num_samples / rate))
    return mix_down(song, mix, tracks, rate, stems=stems)
