"""What the decoder's tests share: the committed tiny bundle's decoder, a source of conditions, a seed's codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from attacca.engine.bundle import manifest_pattern
from attacca.engine.decoder import PatternDecoder
from attacca.engine.generator import Sampling
from attacca.engine.manifest import Manifest, read_manifest
from attacca.engine.runtime import StepRuntime

TINY = Path(__file__).parent / "data" / "tiny"
TINY_LAYOUT = read_manifest(TINY).conditioning.layout
SAMPLING = Sampling(seed=5, temperature=1.0, guidance=2.0)


class Source:
    """The vector of a frame follows from the frame, the salt, and nothing else; remembers what was asked."""

    def __init__(self, salt: int = 0) -> None:
        self.salt = salt
        self.asked: set[int] = set()

    def rows(self, first_frame: int, count: int) -> np.ndarray:
        frames = range(first_frame, first_frame + count)
        self.asked.update(frames)
        width = TINY_LAYOUT.width
        return np.stack([np.random.default_rng([self.salt, t]).standard_normal(width) for t in frames]).astype(
            np.float32
        )


def tiny_runtime(manifest: Manifest | None = None) -> StepRuntime:
    manifest = manifest or read_manifest(TINY)
    return StepRuntime((TINY / manifest.files["decoder"].path).read_bytes(), manifest)


def tiny_decoder(runtime: StepRuntime) -> PatternDecoder:
    return PatternDecoder(runtime, manifest_pattern(runtime.manifest))


def random_codes(frames: int, seed: int = 1, size: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, size, (frames, 4)).astype(np.uint16)


def listening(runtime: StepRuntime, frames: int, source: Source | None = None) -> PatternDecoder:
    """A decoder that has heard `frames` frames."""
    decoder = tiny_decoder(runtime)
    if frames:
        decoder.listen(random_codes(frames), (source or Source()).rows(0, frames))
    return decoder
