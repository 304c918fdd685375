"""How large and how long `python -m benchmarks.peers` runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from attacca.bridge.bench_bandwidth import BUFFER_BYTES
from attacca.export.shapes import OSTINATO, SHAPES, Shape


@dataclass(frozen=True, kw_only=True)
class Options:
    """Sizes and lengths of a run; `tiny` ones finish in seconds and mean nothing but that everything runs."""

    tiny: bool = False
    threads: int = 2
    backend: str = "auto"  # of ours: our kernels and onnxruntime; or one of them: "native", "cpu"
    window: int = 500
    steps: int = 300  # of ours and of torch's
    peer_steps: int = 60  # of transformers', around a context of `window`
    path_s: float = 30.0
    chunk_frames: int = 50  # of the streamer: a second
    chunks: int = 20
    compiler: str = "inductor"
    buffer_bytes: int = BUFFER_BYTES  # of the memory probe
    folder: str = ""
    limit_s: float | None = None  # a row of ours or of torch's ends after so long, whatever it has
    minutes: float | None = None  # of the whole run; parts that it leaves no time for are noted

    def within(self, minutes: float) -> Options:
        """The same in about so many minutes at most: rows end by time, and what then has not begun is left out."""
        return replace(self, minutes=minutes, limit_s=0.4 * minutes, path_s=1.0 * minutes, peer_steps=40, chunks=12)

    @property
    def musicgen(self) -> Shape:
        small = SHAPES["musicgen-small"]
        sizes: dict[str, Any] = {"layers": 2, "dim": 128, "hidden": 256, "codebook_size": 64}
        return replace(small, **sizes, sample_rate=8000, hop_samples=80) if self.tiny else small

    @property
    def ours(self) -> Shape:
        sizes: dict[str, Any] = {"layers": 2, "dim": 128, "hidden": 128, "codebook_size": 32, "num_codebooks": 3}
        return replace(OSTINATO, **sizes) if self.tiny else OSTINATO


TINY = Options(
    buffer_bytes=1 << 22,
    tiny=True,
    threads=1,
    window=60,
    steps=12,
    peer_steps=8,
    path_s=1.0,
    chunk_frames=10,
    chunks=3,
    compiler="eager",
)
