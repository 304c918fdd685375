"""What `attacca generate` does: a text, a sound or nothing in; a whole piece out, as codes and as sound.

Between the command line and engine/piece.py. The codes are written as they are, so that anyone can compare them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from attacca.bridge.audiofile import check_writable, read_audio, write_audio
from attacca.bridge.cli_group import UserError
from attacca.bridge.config import Settings
from attacca.bridge.continuing import progress_bar
from attacca.bridge.loading import load_model, sampling_of
from attacca.bridge.midi import read_melody
from attacca.engine.bundle import Model, PromptedModel
from attacca.engine.chroma import SAMPLE_RATE as CHROMA_RATE
from attacca.engine.chroma import Floats, chroma_of, phrase_rows
from attacca.engine.generator import Codes
from attacca.engine.piece import Piece, heard_codes, make_piece, resampled


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """What `attacca generate` takes. `frames` counts those of the audio prompt too."""

    frames: int
    audio_prompt: Path | None = None
    melody: Path | None = None
    greedy: bool = False
    codes: Path | None = None
    wav: Path | None = None

    def __post_init__(self) -> None:
        if self.codes is None and self.wav is None:
            raise ValueError("nothing to write: give --codes, --wav or both")
        if self.codes is not None and self.codes.suffix != ".npy":
            raise ValueError(f"--codes {self.codes} must end in .npy")


def run(options: GenerateOptions, settings: Settings) -> Piece:
    """Make a piece, write it, print what it cost. AudioFileError, ManifestError, ValueError say what is wrong."""
    for path in (options.codes, options.wav):
        if path is not None:
            check_writable(path)
    model = load_model(settings)
    if not isinstance(model, Model):
        raise UserError("the fake model has no codes to generate: name a bundle with --model")
    sampling = sampling_of(settings)
    if options.greedy:
        sampling = replace(sampling, temperature=0.0)
    if options.melody is not None:
        if not isinstance(model, PromptedModel):
            raise UserError(f"{model.manifest.name} reads no melody; leave --melody out")
        model.tell(settings.text or "", _chroma(options.melody))
    known = _known(model, options)
    began = time.perf_counter()
    with progress_bar("generating") as progress:
        piece = make_piece(model, frames=options.frames, sampling=sampling, known=known, progress=progress)
    if options.codes is not None:
        np.save(options.codes, np.ascontiguousarray(piece.codes.T))
    if options.wav is not None:
        write_audio(options.wav, piece.pcm.reshape(len(piece.pcm), -1), model.codec.sample_rate)
    seconds, length = time.perf_counter() - began, len(piece.pcm) / model.codec.sample_rate
    written = ", ".join(str(path) for path in (options.codes, options.wav) if path is not None)
    drawn = "greedy" if options.greedy else f"seed {sampling.seed}"
    print(f"{written}: {len(piece.codes)} frames, {length:.2f} s, in {seconds:.2f} s ({drawn})")
    return piece


def _chroma(path: Path) -> Floats:
    if path.suffix.lower() in (".mid", ".midi"):
        rows = phrase_rows(*read_melody(path))
        if not len(rows):
            raise UserError(f"{path} has no notes")
        return rows
    audio, rate = read_audio(path)
    return chroma_of(resampled(audio.mean(axis=1, dtype=np.float32), rate, CHROMA_RATE))


def _known(model: Model, options: GenerateOptions) -> Codes | None:
    if options.audio_prompt is None:
        return None
    codes = heard_codes(model, *read_audio(options.audio_prompt))
    if len(codes) >= options.frames:
        raise UserError(f"{options.audio_prompt} has {len(codes)} frames: --frames {options.frames} must be more")
    return codes
