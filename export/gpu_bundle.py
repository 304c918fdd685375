"""A bundle's graphs for GPUs, from the weights in its own graph: what `attacca export` writes.

Between a bundle (engine/bundle.py) and engine/backends.py. The graphs lie in the bundle's folder `gpu` or in the
user's cache, with a list that names the manifest they were made from (engine/gpu_spec.py).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import onnx
from msgspec import UNSET

from attacca.engine.gpu_spec import SPEC_FILE, GpuSpec, GraphFile, spec_of
from attacca.engine.manifest import (
    DECODER_ROLE,
    MELODY,
    MUSICGEN,
    Manifest,
    ManifestError,
    manifest_pattern,
    read_manifest,
)
from attacca.export.bundle_weights import read_musicgen, read_weights
from attacca.export.gpu_graph import build_gpu_decoder
from attacca.export.gpu_musicgen import build_gpu_musicgen
from attacca.export.gpu_ops import PRECISIONS, GpuExport
from attacca.export.weight_pool import WeightPool

MAX_SINGLE_BYTES = 1 << 30  # of a graph with its weights in it; protobuf takes 2 GB at most
# What each runtime is given: onnxruntime its fused nodes, TensorRT the operators that its parser maps to its own.
DIALECTS = {
    "onnxruntime": {"dialect": "onnxruntime", "attention": "plain"},
    "standard": {"dialect": "standard", "attention": "operator"},
}
_LEAST_HISTORY = 16
_TOKEN_STEP = 16  # so that every seat's share of a prompt begins where a device wants it to


def sizes_of(manifest: Manifest, precision: str = "fp16") -> GpuSpec:
    """Fixed sizes for a bundle: the rows of a step, tokens fed back. ManifestError if it has no graph for GPUs."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}, allowed: {', '.join(PRECISIONS)}")
    pattern, kind = manifest_pattern(manifest), manifest.decoder.kind
    if kind not in (UNSET, "stacked", MUSICGEN, MELODY) or (kind == MELODY and pattern.family == "stack"):
        raise ManifestError(
            f"{manifest.name} is of kind {kind!r} with the pattern {pattern.name}: no graph for GPUs"
        )
    most = 1 if manifest.text is UNSET else manifest.text.max_tokens
    reach = pattern.lag_steps + pattern.num_codebooks * pattern.steps_per_timestep + 1
    return spec_of(
        manifest,
        rows=pattern.num_codebooks + 1 if pattern.family == "stack" else 1,
        history=max(_LEAST_HISTORY, reach),
        precision=precision,
        prompt_tokens=-(-2 * most // _TOKEN_STEP) * _TOKEN_STEP if kind == MUSICGEN else 0,
    )


def build(bundle: Path, spec: GpuSpec, manifest: Manifest, *, takes: int, dialect: str) -> onnx.ModelProto:
    """The graph of one dialect, from the weights in the bundle's graph. ValueError if they are not what it says."""
    graph = onnx.load(bundle / manifest.files[DECODER_ROLE].path)
    options = GpuExport(
        rows=spec.rows,
        capacity=spec.capacity,
        history=spec.history,
        takes=takes,
        precision=spec.precision,
        **DIALECTS[dialect],
    )
    if not spec.absolute:
        weights = read_weights(graph, num_codebooks=spec.num_codebooks)
        return build_gpu_decoder(weights, options, heads=spec.heads, window_frames=spec.window)
    sizes = {"layers": spec.layers, "heads": spec.heads, "num_codebooks": spec.num_codebooks}
    read, shape = read_musicgen(graph, **sizes, melody=spec.melody)
    return build_gpu_musicgen(read, shape, options, window_frames=spec.window, prompt_tokens=spec.prompt_tokens)


def write_graphs(
    bundle: Path,
    out: Path,
    *,
    precision: str = "fp16",
    takes: tuple[int, ...] = (1,),
    dialects: tuple[str, ...] = tuple(DIALECTS),
) -> GpuSpec:
    """Write a verified bundle's graphs and their list into `out`. ManifestError or ValueError says what is off."""
    manifest = read_manifest(bundle)
    spec = sizes_of(manifest, precision)
    out.mkdir(parents=True, exist_ok=True)
    files = []
    pool = WeightPool(out / f"weights-{precision}.data") if len(takes) * len(dialects) > 1 else None
    for count in takes:
        for dialect in dialects:
            model = build(bundle, spec, manifest, takes=count, dialect=dialect)
            name = f"step-{precision}-{dialect}-t{count}.onnx"
            files.append(save(model, out, name, dialect=dialect, takes=count, pool=pool))
    if pool is not None:
        known = _sha256(pool.path)
        files = [msgspec.structs.replace(file, data_sha256=known) for file in files]
    spec = msgspec.structs.replace(spec, graphs=tuple(files))
    (out / SPEC_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(spec), indent=1) + b"\n")
    return spec


def save(
    model: onnx.ModelProto, out: Path, name: str, *, dialect: str, takes: int, pool: WeightPool | None = None
) -> GraphFile:
    """Write a graph, its weights beside it if they are many, or in a pool, whose hash is not known yet."""
    path, data = out / name, ""
    if pool is not None:
        pool.take(model)
        path.write_bytes(model.SerializeToString(deterministic=True))
        return GraphFile(path=name, sha256=_sha256(path), dialect=dialect, takes=takes, data=pool.path.name)
    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) <= MAX_SINGLE_BYTES:
        path.write_bytes(model.SerializeToString(deterministic=True))
    else:
        data = f"{name}.data"
        (out / data).unlink(missing_ok=True)
        onnx.save(model, path, save_as_external_data=True, location=data, size_threshold=1024)
    return GraphFile(
        path=name,
        sha256=_sha256(path),
        dialect=dialect,
        takes=takes,
        data=data,
        data_sha256=_sha256(out / data) if data else "",
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
