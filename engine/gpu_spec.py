"""The list of graphs for GPUs beside a bundle: which, for which manifest, with which fixed sizes.

Written by `attacca export`, read by engine/backends.py. Strict like the manifest: what does not fit is refused.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from .manifest import MELODY, Manifest, ManifestError, encode_manifest
from .ring_slots import RingConfig

SPEC_FILE = "gpu.json"
SPEC_VERSION = 2
ATTIC_SLOTS = 256  # kept beyond the window for a rollback, as engine/cache.py does
_CAPACITY_STEP = 8  # what kernels in halves like
BRANCHES = 2
TYPES: dict[str, np.dtype[Any]] = {"fp16": np.dtype(np.float16), "fp32": np.dtype(np.float32)}
Described = dict[str, tuple[np.dtype[Any], tuple[int, ...]]]


class GraphFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One graph: `path` is relative, `dialect` what it is written for."""

    path: str
    sha256: str
    dialect: str
    takes: int
    data: str = ""  # weights beside a graph too big for one file
    data_sha256: str = ""


class GpuSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sizes that all graphs of a bundle share; see export/gpu_graph.py for the letters."""

    version: int
    manifest_sha256: str
    layers: int
    heads: int
    head_dim: int
    num_codebooks: int
    codebook_size: int
    conditioning_width: int
    window: int
    rows: int
    capacity: int
    history: int
    precision: str
    rotary_base: float
    prompt_tokens: int = 0  # of a decoder that attends to a prompt; 0: a stacked one
    channels: int = 1  # of sound, as positions of rows with levels count
    melody: bool = False  # conditions stand before the tokens
    graphs: tuple[GraphFile, ...] = ()

    @property
    def prompted(self) -> bool:
        return self.prompt_tokens > 0

    @property
    def absolute(self) -> bool:
        """Whether rows have their positions added, as MusicGen's; else keys are turned by them."""
        return self.prompted or self.melody

    @property
    def ring(self) -> RingConfig:
        return RingConfig(window=self.window, rows=self.rows, capacity=self.capacity)

    @property
    def dim(self) -> int:
        return self.heads * self.head_dim

    def cache(self, takes: int) -> Described:
        """Cache tensors in the graph's order."""
        shape = (BRANCHES * takes, self.heads, self.capacity, self.head_dim)
        names = [f"{part}_{layer}" for layer in range(self.layers) for part in ("key", "value")]
        return dict.fromkeys(names, (TYPES[self.precision], shape))

    def prompt(self, takes: int) -> Described:
        """What a prompt is on the device: changed seldom, so not part of a step's block."""
        if not self.prompted:
            return {}
        shape = (takes, self.heads, self.prompt_tokens, self.head_dim)
        names = [f"cross_{part}_{layer}" for layer in range(self.layers) for part in ("key", "value")]
        return dict.fromkeys(names, (TYPES[self.precision], shape))

    def step(self, takes: int) -> Described:
        """Inputs that every step brings."""
        t, r, k, v = takes, self.rows, self.num_codebooks, self.codebook_size
        i32, f32 = np.dtype(np.int32), np.dtype(np.float32)
        found: Described = {
            "stack": (i32, (t, r, k)),
            "write_slots": (np.dtype(np.int64), (t,)),
            "mask": (np.dtype(np.bool_), (t, r, self.capacity)),
            "noise": (f32, (t, k, v)),
            "temperature": (f32, (t,)),
            "guidance": (f32, (t,)),
            "top_k": (i32, (t,)),
        }
        if self.absolute:
            found |= {"position": (f32, (t, r, self.dim))}
            if self.rows > 1:
                found |= {"level": (i32, (t, r)), "row_of_level": (i32, (t, k))}
            if self.melody:
                return found | {"given": (f32, (t, BRANCHES, r, self.dim))}
            return found | {"cross_mask": (f32, (t, self.prompt_tokens))}
        turned = (f32, (t, r, self.head_dim // 2))
        return found | {
            "level": (i32, (t, r)),
            "cos": turned,
            "sin": turned,
            "cond": (f32, (t, r, self.conditioning_width)),
            "row_of_level": (i32, (t, k)),
        }

    def results(self, takes: int) -> Described:
        """Outputs that a host reads after every step; `logits` only where it asks."""
        k, v = self.num_codebooks, self.codebook_size
        return {
            "tokens": (np.dtype(np.int32), (takes, k)),
            "checksum": (np.dtype(np.float32), (takes,)),
            "logits": (np.dtype(np.float32), (takes, k, v)),
        }

    def described(self, takes: int) -> Described:
        """Every input and output of the graph."""
        fed = {"history": (np.dtype(np.int32), (takes, self.history * self.num_codebooks))}
        cache = self.cache(takes)
        outputs = {f"{name}.out": kind for name, kind in (fed | cache).items()}
        return self.step(takes) | self.prompt(takes) | fed | cache | self.results(takes) | outputs


def capacity_for(window: int, rows: int) -> int:
    """Slots of the buffer: the window, what a rollback may need, and the rows of a call at either end."""
    least = window + ATTIC_SLOTS + 2 * rows
    return -(-least // _CAPACITY_STEP) * _CAPACITY_STEP


def spec_of(manifest: Manifest, *, rows: int, history: int, precision: str, prompt_tokens: int = 0) -> GpuSpec:
    """Sizes for a bundle's graphs."""
    decoder, channels = manifest.decoder, manifest.codec.get("audio_channels", 1)
    assert isinstance(channels, int)
    return GpuSpec(
        version=SPEC_VERSION,
        manifest_sha256=manifest_sha256(manifest),
        layers=decoder.layers,
        heads=decoder.heads,
        head_dim=decoder.head_dim,
        num_codebooks=manifest.num_codebooks,
        codebook_size=manifest.codebook_size,
        conditioning_width=manifest.conditioning.width,
        window=manifest.window_frames,
        rows=rows,
        capacity=capacity_for(manifest.window_frames, rows),
        history=history,
        precision=precision,
        rotary_base=decoder.rotary_base,
        prompt_tokens=prompt_tokens,
        channels=channels,
        melody=decoder.kind == MELODY,
    )


def manifest_sha256(manifest: Manifest) -> str:
    """What ties graphs and engines to a bundle: its manifest holds the hashes of all its files."""
    return hashlib.sha256(encode_manifest(manifest)).hexdigest()


def read_spec(folder: Path, manifest: Manifest) -> GpuSpec:
    """The list in `folder`. ManifestError if there is none, it is not understood, or belongs to another bundle."""
    path = folder / SPEC_FILE
    try:
        spec = msgspec.json.decode(path.read_bytes(), type=GpuSpec)
    except OSError:
        raise ManifestError(f"no graphs for GPUs in {folder}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} is not understood: {error}") from None
    if spec.version != SPEC_VERSION:
        raise ManifestError(f"{path} has version {spec.version}, allowed: {SPEC_VERSION}")
    if spec.manifest_sha256 != manifest_sha256(manifest):
        raise ManifestError(f"{path} was made from another state of {manifest.name}")
    return spec
