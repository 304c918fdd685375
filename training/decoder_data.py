"""Crops of token songs with their encoded labels: what the decoder's training draws its batches from.

Between training/tokenise.py and training/decoder_train.py. Conditioning is dropped here: for guidance (all of it,
or a group) and because a musician's past comes with less knowledge than the future that is commanded.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from attacca.engine.conditioning import DEFAULT_LAYOUT, ConditioningLayout, Controls, encode, group_slices
from attacca.training.music.styles import STYLE_NAMES

# Groups that a host commands together are dropped together.
_TOGETHER = (("beat", "tempo"), ("chord",), ("instruments",), ("style",))
_MOST_LATE_FRAMES = 75  # of players against their command
_LEAST_FRAMES = 64  # heard, and learned, of a crop from a rollout; a third of a short one
_LEAST_ROLLED_FRAMES = 16
ROLLOUTS = "rollouts"  # folder beside the splits' tokens, of training/rollouts.py
COMPOSER = "v1"  # whose styles the numbers in the labels mean


@dataclass(frozen=True, kw_only=True)
class Dropout:
    """Probabilities, per sequence."""

    everything: float = 0.1
    group: float = 0.1
    group_in_prefix: float = 0.15
    instruments_in_prefix: float = 0.5  # who was heard is hardly ever known, who shall play is
    bos: float = 0.5  # conditioning of the BOS row, whose frame may be before all time

    def __post_init__(self) -> None:
        for name in ("everything", "group", "group_in_prefix", "instruments_in_prefix", "bos"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}, must be 0..1")


class TokenSongs:
    """All songs of one split in memory: codes int16-sized [T, K] and conditioning float16 [T, C]."""

    def __init__(
        self, data: Path, split: str, *, limit: int | None = None, layout: ConditioningLayout = DEFAULT_LAYOUT
    ) -> None:
        """Reads DATA/tokens/SPLIT/*.npy and DATA/SPLIT/*.npz. Raises ValueError where none fit together."""
        self.layout = layout
        self.codes: list[np.ndarray] = []
        self.conditioning: list[np.ndarray] = []
        self.switches: list[tuple[int, int]] = []  # song and frame, where players come or go
        self.rollouts: list[
            tuple[int, int, np.ndarray]
        ] = []  # song, first frame, a model's own codes from there on
        composers: set[str] = set()
        for path in sorted((data / "tokens" / split).glob("*.npy"))[:limit]:
            codes = np.load(path)
            labels = data / split / f"{path.stem.partition('.')[0]}.npz"
            controls = labels_of(labels)
            composers.add(_composer(labels))
            frames = min(len(codes), len(controls))
            switched = (controls.instruments[1:frames] != controls.instruments[: frames - 1]).any(1)
            self.switches += [(len(self.codes), int(frame) + 1) for frame in np.flatnonzero(switched)]
            self.codes.append(codes[:frames].astype(np.int64))
            self.conditioning.append(encode(controls, layout)[:frames].astype(np.float16))
            rolled = data / "tokens" / ROLLOUTS / f"{path.stem}.npz"
            if split == "train" and rolled.is_file():
                with np.load(rolled) as take:
                    first = int(take["first"])
                    own = take["codes"][: max(0, frames - _LEAST_FRAMES - first)].astype(np.int64)
                if len(own):
                    self.rollouts.append((len(self.codes) - 1, first, own))
        if not self.codes:
            raise ValueError(f"no tokens in {data / 'tokens' / split}")
        if composers == {COMPOSER} and layout.num_styles == len(STYLE_NAMES) and not layout.styles:
            self.layout = replace(layout, styles=STYLE_NAMES)
        self.num_codebooks = self.codes[0].shape[1]
        self.total_frames = sum(map(len, self.codes))
        self._weights = np.array([len(song) for song in self.codes]) / self.total_frames

    def crop(self, song: int, start: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
        """codes [frames, K] and conditioning float32 [frames + 1, C] from one frame earlier (zeros before 0)."""
        cond = np.zeros((frames + 1, self.layout.width), dtype=np.float32)
        begin = max(start - 1, 0)
        cond[begin - start + 1 :] = self.conditioning[song][begin : start + frames]
        return self.codes[song][start : start + frames], cond

    def batch(
        self,
        rng: np.random.Generator,
        size: int,
        frames: int,
        *,
        prefix: int = 0,
        at_switches: float = 0.0,
        from_rollouts: float = 0.0,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Random crops: codes int64 [B, frames, K], conditioning [B, frames + 1, C].

        `at_switches`: share of crops in which players come or go, at the end of the prefix where there is one. In
        half of these the sound follows its command late. What lies between is not to be learned but only heard,
        its codes c stand as ~c: a take that has gone on against a command shall come back to it, which songs,
        where everyone obeys at once, never show.
        `from_rollouts`: share of crops that hear a model's own take of the song, if there are any, and learn how
        the song goes on after it.
        """
        crops = []
        for song in rng.choice(len(self.codes), size=size, p=self._weights):
            if self.rollouts and rng.random() < from_rollouts:
                crops.append(self._rolled(rng, frames, prefix))
                continue
            start = int(rng.integers(len(self.codes[song]) - frames + 1))
            if self.switches and rng.random() < at_switches:
                song, switch = self.switches[int(rng.integers(len(self.switches)))]
                start = switch - (prefix or int(rng.integers(1, frames)))
                most = min(_MOST_LATE_FRAMES, frames - prefix - 1)
                late = int(rng.integers(1, most + 1)) if prefix and most > 0 and rng.random() < 0.5 else 0
                if late and late <= start and start - late + frames <= len(self.codes[song]):
                    crops.append(self._late(song, start - late, frames, prefix, late))
                    continue
                start = min(max(start, 0), len(self.codes[song]) - frames)
            crops.append(self.crop(int(song), start, frames))
        codes, cond = (np.stack(part) for part in zip(*crops, strict=True))
        return codes, cond

    def _late(self, song: int, start: int, frames: int, prefix: int, late: int) -> tuple[np.ndarray, np.ndarray]:
        """A crop whose players are commanded from the prefix's end on, but heard `late` frames later."""
        codes, cond = self.crop(song, start, frames)
        end, players = prefix + late, group_slices(self.layout)["instruments"]
        cond[prefix + 1 : end + 1, players] = cond[end + 1, players]
        codes = codes.copy()
        codes[prefix:end] = ~codes[prefix:end]
        return codes, cond

    def _rolled(self, rng: np.random.Generator, frames: int, prefix: int) -> tuple[np.ndarray, np.ndarray]:
        """A crop in which a rollout is heard up to somewhere behind the prefix, and the song learned after it."""
        song, first, own = self.rollouts[int(rng.integers(len(self.rollouts)))]
        least = min(_LEAST_FRAMES, frames // 3)
        fewest = max(prefix, least)
        heard = int(rng.integers(fewest, max(fewest, frames - least) + 1))
        end = first + int(rng.integers(min(_LEAST_ROLLED_FRAMES, len(own)), len(own) + 1))
        start = min(max(end - heard, 0), len(self.codes[song]) - frames)
        codes, cond = self.crop(song, start, frames)
        codes, begin, end = codes.copy(), max(first - start, 0), end - start
        codes[begin:end] = own[start + begin - first : start + end - first]
        codes[prefix:end] = ~codes[prefix:end]
        return codes, cond

    def fixed(self, size: int, frames: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
        """The same crops each time, spread over all songs; for evaluation."""
        rng = np.random.default_rng(seed)
        songs = [i % len(self.codes) for i in range(size)]
        crops = [self.crop(s, int(rng.integers(len(self.codes[s]) - frames + 1)), frames) for s in songs]
        codes, cond = (np.stack(part) for part in zip(*crops, strict=True))
        return torch.from_numpy(codes), torch.from_numpy(cond)


def labels_of(path: Path) -> Controls:
    """A song's commands, frame by frame."""
    with np.load(path) as labels:
        return Controls(**{name: labels[name] for name in Controls.__dataclass_fields__})


def _composer(path: Path) -> str:
    """Who made the song; "" if its labels do not say."""
    with np.load(path) as labels:
        return str(json.loads(str(labels["about"])).get("composer", "")) if "about" in labels else ""


def drop(
    cond: np.ndarray, prefix_frames: int, dropout: Dropout, rng: np.random.Generator, layout: ConditioningLayout
) -> np.ndarray:
    """Conditioning [B, T + 1, C] with groups zeroed at random per sequence; frame -1 is the first."""
    dropped = cond.copy()
    slices = group_slices(layout)
    size = len(dropped)
    nothing = rng.random(size) < dropout.everything
    for together in _TOGETHER:
        whole = nothing | (rng.random(size) < dropout.group)
        unheard = dropout.instruments_in_prefix if together == ("instruments",) else dropout.group_in_prefix
        early = rng.random(size) < unheard
        for name in (name for name in together if name in slices):
            dropped[whole, :, slices[name]] = 0.0
            dropped[early, : prefix_frames + 1, slices[name]] = 0.0
    dropped[rng.random(size) < dropout.bos, 0] = 0.0
    return dropped
