"""The streaming codec at run time: audio to codes and codes to audio, onnxruntime and numpy only.

Sits on both sides of the token model. Each stream has an encoder or decoder object that holds all its state; the
sessions are shared. Frames pass through the graphs in blocks of one fixed shape, so that a frame's arithmetic does
not depend on how the stream was cut: chunked equals whole to the bit.
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
from .spectral import SpectralConfig, StreamingAnalysis
from .vocoder import Vocoder, VocoderTables

# No bundle can make the stream other than finite.
_LOUDEST_NATS = 3.0  # log amplitude of a bin; a full-scale sine is at 0
_SILENT_NATS = -12.0

_LIMITS = {
    "sample_rate": (8000, 192000),
    "hop_samples": (16, 65536),
    "num_codebooks": (1, 32),
    "codebook_size": (2, 65536),
    "block_frames": (1, 64),
    "channels": (1, 65536),
    "kernel": (2, 1024),
    "encoder_blocks": (0, 256),
    "decoder_blocks": (0, 256),
}


@dataclass(frozen=True, kw_only=True)
class CodecSection:
    """The manifest's codec section, validated."""

    sample_rate: int
    hop_samples: int
    num_codebooks: int
    codebook_size: int
    block_frames: int
    channels: int
    kernel: int
    encoder_blocks: int
    decoder_blocks: int
    spectral: SpectralConfig

    @classmethod
    def parse(cls, config: Mapping[str, object]) -> CodecSection:
        """Validate a manifest's codec section. Raises ValueError that names the field."""
        values = kind_checked(config, "spectral")
        spectral = values.pop("spectral", None)
        if not isinstance(spectral, Mapping):
            raise ValueError(f"codec.spectral is {spectral!r}, allowed: a table")
        numbers = integers(values, _LIMITS)
        try:
            parsed = SpectralConfig(**spectral)
        except TypeError as error:
            raise ValueError(f"codec.spectral is not understood: {error}") from None
        if parsed.hop_samples != numbers["hop_samples"]:
            raise ValueError(
                f"codec.spectral.hop_samples is {parsed.hop_samples}, allowed: {numbers['hop_samples']}"
            )
        return cls(spectral=parsed, **numbers)

    def silent_states(self, blocks: int) -> States:
        """The states of `blocks` convolutions before anything was heard."""
        return tuple(np.zeros((1, self.channels, self.kernel - 1), np.float32) for _ in range(blocks))


class Codec:
    """The loaded codec. Thread-safe: the sessions hold no stream's state."""

    def __init__(
        self, section: CodecSection, encoder: onnxruntime.InferenceSession, decoder: onnxruntime.InferenceSession
    ) -> None:
        self.section = section
        self.sample_rate = section.sample_rate
        self.hop_samples = section.hop_samples
        self.num_codebooks = section.num_codebooks
        self.codebook_size = section.codebook_size
        self.audio_channels = section.spectral.audio_channels
        self._encoder = encoder
        self._decoder = decoder
        self.vocoder_tables = VocoderTables.of(section.spectral)

    @classmethod
    def load(cls, files: Mapping[str, Path], config: Mapping[str, object], *, threads: int = 1) -> Codec:
        """Load from the files `codec_encoder` and `codec_decoder` and the manifest's codec section.

        Raises ValueError on a section that is not understood, a missing file or a graph that does not fit it.
        """
        section = CodecSection.parse(config)
        width, block = section.spectral.width, section.block_frames
        frames, codes = {"frames": [block, width]}, {"codes": [block, section.num_codebooks]}
        sessions = []
        for key, blocks, data_in, data_out in (
            (ENCODER, section.encoder_blocks, frames, codes),
            (DECODER, section.decoder_blocks, codes, frames),
        ):
            session = open_graph(files, key, threads)
            state = [1, section.channels, section.kernel - 1]
            wanted_in = {**data_in, "count": [1], **{f"state_{i}": state for i in range(blocks)}}
            wanted_out = {**data_out, **{f"new_state_{i}": state for i in range(blocks)}}
            found_in = {v.name: v.shape for v in session.get_inputs()}
            found_out = {v.name: v.shape for v in session.get_outputs()}
            if found_in != wanted_in or found_out != wanted_out:
                raise ValueError(f"{files[key]} has inputs {found_in} and outputs {found_out}, needed: {wanted_in}")
            sessions.append(session)
        return cls(section, *sessions)

    def encoder(self) -> CodecEncoder:
        """A fresh stream of audio to codes."""
        return CodecEncoder(self)

    def decoder(self) -> CodecDecoder:
        """A fresh stream of codes to audio."""
        return CodecDecoder(self)

    def run_encoder(self, frames: Float, states: States) -> tuple[Codes, States]:
        """Log bands [n <= block_frames, width] -> codes [n, K] and the states after them. Any thread."""
        codes, after = self._run(self._encoder, "codes", "frames", frames, states)
        return codes.astype(np.uint16), after

    def run_decoder(self, codes: Codes, states: States) -> tuple[Float, States]:
        """Codes [n <= block_frames, K] -> finite frames [n, width] in nats, the states after. Any thread."""
        frames, after = self._run(self._decoder, "frames", "codes", codes.astype(np.int64), states)
        return np.nan_to_num(np.minimum(frames, _LOUDEST_NATS), nan=_SILENT_NATS, neginf=_SILENT_NATS), after

    def _run(
        self, session: onnxruntime.InferenceSession, output: str, key: str, rows: npt.NDArray[Any], states: States
    ) -> tuple[npt.NDArray[Any], States]:
        count = len(rows)
        block = np.zeros((self.section.block_frames, rows.shape[1]), rows.dtype)
        block[:count] = rows
        feed = {key: block, "count": np.array([count], np.int64)}
        feed.update((f"state_{i}", state) for i, state in enumerate(states))
        results = session.run([output, *(f"new_state_{i}" for i in range(len(states)))], feed)
        return results[0][:count], tuple(results[1:])


