"""The codec's bounds that only a training checkpoint can give: no quantiser, and untrained (needs torch)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from attacca.training.codec_report import reconstructions
from attacca.training.codec_train import State
from benchmarks.spectra import Audio, analysed, mel_distance


@lru_cache(maxsize=1)
def _state(checkpoint: Path) -> State:
    return State.load(checkpoint)


def bound_distances(checkpoint: Path, audio: Audio, rate: int) -> dict[str, float]:
    """Log-mel distance of `unquantised` and `untrained`, over all but the decoder's delay at the end."""
    made = reconstructions(audio, _state(checkpoint))
    out = {}
    for name in ("unquantised", "untrained"):
        count = min(len(audio), len(made[name]))
        out[name] = mel_distance(analysed(audio[:count], rate), analysed(made[name][:count], rate))
    return out
