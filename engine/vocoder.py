"""From the codec's frames to samples: levels to bins, phases, sides, overlap-add. The codec decoder's last stage.

Streaming: a frame never decodes the past again, and state can be taken and put back. Also what reports and
benchmarks use to hear frames that no network made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from attacca.engine.panorama import Panorama
from attacca.engine.phase import BandExpansion, StreamingPhase, noise_spectra
from attacca.engine.spectral import Float, SpectralConfig, StreamingSynthesis


@dataclass(frozen=True, kw_only=True)
class VocoderTables:
    """What all streams of one geometry share."""

    config: SpectralConfig
    noise: npt.NDArray[np.complex64]
    expansion: BandExpansion
    panorama: Panorama | None  # None: mono

    @classmethod
    def of(cls, config: SpectralConfig) -> VocoderTables:
        return cls(
            config=config,
            noise=noise_spectra(config),
            expansion=BandExpansion(config),
            panorama=Panorama(config) if config.pan_bands else None,
        )


class Vocoder:
    """One stream; not thread-safe. Sample i of all that `push` returned is model-time sample i - delay_samples."""

    def __init__(self, tables: VocoderTables) -> None:
        self._tables = tables
        self._phase = StreamingPhase(tables.config, tables.noise)
        self._synthesis = StreamingSynthesis(tables.config)
        look_ahead = self._phase.delay_sub_frames * tables.config.sub_hop_samples
        self.delay_samples = self._synthesis.delay_samples + look_ahead
        self.reset()

    def reset(self) -> None:
        """Back to before the first frame."""
        self._phase.reset()
        self._synthesis.reset()
        self._pan: Float = np.zeros((1, self._tables.config.pan_bands), np.float32)

    def push(self, frames: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Finite frames [n, width] in nats -> samples [n * hop], of a stereo geometry [n * hop, 2]."""
        tables, config = self._tables, self._tables.config
        if len(frames) == 0:
            return np.empty((0, *(() if tables.panorama is None else (2,))), np.float32)
        levels = tables.expansion(frames[:, : config.level_width].reshape(-1, config.num_bands))
        spectra = self._phase.push(levels)
        if tables.panorama is None:
            return self._synthesis.push(spectra)
        # A spectrum comes out one sub-frame after its levels went in, so its pan waits as long.
        joined = np.concatenate([self._pan, frames[:, config.level_width :].reshape(-1, config.pan_bands)])
        self._pan = joined[-1:]
        return self._synthesis.push(spectra[:, None] * tables.panorama.gains(joined[:-1]))

    def snapshot(self) -> object:
        """Everything the stream is, for `restore`."""
        return self._phase.snapshot(), self._synthesis.snapshot(), self._pan

    def restore(self, snap: Any) -> None:
        """Back to the moment of `snapshot`, to the bit."""
        phase, tail, self._pan = snap
        self._phase.restore(phase)
        self._synthesis.restore(tail)


def resynthesise(frames: npt.NDArray[np.floating], config: SpectralConfig) -> Float:
    """Frames [T, width] -> float32 [T * hop] or [.., 2] in time with them, without delay; the end is held on."""
    vocoder = Vocoder(VocoderTables.of(config))
    extra = -(-vocoder.delay_samples // config.hop_samples)
    held = np.concatenate([frames, np.repeat(frames[-1:], extra, axis=0)])
    samples = vocoder.push(held)[vocoder.delay_samples :]
    return samples[: len(frames) * config.hop_samples].astype(np.float32)
