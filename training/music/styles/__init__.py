"""The styles of composer v1 as data: sixteen for training, in the order of the conditioning, and two held out."""

from __future__ import annotations

from attacca.training.music.style import Style
from attacca.training.music.styles.band import BAND
from attacca.training.music.styles.beats import BEATS
from attacca.training.music.styles.calm import CALM
from attacca.training.music.styles.club import CLUB
from attacca.training.music.styles.floor import FLOOR
from attacca.training.music.styles.heldout import HELDOUT
from attacca.training.music.styles.jazz import JAZZ

STYLES: tuple[Style, ...] = (*CLUB, *BEATS, *FLOOR, *BAND, *JAZZ, *CALM)
HELDOUT_STYLES: tuple[Style, ...] = HELDOUT
STYLE_NAMES: tuple[str, ...] = tuple(style.name for style in STYLES)
HELDOUT_NAMES: tuple[str, ...] = tuple(style.name for style in HELDOUT_STYLES)


def find(name: str) -> Style:
    """A style by name, trained or held out. Raises ValueError."""
    for style in (*STYLES, *HELDOUT_STYLES):
        if style.name == name:
            return style
    raise ValueError(f"style is {name!r}, allowed {STYLE_NAMES + HELDOUT_NAMES}")
