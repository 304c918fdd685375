"""Players commanded out are told so harder, for as long as what sounded before can still be heard.

Inside the step loop (engine/decoder.py). A transformer repeats what it hears: a player that was heard and is told
0 goes on more often than not. Conditions enter a decoder through one product, so what lies beyond all it was ever
told, minus `strength` in place of 0, adds the difference between told out and told in once more: guidance for
these players alone, in the one branch that knows them, without another pass. What was tried beside: docs/LOG.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from msgspec import UNSET

from .conditioning import group_slices
from .generator import Conditions
from .manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class Emphasis:
    """`strength` of a bundle, over the `window` frames that its decoder hears."""

    players: slice  # columns, the flag last
    strength: float
    window: int

    @classmethod
    def of(cls, manifest: Manifest) -> Emphasis | None:
        """None if the bundle asks for none, or its decoder knows no players."""
        players = group_slices(manifest.conditioning.layout).get("instruments")
        strength = manifest.sampling.emphasis
        if players is None or strength is UNSET or strength == 0.0:
            return None
        return cls(players=players, strength=strength, window=manifest.window_frames)

    def concerns(self, row: Conditions) -> bool:
        """Whether a frame's row [C] commands anybody out; else `told` changes nothing, whatever was before."""
        flag = row[self.players.stop - 1]
        return bool(flag > 0.0 and _out(row[None, self.players]).any())

    def told(self, row: Conditions, before: Conditions) -> Conditions:
        """A frame's row [C] as the decoder is told it; `before` [n, C]: as those of the window before it were.

        A player is insisted on from its command until it was out in all of the window; one who was not commanded at
        all may have been playing. The row itself comes back where there is none.
        """
        out = _out(row[None, self.players])[0]
        fresh = out & ~_out(before[:, self.players]).all(axis=0)
        if not fresh.any():
            return row
        told = row.copy()
        told[self.players][:-1][fresh] = -self.strength
        return told


def _out(players: Conditions) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """[n, players] of columns [n, players + 1]: commanded out."""
    found: np.ndarray[tuple[int, int], np.dtype[np.bool_]] = (players[:, :-1] <= 0.0) & (players[:, -1:] > 0.0)
    return found
