"""Which seeds make which songs, and which songs of a folder are finished: what all stages of training agree on.

Between songs.py and sounds.py, which write songs, and codec, tokens and benchmarks, which read them.
"""

from __future__ import annotations

from pathlib import Path

HELDOUT_SEED = 1_000_000  # the first of the seeds that are never trained on


def list_songs(folder: Path) -> list[Path]:
    """The .npz paths of a folder's finished songs, in order; a song's .npz is written last."""
    return sorted(p for p in folder.glob("*.npz") if p.with_suffix(".flac").is_file())


def train_seeds(songs: int) -> range:
    """Seeds of the training songs. Raises ValueError where they would reach the held-out ones."""
    if not 0 <= songs <= HELDOUT_SEED:
        raise ValueError(f"songs is {songs}, allowed 0..{HELDOUT_SEED}")
    return range(songs)


def heldout_seeds(songs: int) -> range:
    """Seeds of the held-out songs."""
    return range(HELDOUT_SEED, HELDOUT_SEED + songs)
