"""What the streams of every codec do alike: whole frames from any cuts of audio, codes checked, graphs opened.

Below engine/codec.py and engine/encodec.py, which hold each codec's own arithmetic and states.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime

Float = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint16]
States = tuple[Float, ...]

# No bundle can make the stream louder than 12 dB above full scale.
MAX_AMPLITUDE = 4.0

# Roles of a bundle's files.
ENCODER = "codec_encoder"
DECODER = "codec_decoder"


def kind_checked(config: Mapping[str, object], kind: str) -> dict[str, object]:
    """The fields of a manifest's codec section beside its kind. ValueError if that is another."""
    values = dict(config)
    found = values.pop("kind", None)
    if found != kind:
        raise ValueError(f"codec.kind is {found!r}, allowed: {kind!r}")
    return values


def integers(values: Mapping[str, object], limits: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """Exactly the fields of `limits` (lowest, highest), each an integer within. ValueError names the field."""
    if set(values) != set(limits):
        raise ValueError(f"codec has the fields {sorted(values)}, needed: {sorted(limits)}")
    numbers: dict[str, int] = {}
    for name, (low, high) in limits.items():
        value = values[name]
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"codec.{name} is {value!r}, allowed: an integer {low}..{high}")
        numbers[name] = value
    return numbers


def open_graph(files: Mapping[str, Path], role: str, threads: int) -> onnxruntime.InferenceSession:
    """A session of the file of a role, on the CPU. ValueError if it is missing or no graph."""
    if role not in files:
        raise ValueError(f"the codec needs the file {role!r}; there are {sorted(files)}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            Path(files[role]).read_bytes(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's exceptions have no common base but Exception
        raise ValueError(f"{files[role]} is not a readable codec graph: {error}") from None


class Framer:
    """Audio in any cuts to whole hops; what is no number becomes silence. One per listening stream."""

    def __init__(self, hop_samples: int, audio_channels: int) -> None:
        self._hop = hop_samples
        self._none: Float = np.zeros((0,) if audio_channels == 1 else (0, audio_channels), np.float32)
        self.reset()

    def reset(self) -> None:
        """Back to before the first sample; the count of invalid samples too."""
        self.rest: Float = self._none  # less than a hop
        self.invalid_samples = 0

    def push(self, pcm: Float) -> Float:
        """[n], of a stereo codec [n, 2], any n -> the samples of every hop now complete. ValueError on others."""
        if pcm.shape[1:] != self.rest.shape[1:]:
            raise ValueError(f"pcm has shape {pcm.shape}, allowed: [n{', 2' * (self.rest.ndim - 1)}]")
        finite = np.isfinite(pcm)
        if not finite.all():
            self.invalid_samples += int(len(pcm) - np.count_nonzero(finite.reshape(len(pcm), -1).all(axis=1)))
            pcm = np.where(finite, pcm, 0.0)
        joined = np.concatenate([self.rest, pcm.astype(np.float32, copy=False)])
        whole = len(joined) // self._hop * self._hop
        self.rest = joined[whole:].copy()
        return joined[:whole]

    def snapshot(self) -> object:
        """Everything it is, for `restore`."""
        return (self.rest.copy(), self.invalid_samples)

    def restore(self, snap: Any) -> None:
        """Back to the moment of `snapshot`, to the bit."""
        rest, self.invalid_samples = snap
        self.rest = rest.copy()


class Numbers(Protocol):
    """What of a codec codes are checked against."""

    num_codebooks: int
    codebook_size: int


def check_codes(codes: Codes, codec: Numbers) -> None:
    """ValueError unless [frames, K] of codes that the codec has."""
    if codes.ndim != 2 or codes.shape[1] != codec.num_codebooks:
        raise ValueError(f"codes have shape {codes.shape}, allowed: [frames, {codec.num_codebooks}]")
    if codes.size and (int(codes.max()) >= codec.codebook_size or int(codes.min()) < 0):
        raise ValueError(
            f"codes lie in {int(codes.min())}..{int(codes.max())}, allowed 0..{codec.codebook_size - 1}"
        )
