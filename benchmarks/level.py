"""The level of long takes, as the model makes them and as the engine holds them: `python -m benchmarks.level`.

Continues the demo's riff with the model and prints RMS of every so many seconds, without and with the leveller
(engine/leveller.py). The tokens are the same until a take is begun anew, since a model does not hear the gain.
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from time import process_time

import numpy as np

from attacca.bridge.config import Settings
from attacca.bridge.demo_material import load_material
from attacca.bridge.loading import load_model, sampling_of
from attacca.engine.leveller import LevelConfig, Leveller, LevelMeter
from attacca.engine.offline import SteadyController, continue_offline

RATE = 48000
BARS = 4


def rms_dbfs(pcm: np.ndarray, rate: int, every_s: float) -> list[float]:
    """RMS of every `every_s` of [n] or [n, channels]."""
    step = round(every_s * rate)
    parts = [pcm[at : at + step] for at in range(0, len(pcm) - step + 1, step)]
    return [10.0 * float(np.log10(np.mean(np.square(part, dtype=np.float64)) + 1e-12)) for part in parts]


def cost_ms_per_s(frames_per_s: float, hop_samples: int, seconds: float = 20.0) -> float:
    """CPU of the leveller for a second of stereo that it acts on."""
    count = round(seconds * frames_per_s)
    pcm = np.random.default_rng(0).normal(0.0, 0.3, (count * hop_samples, 2)).astype(np.float32)
    leveller = Leveller(LevelMeter(LevelConfig(), frames_per_s), reference=0.01, first_frame=0)
    began = process_time()
    for frame in range(0, count, 8):
        part = pcm[frame * hop_samples : (frame + 8) * hop_samples]
        leveller.push(frame, part, [0] * (len(part) // hop_samples))
    return 1000.0 * (process_time() - began) / seconds


def _line(values: list[float]) -> str:
    return " ".join(f"{value:4.0f}" for value in values)


def main() -> None:
    """Three lines a seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="ostinato")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=4.0, help="seconds a figure")
    given = parser.parse_args()
    riff = load_material(None, sample_rate=RATE, bpm=None, meter=None, needed_bars=BARS)
    bar = Fraction(4 * riff.meter[0], riff.meter[1]) * 60 / riff.bpm
    played = riff.track.render(Fraction(0), riff.bpm / (60 * RATE), round(BARS * bar * RATE), riff.channels)
    controller = SteadyController(
        sample_rate=RATE, bpm=float(riff.bpm), meter_num=riff.meter[0], meter_den=riff.meter[1]
    )
    print(f"played, {len(played) / RATE:.0f} s: {rms_dbfs(played, RATE, len(played) / RATE)[0]:.1f} dBFS")
    for seed in given.seeds:
        settings = Settings(model=given.model, seed=seed, guidance=given.guidance)
        model = load_model(settings)
        codec = model.codec
        made = continue_offline(
            model, played, RATE, seconds=given.seconds, controller=controller, sampling=sampling_of(settings)
        )
        bare = codec.decoder().push(made.codes)
        print(f"seed {seed} made {_line(rms_dbfs(bare, codec.sample_rate, given.every))}")
        print(f"seed {seed} held {_line(rms_dbfs(made.pcm, RATE, given.every))}", flush=True)
    cost = cost_ms_per_s(codec.sample_rate / codec.hop_samples, codec.hop_samples)
    print(f"the leveller takes {cost:.2f} ms of CPU for a second of stereo")


if __name__ == "__main__":
    main()
