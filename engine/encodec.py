"""EnCodec at run time, in exact streams: audio to codes and codes to audio, onnxruntime and numpy only.

Stands where engine/codec.py stands, for bundles made of MusicGen checkpoints. The network looks ahead, so codes
come some frames and sound some samples late; both are told, so positions stay exact. Each stream holds all its
state. The graphs lay the padding of the whole at a stream's true beginning and, by `flush`, at its end: chunked
equals whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from .codec_stream import (
    DECODER,
    ENCODER,
    MAX_AMPLITUDE,
    Codes,
    Float,
    Framer,
    States,
    check_codes,
    integers,
    kind_checked,
    open_graph,
)

# The graphs only ask whether a position is near the beginning or the end: frames are told them as if no stream were
# longer than these, which keeps their integers below 2**31 for ever (onnxruntime 1.31's Min of int64 fails above).
_FAR_FRAMES = 1 << 10
_ENDLESS_FRAMES = 1 << 14
_LIMITS = {
    "sample_rate": (8000, 192000),
    "hop_samples": (2, 65536),
    "num_codebooks": (1, 32),
    "codebook_size": (2, 65536),
    "audio_channels": (1, 2),
    "block_frames": (1, 64),
    "encoder_delay_frames": (0, 64),
    "decoder_delay_samples": (0, 1 << 20),
}


@dataclass(frozen=True, kw_only=True)
class EncodecSection:
    """The manifest's codec section, validated. `num_codebooks` counts those of all channels."""

    sample_rate: int
    hop_samples: int
    num_codebooks: int
    codebook_size: int
    audio_channels: int
    block_frames: int
    encoder_delay_frames: int
    decoder_delay_samples: int

    @classmethod
    def parse(cls, config: Mapping[str, object]) -> EncodecSection:
        """Validate a manifest's codec section. Raises ValueError that names the field."""
        numbers = integers(kind_checked(config, "encodec"), _LIMITS)
        if numbers["num_codebooks"] % numbers["audio_channels"]:
            raise ValueError(
                f"codec.num_codebooks is {numbers['num_codebooks']}, allowed: as many for each audio channel"
            )
        return cls(**numbers)


class _Graph:
    """A session with states; thread-safe, it holds no stream's state."""

    def __init__(
        self,
        path: Path,
        session: onnxruntime.InferenceSession,
        section: EncodecSection,
        *,
        data_in: tuple[str, str, list[int]],  # name, type, shape
        data_out: tuple[str, list[int]],
    ) -> None:
        self._session = session
        self._input, (self._output, _) = data_in[0], data_out
        self._unit = (
            data_in[2][1] // section.block_frames if data_in[0] == "samples" else 1
        )  # input rows in a frame
        found = {v.name: (v.type, v.shape) for v in self._session.get_inputs()}
        states = {name: found[name] for name in found if name.startswith("state_")}
        scalars = {name: ("tensor(int64)", [1]) for name in ("frame", "count", "end")}
        wanted = {data_in[0]: (data_in[1], data_in[2]), **scalars}
        if {name: found[name] for name in found if name not in states} != wanted:
            raise ValueError(f"{path} has the inputs {found}, needed: {wanted} and states")
        names = [f"state_{i}" for i in range(len(states))]
        self._new = [f"new_{name}" for name in names]
        made = {v.name: v.shape for v in self._session.get_outputs()}
        kept = {f"new_{name}": states[name][1] for name in names if name in states}
        shapes = [shape for kind, shape in states.values() if kind == "tensor(float)"]
        if made != {**kept, data_out[0]: data_out[1]} or len(shapes) != len(kept) or len(kept) != len(states):
            raise ValueError(f"{path} has the outputs {made}, needed: {data_out[0]} and a successor of each state")
        if not all(isinstance(size, int) and 0 <= size < 1 << 20 for shape in shapes for size in shape):
            raise ValueError(f"{path} has states of the shapes {shapes}, allowed: fixed ones")
        self.silent: States = tuple(np.zeros(states[name][1], np.float32) for name in names)

    def run(
        self, block: npt.NDArray[Any], frame: int, count: int, end: int | None, states: States
    ) -> tuple[npt.NDArray[Any], States]:
        """A block of which `count` frames are real, the first at `frame`; `end` in samples or codes, if known."""
        told = min(frame, _FAR_FRAMES)
        left = _ENDLESS_FRAMES * self._unit if end is None else end - (frame - told) * self._unit
        feed = {
            self._input: block,
            **{name: np.array([n], np.int64) for name, n in (("frame", told), ("count", count), ("end", left))},
            **{name.removeprefix("new_"): state for name, state in zip(self._new, states, strict=True)},
        }
        results = self._session.run([self._output, *self._new], feed)
        return results[0], tuple(results[1:])


class Encodec:
    """The loaded codec. Thread-safe."""

    def __init__(self, section: EncodecSection, encoder: _Graph, decoder: _Graph) -> None:
        self.section = section
        self.sample_rate = section.sample_rate
        self.hop_samples = section.hop_samples
        self.num_codebooks = section.num_codebooks
        self.codebook_size = section.codebook_size
        self.audio_channels = section.audio_channels
        self.encoder_graph, self.decoder_graph = encoder, decoder

    @classmethod
    def load(cls, files: Mapping[str, Path], config: Mapping[str, object], *, threads: int = 1) -> Encodec:
        """Load from the files `codec_encoder` and `codec_decoder` and the manifest's codec section.

        Raises ValueError on a section that is not understood, a missing file or a graph that does not fit it.
        """
        section = EncodecSection.parse(config)
        block = section.block_frames
        samples, codes = [section.audio_channels, block * section.hop_samples], [block, section.num_codebooks]
        sound, tokens = ("samples", "tensor(float)", samples), ("codes", "tensor(int64)", codes)
        sessions = {role: open_graph(files, role, threads) for role in (ENCODER, DECODER)}
        encoder = _Graph(files[ENCODER], sessions[ENCODER], section, data_in=sound, data_out=("codes", codes))
        decoder = _Graph(files[DECODER], sessions[DECODER], section, data_in=tokens, data_out=("samples", samples))
        return cls(section, encoder, decoder)

    def encoder(self) -> EncodecEncoder:
        """A fresh stream of audio to codes."""
        return EncodecEncoder(self)

    def decoder(self) -> EncodecDecoder:
        """A fresh stream of codes to audio."""
        return EncodecDecoder(self)


