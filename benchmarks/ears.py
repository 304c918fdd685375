"""The trained ears of the scorecards: an embedding of music, and who plays in it, in plain numpy.

benchmarks/embedding.py trains the network and writes its weights to benchmarks/assets/ears.npz together with what
it can tell on held-out songs; here it only listens, so that scoring needs no torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.frechet import mel_statistics, mel_windows
from benchmarks.spectra import Array, Audio

EARS_FILE = Path(__file__).parent / "assets" / "ears.npz"
MEL_CENTRE, MEL_SCALE = -2.0, 1.5
NORM_GROUPS, NORM_EPS = 4, 1e-5
_STRIDE = 2


@dataclass(frozen=True, kw_only=True)
class Heard:
    """Probabilities in each window."""

    styles: Array  # [windows, styles], of one sum
    players: Array  # [windows, players], each by itself


@dataclass(frozen=True, kw_only=True)
class Ears:
    """Weights by torch's names, and the skill that was measured: shares of right answers on held-out songs."""

    weights: dict[str, Array]
    skill: dict[str, float]

    @classmethod
    def load(cls, file: Path = EARS_FILE) -> Ears:
        """Raises OSError or KeyError where the file is missing or no ears."""
        with np.load(file, allow_pickle=False) as arrays:
            skill = json.loads(str(arrays["skill"]))
            return cls(weights={n: arrays[n].astype(np.float64) for n in arrays.files if n != "skill"}, skill=skill)

    def save(self, file: Path) -> None:
        """Half precision, which is what `load` gives back."""
        file.parent.mkdir(parents=True, exist_ok=True)
        halves = {name: values.astype(np.float16) for name, values in self.weights.items()}
        np.savez_compressed(file, skill=np.array(json.dumps(self.skill)), **halves)

    def vectors(self, windows: Array) -> Array:
        """[windows, 32] of log-mel windows [windows, frames, 80]."""
        return np.stack([self._vector(window) for window in windows])

    def listen(self, audio: Audio) -> Heard:
        """What is heard in windows of 2 s every 0.5 s. ValueError below 2 s of sound."""
        found = _gelu(self.vectors(mel_windows(audio)))
        style = np.exp(_log_softmax(self._linear("heads.style", found)))
        return Heard(styles=style, players=1.0 / (1.0 + np.exp(-self._linear("heads.players", found))))

    def players(self, audio: Audio) -> Array:
        """[windows, players] probability that each plays, in windows of 2 s every 0.5 s."""
        return self.listen(audio).players

    def embeddings(self, audio: Audio) -> dict[str, Array]:
        """Vectors of every window in both embeddings of the Fréchet distance."""
        windows = mel_windows(audio)
        return {"trained": self.vectors(windows), "log_mel": mel_statistics(windows)}

    def _vector(self, window: Array) -> Array:
        x = ((window - MEL_CENTRE) / MEL_SCALE)[None]
        layer = 0
        while f"convolutions.{layer}.weight" in self.weights:
            kernel = self.weights[f"convolutions.{layer}.weight"]
            bias = self.weights[f"convolutions.{layer}.bias"]
            x = _convolve(x, kernel) + bias[:, None, None]
            norm = f"norms.{layer}"
            x = _gelu(_group_norm(x, self.weights[f"{norm}.weight"], self.weights[f"{norm}.bias"]))
            layer += 1
        return self._linear("out", x.mean(axis=1).ravel())  # over time; places in frequency stay

    def _linear(self, name: str, x: Array) -> Array:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]


def _convolve(x: Array, kernel: Array) -> Array:
    """[C, H, W] by [O, C, k, k] with stride 2 and zeros around."""
    outputs, inputs, size, _ = kernel.shape
    around = size // 2
    padded = np.pad(x, ((0, 0), (around, around), (around, around)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    patches = patches[:, ::_STRIDE, ::_STRIDE]
    height, width = patches.shape[1:3]
    rows = patches.transpose(1, 2, 0, 3, 4).reshape(height * width, inputs * size * size)
    return np.asarray((rows @ kernel.reshape(outputs, -1).T).T.reshape(outputs, height, width))


def _group_norm(x: Array, weight: Array, bias: Array) -> Array:
    groups = x.reshape(NORM_GROUPS, -1)
    centred = groups - groups.mean(axis=1, keepdims=True)
    normed = centred / np.sqrt(groups.var(axis=1, keepdims=True) + NORM_EPS)
    return np.asarray(normed.reshape(x.shape) * weight[:, None, None] + bias[:, None, None])


def _log_softmax(x: Array) -> Array:
    shifted = x - x.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def _gelu(x: Array) -> Array:
    """x times the normal distribution function at x."""
    from scipy.special import ndtr

    return np.asarray(x * ndtr(x))
