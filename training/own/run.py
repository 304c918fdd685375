"""`attacca train` from end to end: look at the folder, fine-tune, write the bundle, score it.

Called by bridge/cli_train.py, and the API for everybody else. Nothing here prints: stages report through callbacks.
Everything lies in RUN, so the same call goes on where the last one was: RUN/data (tokens and labels), decoder.pt,
best.pt, log.jsonl, plan.json (what a run may not change), scorecard.json.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attacca.engine.bundle import find_bundle, verify_bundle
from attacca.engine.manifest import DECODER_ROLE, ManifestError, read_manifest
from attacca.training.own.dataset import Row, kept_folder, split, survey
from attacca.training.own.options import TrainOptions

_CUDA_BATCH, _CPU_BATCH = 32, 8  # crops per update and process

Progress = Callable[[str, float, str], None]  # stage, share done 0..1, what to say of it


@dataclass(frozen=True, kw_only=True)
class OwnOptions(TrainOptions):
    """What `attacca train` takes."""

    model: str = "ostinato"
    checkpoint: Path | None = None  # decoder.pt of the same sizes, in place of the bundle's weights
    workers: int = 0  # processes on a CPU; 0: by machine


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of it. `scorecard` is None in all but the first of several processes."""

    bundle: Path
    scorecard: dict[str, Any] | None


def base_bundle(options: OwnOptions) -> Path:
    """The bundle that training starts from, verified. ManifestError if it does not hold."""
    base = find_bundle(options.model)
    problems = verify_bundle(base)
    if problems:
        raise ManifestError("; ".join(problems))
    return base


def look(options: OwnOptions, progress: Progress, *, keep: bool) -> list[Row]:
    """A row for each audio file, by name; with `keep`, tokens and labels are written for training."""
    base = base_bundle(options)
    manifest = read_manifest(base)
    return survey(
        options.data,
        base.resolve(),
        keep=kept_folder(options.run_folder / "data") if keep else None,
        shortest_s=manifest.window_frames / manifest.frames_per_second + 0.1,
        workers=options.workers or os.cpu_count() or 1,
        progress=lambda share: progress("listening", share, ""),
    )


def check_plan(options: OwnOptions, base: Path) -> None:
    """ValueError if RUN was begun otherwise than we are asked to go on; begins it if it is new."""
    plan = {
        "base_decoder_sha256": read_manifest(base).files[DECODER_ROLE].sha256,
        "checkpoint": None if options.checkpoint is None else str(options.checkpoint.resolve()),
        "data": str(options.data.resolve()),
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


def train_own(
    options: OwnOptions, progress: Progress, *, show: Callable[[list[Row], dict[str, str]], None]
) -> Result:
    """All of it; under torchrun every process calls this. `show` is given the files and their splits.

    ValueError, ManifestError and ExportError say what is wrong; KeyboardInterrupt leaves a run that goes on.
    """
    import torch

    from attacca.training.own.distributed import world
    from attacca.training.own.finetune import LEARNING_RATE, fine_tune, recipe
    from attacca.training.own.release import check_out

    base, run, data = base_bundle(options), options.run_folder, options.run_folder / "data"
    check_out(options.bundle)
    with world(options.device) as here:
        rows: list[Row] = []
        if here.first:
            check_plan(options, base)
            rows = look(options, progress, keep=True)
            show(rows, split(rows, data, share=options.heldout, seed=options.seed))
        here.wait()
        cuda = here.device.startswith("cuda")
        workers = 1 if cuda or here.size > 1 else options.workers or _workers()
        if not cuda:
            torch.set_num_threads(1)  # processes share a batch better than threads do, see training/helpers.py
        config = recipe(
            window_frames=read_manifest(base).window_frames,
            minutes=options.minutes,
            updates=options.updates,
            batch=options.batch or here.size * (_CUDA_BATCH if cuda else _CPU_BATCH),
            learning_rate=options.learning_rate or LEARNING_RATE,
            seed=options.seed,
            workers=workers,
        )
        history = fine_tune(
            _start(options, base),
            read_manifest(base).conditioning.layout,
            data,
            run,
            config,
            here,
            on_update=lambda share, bits: progress("training", share, f"{bits:.2f} bits per frame"),
        )
        scorecard = _finish(options, base, rows, history, progress) if here.first else None
        here.wait()
    return Result(bundle=options.bundle, scorecard=scorecard)


def _workers() -> int:
    """Processes on a CPU that share a batch of _CPU_BATCH: as many cores as divide it."""
    cores = os.cpu_count() or 1
    return next(count for count in (8, 4, 2, 1) if count <= cores)


def _start(options: OwnOptions, base: Path) -> Any:
    """The decoder to begin with. ValueError if a given checkpoint does not fit the bundle."""
    from attacca.training.decoder_train import load_decoder
    from attacca.training.own.weights import read_decoder

    decoder = read_decoder(base)
    if options.checkpoint is None:
        return decoder
    given = load_decoder(options.checkpoint)
    if given.config != decoder.config:
        raise ValueError(f"{options.checkpoint} holds {given.config}, {options.model} has {decoder.config}")
    return given


def _finish(
    options: OwnOptions, base: Path, rows: list[Row], history: list[dict[str, Any]], progress: Progress
) -> dict[str, Any]:
    """Bundle and scorecard, by the first process."""
    from attacca.training.decoder_train import load_decoder
    from attacca.training.own.finetune import BEST
    from attacca.training.own.release import write_fine_tuned
    from attacca.training.own.scorecard import bits_table, onset_table

    run, used = options.run_folder, [row for row in rows if not row.problem]
    bits = bits_table(history)
    progress("exporting", 0.0, options.precision)
    write_fine_tuned(
        load_decoder(run / BEST),
        base,
        options.bundle,
        name=options.name,
        precision=options.precision,
        provenance={
            "data": "the user's own audio, beats and chords estimated",
            "files": len(used),
            "seconds": round(sum(row.seconds for row in used)),
            "seed": options.seed,
            "decoder_updates": bits["after"]["updates"],
            "heldout_bits_per_frame_before": bits["before"]["bits_per_frame"],
            "heldout_bits_per_frame": bits["after"]["bits_per_frame"],
        },
    )
    progress("exporting", 1.0, options.precision)
    onsets = onset_table(
        {"before": base, "after": options.bundle},
        run / "data",
        seed=options.seed,
        progress=lambda share: progress("scoring", share, ""),
    )
    scorecard = {"bits": bits, "onset_f1_70ms": onsets}
    (run / "scorecard.json").write_text(json.dumps(scorecard, indent=1), encoding="utf-8")
    return scorecard
