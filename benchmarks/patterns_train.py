"""Training for the comparison of patterns: every model alike, its learning curve, and bits over the same cells.

Between the token songs and benchmarks/patterns.py. At the edges of a crop a pattern's schedule leaves other cells
(timestep, codebook) unpredicted than another's; bits are taken over the cells that all of them predict, so that all
are asked the same questions. The learning rate stays level and weights are averaged, so that a curve, against
updates or seconds of processor time, may be read anywhere, and a finished model may be trained further.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from attacca.engine.pattern import Pattern, make_pattern
from attacca.export.export_bundle import CODEC_CHECKPOINT
from attacca.training.codec_train import State
from attacca.training.codewords import codewords_of, fold
from attacca.training.decoder_data import TokenSongs
from attacca.training.decoder_model import Decoder, LayoutTensors, sized
from attacca.training.decoder_train import CHECKPOINT, TrainConfig, Trainer
from attacca.training.layout import build_layout

BITS_FILE = "bits.json"
_EVALUATION_BATCH = 8
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is the same for every model."""

    size: str = "2x128"  # layers x width
    codebooks: int = 4  # the coarsest of the tokens' levels; the paper has four
    crop_frames: int = 128
    prefixes: tuple[int, ...] = (0, 32, 64)
    updates: int = 200
    batch: int = 4
    learning_rate: float = 4e-3
    train_songs: int = 400  # at most
    curve_every: int = 30  # updates
    crops_per_song: int = 4  # of the last evaluation; along the curve there is one

    def __post_init__(self) -> None:
        for name in ("codebooks", "updates", "train_songs", "curve_every", "crops_per_song"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, must be 1 or more")

    def recipe(self, seed: int) -> TrainConfig:
        """Training of one model: after ten updates the rate stays level, however many there are."""
        return TrainConfig(
            updates=self.updates,
            batch=self.batch,
            crop_frames=self.crop_frames,
            prefixes=self.prefixes,
            learning_rate=self.learning_rate,
            final_rate=1.0,
            warm_up=10.0 / self.updates,
            ema=0.98,
            seed=seed,
        )


def coarse_codec(run: Path, out: Path, codebooks: int) -> None:
    """Writes OUT/codec.pt: the codec of a run with its coarsest levels only, which is a codec by itself.

    A residual quantiser chooses level by level, so the first columns of stored tokens are its tokens. ValueError
    where the run has no quantiser or fewer levels.
    """
    state = State.load(run / CODEC_CHECKPOINT)
    if state.quantizer is None or len(state.quantizer.codebooks) < codebooks:
        raise ValueError(f"the codec of {run} has fewer than {codebooks} codebooks, or no quantiser yet")
    state.quantizer = replace(state.quantizer, codebooks=state.quantizer.codebooks[:codebooks])
    state.net.config = replace(state.net.config, num_codebooks=codebooks)
    state.optimizer = None
    out.mkdir(parents=True, exist_ok=True)
    state.save(out / CODEC_CHECKPOINT)


def load_songs(data: Path, split: str, codebooks: int, *, limit: int | None = None) -> TokenSongs:
    """The songs of a split with the coarsest codebooks of their tokens."""
    songs = TokenSongs(data, split, limit=limit)
    songs.codes = [codes[:, :codebooks] for codes in songs.codes]
    songs.num_codebooks = codebooks
    return songs


class Exam:
    """Held-out crops, the same for all, and the cells of them that every pattern predicts."""

    def __init__(self, heldout: TokenSongs, patterns: Sequence[Pattern], config: Training) -> None:
        """The first quarter of each crop is known to the decoder."""
        self.songs, self.config, self.prefix = len(heldout.codes), config, config.crop_frames // 4
        self.codes, self.cond = heldout.fixed(config.crops_per_song * self.songs, config.crop_frames)
        found = [self._layout(p).target_timesteps for p in patterns]
        books = patterns[0].num_codebooks
        self.times = [sorted(set.intersection(*(set(map(int, times[k])) for times in found))) for k in range(books)]
        if not all(self.times):
            raise ValueError(f"crops of {config.crop_frames} frames leave no cell that every pattern predicts")

    def _layout(self, pattern: Pattern) -> Any:
        slots = pattern.context_slots(self.config.crop_frames)
        return build_layout(pattern, self.config.crop_frames, self.prefix, slots)

    @torch.no_grad()
    def bits(self, model: Decoder, *, crops_per_song: int | None = None) -> Array:
        """[songs, K] mean bits of each song's cells, fully conditioned."""
        count = self.songs * (crops_per_song or self.config.crops_per_song)
        layout = self._layout(model.config.make_pattern())
        rows = []
        for times, found, targets in zip(self.times, layout.target_timesteps, layout.target_rows, strict=True):
            row_of = dict(zip(map(int, found), map(int, targets), strict=True))
            rows.append(torch.tensor([row_of[t] for t in times]))
        tensors = LayoutTensors(layout, torch.device("cpu"), torch.bfloat16)
        parts = zip(
            self.codes[:count].split(_EVALUATION_BATCH), self.cond[:count].split(_EVALUATION_BATCH), strict=True
        )
        with torch.autocast("cpu", torch.bfloat16):
            crops = torch.cat([self._crop_bits(model, *part, tensors, rows) for part in parts])
        return np.asarray(crops.view(-1, self.songs, len(rows)).mean(0).double().numpy())

    def _crop_bits(
        self, model: Decoder, codes: Tensor, cond: Tensor, layout: LayoutTensors, rows: list[Tensor]
    ) -> Tensor:
        outputs = model.forward_layout(codes, cond, layout)
        found = []
        for k, (chosen, times) in enumerate(zip(rows, self.times, strict=True)):
            logits = model.logits(outputs[:, chosen], k).float()
            nats = F.cross_entropy(logits.transpose(1, 2), codes[:, times, k], reduction="none")
            found.append(nats.mean(1) / np.log(2.0))
        return torch.stack(found, dim=1)


def unigram_bits(songs: TokenSongs, heldout: TokenSongs, size: int) -> list[float]:
    """Bits by codebook of held-out songs under the training songs' frequencies: what learning must get below."""
    found = []
    for k in range(songs.num_codebooks):
        counts = np.bincount(np.concatenate([codes[:, k] for codes in songs.codes]), minlength=size) + 0.5
        bits = -np.log2(counts / counts.sum())
        found.append(float(bits[np.concatenate([codes[:, k] for codes in heldout.codes])].mean()))
    return found


def make_trainer(config: Training, pattern: str, p: int, seed: int, songs: TokenSongs, codec: Path) -> Trainer:
    """An untrained model of the plan. Its token tables share the codewords of the codec in `codec`."""
    codewords = codewords_of(codec)
    slots = make_pattern(pattern, config.codebooks, p=p).context_slots(config.crop_frames)
    model = sized(
        config.size,
        num_codebooks=config.codebooks,
        codebook_size=codewords.shape[1],
        cond_width=songs.layout.width,
        pattern=pattern,
        p=p,
        window_frames=slots,
    )
    return Trainer(model, config.recipe(seed), layout=songs.layout, codewords=codewords, device="cpu")


def learn(
    trainer: Trainer, config: Training, songs: TokenSongs, exam: Exam, folder: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Trains to the end, or goes on; FOLDER/bits.json: the curve, and bits [songs, K] of the finished model.

    A model that has had fewer updates is trained further; ValueError for one that has had more.
    """
    done = folder / BITS_FILE
    if done.is_file():
        found = dict(json.loads(done.read_text(encoding="utf-8")))
        if found["updates"] > config.updates:
            raise ValueError(
                f"{folder} has had {found['updates']} updates, more than the {config.updates} asked for"
            )
        if found["updates"] == config.updates:
            return found
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / CHECKPOINT).is_file():
        trainer.load(folder / CHECKPOINT)
    while trainer.updates < config.updates:
        began = time.process_time()
        bits = np.array(trainer.update(songs))
        trainer.elapsed_s += time.process_time() - began
        if not np.isfinite(bits).all():
            raise FloatingPointError(f"loss is {bits} after {trainer.updates} updates")
        if trainer.updates % config.curve_every == 0 or trainer.updates == config.updates:
            reached = exam.bits(averaged(trainer), crops_per_song=1).mean(0)
            point = {"updates": trainer.updates, "cpu_s": round(trainer.elapsed_s, 2)}
            point |= {"bits": reached.round(4).tolist(), "bits_per_frame": round(float(reached.sum()), 4)}
            trainer.history.append(point)
            trainer.save(folder / CHECKPOINT)
            say(f"{folder.name}: {json.dumps(point)}")
    model = averaged(trainer)
    result = {
        "updates": trainer.updates,
        "curve": trainer.history,
        "cpu_s_per_update": trainer.elapsed_s / trainer.updates,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "bits": exam.bits(model).round(5).tolist(),
    }
    done.write_text(json.dumps(result) + "\n", encoding="utf-8")
    return result


def averaged(trainer: Trainer) -> Decoder:
    """The plain decoder of the averaged weights, as it is exported."""
    return fold(trainer.model_config, trainer.ema).eval()