class CodecEncoder:
    """Audio to codes, one per listening stream; not thread-safe. Frame t ends with sample hop * (t + 1)."""

    look_ahead_samples = 0

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._framer = Framer(codec.hop_samples, codec.audio_channels)
        self._analysis = StreamingAnalysis(codec.section.spectral)
        self.reset()

    def reset(self) -> None:
        """Back to before the first sample; the count of invalid samples too."""
        self._framer.reset()
        self._analysis.reset()
        self._states = self._codec.section.silent_states(self._codec.section.encoder_blocks)

    @property
    def invalid_samples(self) -> int:
        """Samples so far that were no numbers."""
        return self._framer.invalid_samples

    def push(self, pcm: Float) -> Codes:
        """Samples [n], of a stereo codec [n, 2], any n -> codes [frames, K] of every frame now complete.

        NaN and Inf count as silence. ValueError on another shape.
        """
        whole = self._framer.push(pcm)
        hop, block = self._codec.hop_samples, self._codec.section.block_frames
        count = len(whole) // hop
        out = np.empty((count, self._codec.num_codebooks), np.uint16)
        for start in range(0, count, block):
            frames = self._analysis.push(whole[start * hop : min(start + block, count) * hop])
            out[start : start + block], self._states = self._codec.run_encoder(frames, self._states)
        return out

    def snapshot(self) -> object:
        """Everything the stream is, for `restore`."""
        return (self._analysis.snapshot(), self._framer.snapshot(), self._states)

    def restore(self, snap: Any) -> None:
        """Back to the moment of `snapshot`, to the bit."""
        past, framed, self._states = snap
        self._analysis.restore(past)
        self._framer.restore(framed)


class CodecDecoder:
    """Codes to audio, one per take; not thread-safe. A chunk never decodes the past again.

    Sample i of all that `push` returned is model-time sample i - delay_samples.
    """

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._vocoder = Vocoder(codec.vocoder_tables)
        self.delay_samples = self._vocoder.delay_samples
        self.reset()

    def reset(self) -> None:
        """Back to before the first frame."""
        self._vocoder.reset()
        self._states = self._codec.section.silent_states(self._codec.section.decoder_blocks)

    def push(self, codes: Codes) -> Float:
        """Codes [frames, K] -> samples [frames * hop], of a stereo codec [.., 2]. ValueError on bad codes."""
        codec = self._codec
        check_codes(codes, codec)
        block, parts = codec.section.block_frames, [self._vocoder.push(np.zeros((0, codec.section.spectral.width)))]
        for start in range(0, len(codes), block):
            frames, self._states = codec.run_decoder(codes[start : start + block], self._states)
            parts.append(self._vocoder.push(frames))
        return np.clip(np.concatenate(parts), -MAX_AMPLITUDE, MAX_AMPLITUDE).astype(np.float32)

    def snapshot(self) -> object:
        """Everything the stream is, for `restore`."""
        return (self._vocoder.snapshot(), self._states)

    def restore(self, snap: Any) -> None:
        """Back to the moment of `snapshot`, to the bit."""
        vocoder, self._states = snap
        self._vocoder.restore(vocoder)
