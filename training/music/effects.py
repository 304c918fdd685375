"""The desk's effects on stereo, float32 [2, samples]: all causal, all linear in time, none changes the length."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter, oaconvolve

Stereo = npt.NDArray[np.float32]
_BLOCK_S = 0.001  # of the compressor's detector


def pan(x: Stereo, position: float, width: float) -> Stereo:
    """Constant-power place of the middle, -1 left to 1 right; sides scaled by `width`."""
    middle, side = 0.5 * (x[0] + x[1]), 0.5 * width * (x[0] - x[1])
    angle = (position + 1.0) * math.pi / 4.0
    left, right = math.sqrt(2.0) * math.cos(angle), math.sqrt(2.0) * math.sin(angle)
    return np.stack([left * middle + side, right * middle - side]).astype(np.float32)


def tilt(x: Stereo, gain_db: float, rate: int, corner_hz: float = 1000.0) -> Stereo:
    """First-order shelf, `gain_db` from bottom to top around the corner."""
    root = 10 ** (gain_db / 40)
    k = math.tan(math.pi * corner_hz / rate)
    return np.asarray(lfilter([root + k, k - root], [1 / root + k, k - 1 / root], x), dtype=np.float32)


def saturate(x: Stereo, amount: float) -> Stereo:
    """Soft clipping by tanh, from none at 0 to strong at 1, against the signal's own level."""
    rms = float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))
    if amount <= 0.0 or rms < 1e-7:
        return x
    drive = amount / (2.5 * rms)
    return (np.tanh(drive * x) / drive).astype(np.float32)


def compress(
    x: Stereo,
    rate: int,
    *,
    threshold_db: float,
    ratio: float,
    attack_ms: float,
    release_ms: float,
    knee_db: float = 6.0,
) -> Stereo:
    """Feed-forward compressor, both sides by one gain; a millisecond's gain comes from what was before it."""
    size = max(1, round(_BLOCK_S * rate))
    count = -(-x.shape[1] // size)
    power = np.zeros(count * size, dtype=np.float32)
    power[: x.shape[1]] = np.maximum(x[0] ** 2, x[1] ** 2)
    level_db = 10.0 * np.log10(power.reshape(count, size).mean(axis=1, dtype=np.float64) + 1e-10)
    over = level_db - threshold_db
    bent = np.where(
        over <= -knee_db / 2, 0.0, np.where(over >= knee_db / 2, over, (over + knee_db / 2) ** 2 / (2 * knee_db))
    )
    wanted = (bent * (1.0 / ratio - 1.0)).tolist()
    attack = 1.0 - math.exp(-1.0 / attack_ms)
    release = 1.0 - math.exp(-1.0 / release_ms)
    now, gains = 0.0, [0.0]
    for target in wanted:
        now += (attack if target < now else release) * (target - now)
        gains.append(now)
    # gains[i] is known when block i begins; within it the gain moves there from gains[i - 1]
    known = np.array([0.0, *gains[:count]])
    between = np.arange(size) / size
    curve = (known[:-1, None] * (1.0 - between) + known[1:, None] * between).reshape(-1)[: x.shape[1]]
    return (x * (10 ** (curve / 20)).astype(np.float32)).astype(np.float32)


def chorus(x: Stereo, rate: int, *, depth_ms: float, speed_hz: float, mix: float, phase: float) -> Stereo:
    """A swaying delay of 8 to 8 + 2 depth ms on each side, a quarter turn apart, added to the dry signal."""
    place = np.arange(x.shape[1], dtype=np.float64)
    out = np.empty_like(x)
    for side in (0, 1):
        sway = 1.0 + np.sin(2 * math.pi * (speed_hz * place / rate + phase + 0.25 * side))
        behind = np.interp(place - (8.0 + depth_ms * sway) * rate / 1e3, place, x[side], left=0.0)
        out[side] = (1.0 - 0.5 * mix) * x[side] + 0.7 * mix * behind
    return out


def room(rng: np.random.Generator, rate: int, *, seconds: float, predelay_ms: float, damping: float) -> Stereo:
    """A room's response, [2, n]: early echoes, then noise that dies by 60 dB in `seconds`, its treble sooner."""
    length = round(min(4.5, 1.05 * seconds) * rate)
    time = np.arange(length) / rate
    noise = rng.standard_normal((2, length))
    dull = lfilter([0.12], [1.0, -0.88], noise, axis=-1) * 2.8
    bright = noise - lfilter([0.12], [1.0, -0.88], noise, axis=-1)
    tail = dull * 10 ** (-3.0 * time / seconds) + bright * (1.0 - damping) * 10 ** (-3.0 * time / (0.45 * seconds))
    tail *= np.minimum(1.0, time / 0.012)
    for _ in range(7):
        at = int(rng.uniform(0.004, 0.045) * rate)
        if at < length:
            tail[int(rng.integers(2)), at] += rng.uniform(2.0, 6.0) * (1 if rng.random() < 0.5 else -1)
    tail /= np.sqrt((tail**2).sum(axis=1, keepdims=True)) + 1e-12
    return np.pad(tail, ((0, 0), (round(predelay_ms * rate / 1e3), 0))).astype(np.float32)


def reverberate(x: Stereo, response: Stereo) -> Stereo:
    """The wet signal alone."""
    return np.asarray(oaconvolve(x, response, axes=1)[:, : x.shape[1]], dtype=np.float32)


def limit(x: Stereo, knee: float = 0.7) -> Stereo:
    """Soft limit: linear up to `knee`, then tanh towards 0.99."""
    size, space = np.abs(x), 0.99 - knee
    return np.where(size <= knee, x, np.sign(x) * (knee + space * np.tanh((size - knee) / space))).astype(
        np.float32
    )


def level_db(x: npt.NDArray[np.floating]) -> float:
    """RMS level in dBFS; silence gives -120."""
    return float(20 * np.log10(max(1e-6, float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))))))
