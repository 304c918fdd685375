"""The bundle of trained MusicGen weights: step and prompt graphs anew, codec and text encoder as in the base.

The last stage of `attacca train --init`. What is written is compared with torch and played first.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from attacca.engine.bundle import PromptedModel, load_bundle
from attacca.engine.generator import Codes, Sampling
from attacca.engine.manifest import (
    DECODER_BATCH_ROLE,
    DECODER_DATA_ROLE,
    DECODER_ROLE,
    MANIFEST_FILE,
    DecoderSection,
    Manifest,
    PatternSection,
    read_manifest,
)
from attacca.engine.piece import make_piece
from attacca.engine.scoring import forced_logits
from attacca.export.batch import DEFAULT_TAKES, build_step_batch, save_batch
from attacca.export.bundle import write_bundle
from attacca.export.export_bundle import ExportError
from attacca.export.musicgen import MusicgenExport, Weights, build_prompt, build_step
from attacca.export.musicgen_bundle import DECODER_FILE, PROMPT_FILE, save_step
from attacca.export.musicgen_checkpoint import MusicgenShape
from attacca.export.musicgen_stacked import build_stacked_step
from attacca.training.decoder_model import LayoutTensors
from attacca.training.layout import build_layout
from attacca.training.musicgen_model import MusicgenModel
from attacca.training.own.musicgen_tune import BEST, Tuner

TRAINED = "trained_from"  # in the provenance: what `attacca train --init` made, and may write again
_COMPARED_FRAMES = 32
_MOST_APART = {"fp32": 1e-3, "fp16": 3e-2}  # RMS of logits, of their spread; coarser weights are as far as they are


def check_out(out: Path) -> None:
    """ValueError if `out` holds anything but a bundle that `attacca train --init` made."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / MANIFEST_FILE).is_file() or TRAINED not in read_manifest(out).provenance:
        raise ValueError(f"{out} is there already and was not made by attacca train --init; choose another --out")


def write_trained(tuner: Tuner, base: Path, options: Any, scorecard: dict[str, Any]) -> Manifest:
    """Write the best weights as a bundle, whole or not at all. ExportError if its graphs differ from torch."""
    out: Path = options.bundle
    check_out(out)
    model = tuner.model
    model.load_state_dict(torch.load(tuner.run / BEST, map_location=tuner.device, weights_only=True)["average"])
    model.to("cpu").eval()
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        manifest = read_manifest(base)
        files = _write_graphs(partial, model, manifest, options.precision)
        for role, entry in manifest.files.items():
            if role not in (*files, DECODER_DATA_ROLE, DECODER_BATCH_ROLE):
                files[role] = Path(entry.path).name
                shutil.copyfile(base / entry.path, partial / files[role])
        fields = _fields(manifest, model, options, scorecard)
        written = write_bundle(partial, fields, files)
        fields["provenance"] |= _compare(partial, model, tuner.songs.codes[0][:_COMPARED_FRAMES], options.precision)
        written = write_bundle(partial, fields, files)
        if out.exists():
            shutil.rmtree(out)
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return written


def _write_graphs(folder: Path, model: MusicgenModel, manifest: Manifest, precision: str) -> dict[str, str]:
    weights: Weights = model.weights()
    shape: MusicgenShape = model.shape
    export = MusicgenExport(window_frames=manifest.window_frames, precision=precision)
    build = build_stacked_step if model.pattern.family == "stack" else build_step
    files = save_step(folder, build(weights, shape, export))
    if model.pattern.family == "row" and shape.cross:
        several = build_step_batch(weights, shape, export, DEFAULT_TAKES)
        files[DECODER_BATCH_ROLE] = save_batch(several, folder / DECODER_FILE)
    if manifest.text is not msgspec.UNSET:
        prompt = build_prompt(weights, shape, export).SerializeToString(deterministic=True)
        (folder / PROMPT_FILE).write_bytes(prompt)
        files["prompt"] = PROMPT_FILE
    return files


def _fields(manifest: Manifest, model: MusicgenModel, options: Any, scorecard: dict[str, Any]) -> dict[str, Any]:
    fields = msgspec.structs.asdict(manifest)
    for key in ("format_version", "files", "origin"):
        del fields[key]
    decoder: DecoderSection = msgspec.structs.replace(manifest.decoder, precision=options.precision, kv_bits=32)
    pattern, channels = model.pattern, model.pattern.channels
    section = PatternSection(name=pattern.name, p=pattern.p, channels=channels if channels > 1 else msgspec.UNSET)
    told = {
        TRAINED: f"{manifest.name} {manifest.version}",
        "base_decoder_sha256": manifest.files[DECODER_ROLE].sha256,
        "data": "the user's own audio",
        "seed": options.seed,
        "updates": scorecard["after"]["updates"],
        "heldout_bits_per_frame_delay": scorecard["before"]["bits_per_frame"],
        "heldout_bits_per_frame_start": scorecard["start"]["bits_per_frame"],
        "heldout_bits_per_frame": scorecard["after"]["bits_per_frame"],
    }
    kept = {key: manifest.provenance[key] for key in ("repo", "commit", "source") if key in manifest.provenance}
    named = {"name": Path(options.out).name, "version": "1", "pattern": section, "decoder": decoder}
    return fields | named | {"provenance": kept | told}


def _compare(bundle: Path, model: MusicgenModel, codes: Codes, precision: str) -> dict[str, float]:
    """Load what was written as a user would: its logits against torch's, and a piece. ExportError if broken."""
    loaded = load_bundle(bundle)
    assert isinstance(loaded, PromptedModel)
    found = forced_logits(loaded, codes)
    expected = torch_logits(model, codes)
    apart = np.stack([found[cell] - row for cell, row in expected.items()])
    spread = float(np.stack(list(expected.values())).std())
    share = float(np.sqrt(np.mean(apart**2))) / max(spread, 1e-9)
    if not np.isfinite(share) or share > _MOST_APART.get(precision, np.inf):
        raise ExportError(f"logits of the {precision} bundle are {share:.2g} of their spread off torch's")
    piece = make_piece(loaded, frames=len(codes), sampling=Sampling())
    if not np.isfinite(piece.pcm).all():
        raise ExportError(f"{bundle} plays samples that are not finite")
    return {"logits_rms_share_off_torch": float(f"{share:.3g}")}


@torch.no_grad()
def torch_logits(model: MusicgenModel, codes: Codes) -> dict[tuple[int, int], np.ndarray]:
    """Logits [V] by (frame, codebook) of codes [T, K] without a text, from the beginning."""
    layout = build_layout(model.pattern, len(codes), 0, model.window_frames)
    tensors = LayoutTensors(layout, torch.device("cpu"), torch.float32)
    nothing = torch.zeros(1, 1, model.shape.text_dim), torch.zeros(1, 1)
    outputs = model.forward_layout(torch.from_numpy(codes.astype(np.int64))[None], *nothing, tensors)[0]
    found: dict[tuple[int, int], np.ndarray] = {}
    for k, (rows, times) in enumerate(zip(layout.target_rows, layout.target_timesteps, strict=True)):
        found |= {(int(t), k): row for t, row in zip(times, model.logits(outputs[rows], k).numpy(), strict=True)}
    return found