class EncodecEncoder:
    """Audio to codes, one per listening stream; not thread-safe.

    Frame t covers the samples from hop * t on; it comes with sample hop * (t + 1) + look_ahead_samples.
    """

    def __init__(self, codec: Encodec) -> None:
        self._codec = codec
        self._framer = Framer(codec.hop_samples, codec.audio_channels)
        self.look_ahead_samples = codec.section.encoder_delay_frames * codec.hop_samples
        self.reset()

    def reset(self) -> None:
        """Back to before the first sample; the count of invalid samples too."""
        self._framer.reset()
        self._states = self._codec.encoder_graph.silent
        self._frame = 0  # frames heard

    @property
    def invalid_samples(self) -> int:
        """Samples so far that were no numbers."""
        return self._framer.invalid_samples

    def push(self, pcm: Float) -> Codes:
        """Samples [n], of a stereo codec [n, 2], any n -> codes [frames, K] of every frame now complete.

        NaN and Inf count as silence. ValueError on another shape.
        """
        whole = self._framer.push(pcm)
        return self._run(whole, len(whole) // self._codec.hop_samples, None)

    def flush(self) -> Codes:
        """The stream ends here: codes of the frames not yet given, an incomplete last one too. `reset` is next."""
        hop, rest = self._codec.hop_samples, self._framer.rest
        end = self._frame * hop + len(rest)
        if end == 0:
            return self._run(rest, 0, None)
        count = -(-len(rest) // hop) + self._codec.section.encoder_delay_frames
        padded = np.zeros((count * hop, *rest.shape[1:]), np.float32)
        padded[: len(rest)] = rest
        return self._run(padded, count, end)

    def _run(self, pcm: Float, count: int, end: int | None) -> Codes:
        codec, hop, size = self._codec, self._codec.hop_samples, self._codec.section.block_frames
        rows = pcm.reshape(len(pcm), codec.audio_channels).T
        parts = [np.empty((0, codec.num_codebooks), np.uint16)]
        for start in range(0, count, size):
            real = min(size, count - start)
            block = np.zeros((codec.audio_channels, size * hop), np.float32)
            block[:, : real * hop] = rows[:, start * hop : (start + real) * hop]
            codes, self._states = codec.encoder_graph.run(block, self._frame, real, end, self._states)
            early = max(0, codec.section.encoder_delay_frames - self._frame)
            parts.append(codes[early:real].astype(np.uint16))
            self._frame += real
        return np.concatenate(parts)

    def snapshot(self) -> object:
        """Everything the stream is, for `restore`."""
        return (self._framer.snapshot(), self._states, self._frame)

    def restore(self, snap: Any) -> None:
        """Back to the moment of `snapshot`, to the bit."""
        framed, self._states, self._frame = snap
        self._framer.restore(framed)


class EncodecDecoder:
    """Codes to audio, one per take; not thread-safe. A chunk never decodes the past again.

    Sample i of all that `push` returned is model-time sample i - delay_samples; silence before the first.
    """

    def __init__(self, codec: Encodec) -> None:
        self._codec = codec
        self.delay_samples = codec.section.decoder_delay_samples
        self.reset()

    def reset(self) -> None:
        """Back to before the first frame."""
        self._states = self._codec.decoder_graph.silent
        self._frame = 0  # frames taken

    def push(self, codes: Codes) -> Float:
        """Codes [frames, K] -> samples [frames * hop], of a stereo codec [.., 2]. ValueError on bad codes."""
        codec = self._codec
        check_codes(codes, codec)
        return self._run(codes, None)

    def flush(self) -> Float:
        """The stream ends here: the last `delay_samples` samples. `reset` is next."""
        codec, frames = self._codec, self._frame
        missing = self.delay_samples if frames else 0
        more = np.zeros((-(-missing // codec.hop_samples), codec.num_codebooks), np.uint16)
        return self._run(more, frames)[:missing]

    def _run(self, codes: Codes, end: int | None) -> Float:
        codec, hop, size = self._codec, self._codec.hop_samples, self._codec.section.block_frames
        out = np.zeros((len(codes) * hop, codec.audio_channels), np.float32)
        for start in range(0, len(codes), size):
            part = codes[start : start + size]
            block = np.zeros((size, codec.num_codebooks), np.int64)
            block[: len(part)] = part
            samples, self._states = codec.decoder_graph.run(block, self._frame, len(part), end, self._states)
            early = min(max(0, self.delay_samples - self._frame * hop), len(part) * hop)
            out[start * hop + early : (start + len(part)) * hop] = samples[:, early : len(part) * hop].T
            self._frame += len(part)
        clipped: Float = np.clip(out, -MAX_AMPLITUDE, MAX_AMPLITUDE)
        return clipped[:, 0] if codec.audio_channels == 1 else clipped

    def snapshot(self) -> object:
        """Everything the stream is, for `restore`."""
        return (self._states, self._frame)

    def restore(self, snap: Any) -> None:
        """Back to the moment of `snapshot`, to the bit."""
        self._states, self._frame = snap
