"""`attacca train --init` from end to end: published MusicGen weights, a user's folder, another codebook pattern.

Called by bridge/cli_train.py, and the API for everybody else. Nothing here prints: stages report through callbacks.
Everything lies in RUN, so the same call goes on where the last one was: RUN/base (the bundle of a checkpoint's
folder), RUN/tokens, split.json, plan.json (what a run may not change), musicgen.pt, best.pt, scorecard.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from attacca.engine.bundle import find_bundle, verify_bundle
from attacca.engine.manifest import DECODER_ROLE, ManifestError, read_manifest
from attacca.engine.pattern import Pattern, make_pattern
from attacca.training.own.musicgen_data import Heard, Songs, Texts, listen, split
from attacca.training.own.options import TrainOptions

PATTERNS = ("stack-delay", "stack", "delay")
CROP_FRAMES = 500
_CUDA_BATCH, _CPU_BATCH = 16, 4

Progress = Callable[[str, float, str], None]  # stage, share done 0..1, what to say of it


@dataclass(frozen=True, kw_only=True)
class InitOptions(TrainOptions):
    """What `attacca train --init` takes."""

    init: str  # name or folder of a bundle, or a checkpoint's folder
    pattern: str = "stack-delay"
    p: int = 3
    text: str = ""  # of songs that have no text file beside them
    crop_frames: int = CROP_FRAMES

    LIMITS: ClassVar = TrainOptions.LIMITS | {"p": (1, 16)}
    CHOICES: ClassVar = TrainOptions.CHOICES | {"pattern": PATTERNS}


@dataclass(frozen=True, kw_only=True)
class InitResult:
    """What came of it."""

    bundle: Path
    scorecard: dict[str, Any]


def base_bundle(options: InitOptions) -> Path:
    """The bundle whose codec and text encoder are used, verified; made of a checkpoint's folder if that is given.

    ManifestError, CheckpointError or ValueError say what is wrong.
    """
    if not _is_checkpoint(options.init):
        base = find_bundle(options.init)
    else:
        base = options.run_folder / "base"
        if verify_bundle(base):
            from attacca.export.musicgen_bundle import ConvertOptions, convert_musicgen

            convert_musicgen(Path(options.init), base, ConvertOptions(precision=options.precision))
    problems = verify_bundle(base)
    if problems:
        raise ManifestError("; ".join(problems))
    return base


def _is_checkpoint(init: str) -> bool:
    folder = Path(init)
    return any((folder / name).is_file() for name in ("config.json", "state_dict.bin"))


def look(options: InitOptions, progress: Progress, *, keep: bool) -> list[Heard]:
    """A row for each audio file, by name; with `keep`, tokens are written for training."""
    return listen(
        options.data,
        base_bundle(options),
        options.run_folder / "tokens" if keep else None,
        text=options.text,
        shortest_frames=options.crop_frames,
        progress=lambda share: progress("listening", share, ""),
    )


def train_init(
    options: InitOptions, progress: Progress, *, show: Callable[[list[Heard], dict[str, str]], None]
) -> InitResult:
    """All of it. `show` is given the files and their splits.

    ValueError, ManifestError and ExportError say what is wrong; KeyboardInterrupt leaves a run that goes on.
    """
    import torch

    from attacca.training.own.finetune import stopping
    from attacca.training.own.musicgen_release import check_out, write_trained
    from attacca.training.own.musicgen_tune import LEARNING_RATE, Recipe, Tuner

    base, run = base_bundle(options), options.run_folder
    check_out(options.bundle)
    pattern = pattern_of(options, base)
    _check_plan(options, base)
    heard = look(options, progress, keep=True)
    splits = split(heard, run, share=options.heldout, seed=options.seed)
    show(heard, splits)
    start, texts = _start(options, base), Texts(base)
    songs, heldout = (
        Songs([row for row in heard if splits.get(row.name) == part], run / "tokens", texts)
        for part in ("train", "heldout")
    )
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    recipe = Recipe(
        minutes=options.minutes,
        updates=options.updates,
        batch=options.batch or (_CUDA_BATCH if device.startswith("cuda") else _CPU_BATCH),
        crop_frames=options.crop_frames,
        learning_rate=options.learning_rate or LEARNING_RATE,
        seed=options.seed,
    )
    tuner = Tuner(start, pattern, read_manifest(base).window_frames, recipe, songs, heldout, run, device=device)
    resumed = tuner.load()
    before = _before(tuner, start, run, resumed=resumed)
    with stopping(tuner):
        tuner.train(lambda share, bits: progress("training", share, f"{bits:.2f} bits per frame"))
    progress("exporting", 0.0, options.precision)
    scorecard = {"pattern": pattern.name, "p": pattern.p, **_bits_table(before, tuner.history)}
    write_trained(tuner, base, options, scorecard)
    (run / "scorecard.json").write_text(json.dumps(scorecard, indent=1), encoding="utf-8")
    progress("exporting", 1.0, options.precision)
    return InitResult(bundle=options.bundle, scorecard=scorecard)


def pattern_of(options: InitOptions, base: Path) -> Pattern:
    """The pattern that is asked for. Delay draws a stereo model's sides together, as the published models do."""
    manifest = read_manifest(base)
    channels = int(str(manifest.codec["audio_channels"])) if options.pattern == "delay" else 1
    return make_pattern(options.pattern, manifest.num_codebooks, p=options.p, channels=channels)


def _start(options: InitOptions, base: Path) -> Any:
    from attacca.training.musicgen_weights import read_bundle, read_checkpoint

    return read_checkpoint(Path(options.init)) if _is_checkpoint(options.init) else read_bundle(base)


def _check_plan(options: InitOptions, base: Path) -> None:
    """ValueError if RUN was begun otherwise than we are asked to go on; begins it if it is new."""
    plan = {
        "base_decoder_sha256": read_manifest(base).files[DECODER_ROLE].sha256,
        "pattern": options.pattern,
        "p": options.p,
        "data": str(options.data.resolve()),
        "crop_frames": options.crop_frames,
        "seed": options.seed,
        "heldout": options.heldout,
    }
    path = options.run_folder / "plan.json"
    if path.is_file():
        begun = json.loads(path.read_text(encoding="utf-8"))
        for key, value in plan.items():
            if begun.get(key) != value:
                raise ValueError(
                    f"{options.run_folder} was begun with {key} {begun.get(key)}, now it is {value}; "
                    "give another --run or --out, or remove that folder"
                )
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plan, indent=1), encoding="utf-8")


def _before(tuner: Any, start: Any, run: Path, *, resumed: bool) -> dict[str, Any]:
    """Bits of the weights as they came, under the pattern they came with, on the same held-out cells."""
    path = run / "before.json"
    if resumed and path.is_file():
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    from attacca.training.musicgen_model import MusicgenModel

    shape = start.shape
    channels = shape.audio_channels if start.pattern == "delay" else 1
    pattern = make_pattern(start.pattern, shape.num_codebooks, p=start.p, channels=channels)
    model = MusicgenModel(shape, pattern, window_frames=tuner.model.window_frames)
    model.start(start.weights)
    found = {"pattern": start.pattern, **tuner.bits.of(model.to(tuner.device))}
    path.write_text(json.dumps(found), encoding="utf-8")
    return found


def _bits_table(before: dict[str, Any], history: list[dict[str, Any]]) -> dict[str, Any]:
    """Held-out bits: of the weights as they came, of the new pattern at first, at its best and at last."""
    since = history[1:] or history
    best = min(since, key=lambda line: float(line["bits_per_frame"]))
    return {"before": before, "start": history[0], "after": best, "last": since[-1]}
