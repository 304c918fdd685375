"""How loud codes will sound, and the nudge on what is drawn next that keeps a take as loud as what was heard.

Inside the step loop (engine/decoder.py). Guided sampling and a take that hears itself make a random walk of its
level, up to full scale within seconds; nothing in songs that keep their level teaches a model to come back. Here
the level is read from the codes themselves, and while it is off, codes that would bring it back become likelier.
All of it follows from the codes alone, so plans made again, forks and snapshots agree to the bit. (A gain after the
codec, engine/leveller.py, holds any model's level; this keeps the sound from growing dense before it gets there.)
"""

from __future__ import annotations

import io
import zipfile
from copy import copy
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .generator import Codes

Floats = npt.NDArray[np.float32]
Double = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FRAMES_BEFORE = 32  # from the newest frame that is looked at to the one drawn: known in any order of steps
LOOKED_AT_FRAMES = 50
_SLOPE_FRAMES = 8  # the last of them, at which is asked what a code would change
_HEARD_FRAMES = 250  # that the level of what was heard is a mean of, and
_LEAST_HEARD = 25  # fewer than so many set none
_SILENCE_DB = -50.0
_BELOW_DB = 20.0  # frames further below what was heard are rests, and count as so far below
_LOUDER_DB, _QUIETER_DB = 3.0, 6.0  # that a take may be: music has its dynamics, and players come and go
_NUDGE_PER_DB = 0.04  # of a logit, for each dB that a code changes and each dB beyond the tolerance
_MOST_NUDGE = 0.4
_DB = 10.0 / np.log(10.0)
_MAX_COMPONENTS = 256
_KEPT_TILTS = 64  # timesteps in work
_MADE_AT_ONCE = 8  # of them
_MEASURED_AT_ONCE = 8  # frames, or a few more
_LOOKED_AT, _SLOPE_AT = np.arange(-LOOKED_AT_FRAMES, 0), np.arange(-_SLOPE_FRAMES, 0)  # frames before a stop


class CodeLevels:
    """Level in dB of full scale as a soft maximum of components, each a sum over the frame's codes."""

    def __init__(self, tables: npt.ArrayLike, bias: npt.ArrayLike) -> None:
        """tables [K, V, J] in dB and bias [J]. ValueError on other shapes or what is not finite."""
        self.tables: Double = np.asarray(tables, np.float64)
        self.bias: Double = np.asarray(bias, np.float64)
        if self.tables.ndim != 3 or not 1 <= self.tables.shape[2] <= _MAX_COMPONENTS:
            raise ValueError(f"code levels are {self.tables.shape}, allowed: [K, V, 1..{_MAX_COMPONENTS}]")
        if self.bias.shape != self.tables.shape[2:]:
            raise ValueError(
                f"bias of the code levels has shape {self.bias.shape}, allowed: {self.tables.shape[2:]}"
            )
        if not (np.isfinite(self.tables).all() and np.isfinite(self.bias).all()):
            raise ValueError("code levels hold numbers that are not finite")
        self._books = np.arange(len(self.tables))

    @classmethod
    def load(cls, path: Path) -> CodeLevels:
        """From an .npz with `tables` and `bias`. ValueError if it is not that."""
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
                return cls(arrays["tables"], arrays["bias"])
        except (KeyError, zipfile.BadZipFile, EOFError, TypeError) as error:
            raise ValueError(f"{path} holds no code levels: {error}") from None

    def measure(self, codes: Codes) -> tuple[Double, Double]:
        """Levels [n] in dB of codes [n, K], and each component's share [n, J] in them."""
        parts: Double = (self.tables[self._books, codes].sum(axis=1) + self.bias) / _DB
        top = parts.max(axis=1, keepdims=True)
        powers = np.exp(parts - top)
        whole = powers.sum(axis=1, keepdims=True)
        return _DB * (top + np.log(whole))[:, 0], powers / whole

    def slopes(self, shares: Double) -> Floats:
        """[n, K, V]: dB that each code adds against its codebook's mean, where components have shares [n, J].

        Each of the n is computed as if it were the only one, so its bits do not depend on the others.
        """
        added = np.matmul(self.tables[:, None], shares[:, :, None])[..., 0]  # [K, n, V]: a table is read once
        added -= added.mean(axis=2, keepdims=True)
        found: Floats = added.astype(np.float32).transpose(1, 0, 2)
        return found

    def slope(self, share: Double) -> Floats:
        """[K, V] of one share [J]."""
        found: Floats = self.slopes(share[None])[0]
        return found


