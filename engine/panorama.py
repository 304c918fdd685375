"""Where sounds stand between left and right, by frequency: the stereo half of the codec's frames at the way out.

The networks see one spectrum, of both channels' mean power, and per wide band how much louder the left is than the
right (engine/spectral.py); the decoder's spectrum, whose phase is made for both alike, is shared out by it here
(intensity stereo, Herre et al. 1994). A source stays where it was; what differs between the channels in phase
alone, as reverberation does, comes out in the middle.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from attacca.engine.spectral import SpectralConfig

_MOST_NATS = 4.0  # of amplitude, left over right: 35 dB


class Panorama:
    """Gains of both channels by bin. The mean power of both is 1, so that loudness stays the levels' own."""

    def __init__(self, config: SpectralConfig) -> None:
        edges = config.pan_edges
        centres = (edges[:-1] + edges[1:] - 1) / 2
        bins = np.arange(config.num_bins)
        self._right = np.clip(np.searchsorted(centres, bins), 1, len(centres) - 1)
        gap = centres[self._right] - centres[self._right - 1]
        self._share = np.clip((bins - centres[self._right - 1]) / gap, 0.0, 1.0).astype(np.float32)

    def gains(self, pans: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Pans [..., pan_bands] in nats -> gains [..., 2, bins] of left and right."""
        values = np.clip(np.nan_to_num(pans.astype(np.float32)), -_MOST_NATS, _MOST_NATS)
        low = values.take(self._right - 1, axis=-1)
        ratio = low - values.take(self._right, axis=-1)
        ratio *= self._share
        ratio -= low
        # With r = right over left: left^2 = 2 / (1 + r^2), right = r left. One exponential a bin.
        np.exp(ratio, out=ratio)
        out = np.empty((*pans.shape[:-1], 2, len(self._share)), np.float32)
        np.sqrt(2.0 / (1.0 + ratio * ratio), out=out[..., 0, :])
        np.multiply(out[..., 0, :], ratio, out=out[..., 1, :])
        return out
