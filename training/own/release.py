"""The new bundle: the fine-tuned decoder exported beside the base's codec; the last stage of `attacca train`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec
import numpy as np

from attacca.engine.bundle import load_bundle, verify_bundle
from attacca.engine.generator import Sampling
from attacca.engine.manifest import DECODER_BATCH_ROLE, DECODER_ROLE, MANIFEST_FILE, Manifest, read_manifest
from attacca.export.batch import FILE as BATCH_FILE
from attacca.export.bundle import write_bundle
from attacca.export.export_bundle import DECODER_FILE, ExportError, export_decoder
from attacca.export.verify import BeatSource
from attacca.training.decoder_model import Decoder

FINE_TUNED = "fine_tuned_from"  # in the provenance: what `attacca train` made, and may write again
Provenance = dict[str, str | int | float | bool | None]


def check_out(out: Path) -> None:
    """ValueError if `out` holds anything but a bundle that `attacca train` made."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / MANIFEST_FILE).is_file() or FINE_TUNED not in read_manifest(out).provenance:
        raise ValueError(f"{out} is there already and was not made by attacca train; choose another --out")


def write_fine_tuned(
    model: Decoder, base: Path, out: Path, *, name: str, precision: str, provenance: Provenance
) -> Manifest:
    """Write the bundle `out`, whole or not at all. ExportError if its graphs differ from torch or do not play."""
    check_out(out)
    manifest = read_manifest(base)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        metrics: dict[str, float] = {}
        section = export_decoder(
            model,
            partial / DECODER_FILE,
            manifest.conditioning.layout,
            precision=precision,
            kv_bits=manifest.decoder.kv_bits,
            metrics=metrics,
        )
        files = {DECODER_ROLE: DECODER_FILE, DECODER_BATCH_ROLE: BATCH_FILE}
        for role, entry in manifest.files.items():
            if role not in files:
                files[role] = Path(entry.path).name
                shutil.copyfile(base / entry.path, partial / files[role])
        told: Provenance = {FINE_TUNED: f"{manifest.name} {manifest.version}"}
        told["base_decoder_sha256"] = manifest.files[DECODER_ROLE].sha256
        told |= provenance | {key: float(f"{value:.4g}") for key, value in metrics.items()}
        fields = {key: getattr(manifest, key) for key in msgspec.structs.asdict(manifest)}
        for key in ("format_version", "files"):
            del fields[key]
        fields |= {"name": name, "version": "1", "decoder": section, "provenance": told}
        written = write_bundle(partial, fields, files)
        _play(partial, written)
        if out.exists():
            shutil.rmtree(out)
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return written


def _play(bundle: Path, manifest: Manifest) -> None:
    """Load what was written as a user would, and play a second. ExportError if it is broken."""
    problems = verify_bundle(bundle)
    if problems:
        raise ExportError("; ".join(problems))
    model, frames = load_bundle(bundle), min(round(manifest.frames_per_second), manifest.window_frames)
    generator = model.generator()
    source = BeatSource(model.conditioning, frames_per_second=manifest.frames_per_second)
    generator.plan(frames, source, Sampling())
    if not np.isfinite(model.codec.decoder().push(generator.read(0, frames))).all():
        raise ExportError(f"{bundle} plays samples that are not finite")