class LevelHold:
    """Levels of a stream's frames, what was heard of them, and the nudge for the next, in rings.

    A frame's level is asked for FRAMES_BEFORE later at the soonest, so several frames are measured, and several
    timesteps' nudges made, at once: all that takes little more time than one.
    """

    def __init__(self, levels: CodeLevels, length: int) -> None:
        """`length`: frames behind the newest that a rollback may go to."""
        self.levels = levels
        self._length = length + FRAMES_BEFORE + LOOKED_AT_FRAMES
        self._level_db = np.zeros(self._length)
        self._share = np.zeros((self._length, len(levels.bias)))
        self._heard_db = np.zeros(self._length)  # mean level of what was heard, as of each frame
        self._heard_frames = np.zeros(self._length, np.int64)
        self._stop = 0  # frames below it are known, and
        self._waiting: list[tuple[Codes, bool]] = []  # codes of the last of these, not measured yet, and if heard
        self._tilts: dict[int, Floats | None] = {}
        self.forgotten = 0  # times that frames were: tilts made before may be others now

    def put(self, first: int, codes: Codes, *, heard: bool) -> None:
        """Frames [first, first + n) are known: heard, or else planned."""
        if not len(codes):
            return
        if first != self._stop:
            self._measure()
        self._waiting.append((codes.copy(), heard))
        self._stop = first + len(codes)
        if len(self._waiting) >= _MEASURED_AT_ONCE:
            self._measure()

    def forget(self, first: int) -> None:
        """Frames from `first` on are unknown again."""
        self._measure()
        self.forgotten += 1
        self._stop = min(self._stop, first)
        for timestep in [t for t in self._tilts if t > first]:
            del self._tilts[timestep]

    def excess_db(self, timestep: int) -> float:
        """How far the frames that a timestep looks back at are beyond what is allowed; below 0: too quiet."""
        return float(self._excess_db(np.array([timestep]))[0])

    def tilt(self, timestep: int, codebook: int) -> Floats | None:
        """Logits [V] to be taken from a codebook's for a timestep; None while the level is as it should be."""
        tilt = self.tilts(timestep)
        return None if tilt is None else tilt[codebook]

    def tilts(self, timestep: int) -> Floats | None:
        """The same for all codebooks, [K, V]."""
        if timestep not in self._tilts:
            self._make_tilts(timestep)
        return self._tilts[timestep]

    def copy(self) -> LevelHold:
        """An independent copy."""
        other = copy(self)
        for name in ("_level_db", "_share", "_heard_db", "_heard_frames", "_waiting", "_tilts"):
            setattr(other, name, getattr(self, name).copy())
        return other

    def _measure(self) -> None:
        """Enter the frames that wait."""
        if not self._waiting:
            return
        codes = np.concatenate([part for part, _ in self._waiting])
        heard = [heard for part, heard in self._waiting for _ in range(len(part))]
        self._waiting.clear()
        levels, shares = self.levels.measure(codes)
        first, means, counts = self._stop - len(codes), [], []
        before = (first - 1) % self._length
        mean, count = (float(self._heard_db[before]), int(self._heard_frames[before])) if first > 0 else (0.0, 0)
        for was_heard, level in zip(heard, levels.tolist(), strict=True):
            if was_heard and level > _SILENCE_DB and (count == 0 or level > mean - _BELOW_DB):
                count = min(count + 1, _HEARD_FRAMES)
                mean += (level - mean) / count
            means.append(mean)
            counts.append(count)
        places = np.arange(first, self._stop) % self._length
        self._level_db[places], self._share[places] = levels, shares
        self._heard_db[places], self._heard_frames[places] = means, counts

    def _excess_db(self, timesteps: Ints) -> Double:
        """`excess_db` of several timesteps [n]."""
        self._measure()
        stops = timesteps - FRAMES_BEFORE
        last = (stops - 1) % self._length
        heard_db = self._heard_db[last]
        levels = np.maximum(self._level_db[self._before(stops, _LOOKED_AT)], heard_db[:, None] - _BELOW_DB)
        off = levels.mean(axis=1) - heard_db
        excess = np.maximum(off - _LOUDER_DB, 0.0) + np.minimum(off + _QUIETER_DB, 0.0)
        return np.where((stops >= LOOKED_AT_FRAMES) & (self._heard_frames[last] >= _LEAST_HEARD), excess, 0.0)

    def _before(self, stops: Ints, frames: Ints) -> Ints:
        """Places [n, frames] of those before each stop."""
        return np.asarray((stops[:, None] + frames) % self._length)

    def _make_tilts(self, timestep: int) -> None:
        """Of this timestep and of a few after it, as far as the frames that they hang on are known."""
        ahead = min(timestep + _MADE_AT_ONCE, self._stop + FRAMES_BEFORE + 1)
        wanted = [timestep, *(t for t in range(timestep + 1, ahead) if t not in self._tilts)]
        while self._tilts and len(self._tilts) + len(wanted) > _KEPT_TILTS:
            del self._tilts[next(iter(self._tilts))]
        self._tilts.update(dict.fromkeys(wanted))
        timesteps = np.array(wanted)
        nudges = np.clip(_NUDGE_PER_DB * self._excess_db(timesteps), -_MOST_NUDGE, _MOST_NUDGE)
        off = nudges != 0.0
        if off.any():
            nudged, stops = timesteps[off], timesteps[off] - FRAMES_BEFORE
            slopes = self.levels.slopes(self._share[self._before(stops, _SLOPE_AT)].mean(axis=1))
            self._tilts.update(
                zip(nudged.tolist(), nudges[off, None, None].astype(np.float32) * slopes, strict=True)
            )
