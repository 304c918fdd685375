"""The soundfont that everything is rendered with, found or missed by name; below synth.py."""

from __future__ import annotations

import os
from pathlib import Path

SOUNDFONT_VARIABLE = "ATTACCA_SOUNDFONT"
_SOUNDFONTS = (
    Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"),
    Path("/usr/share/sounds/sf3/FluidR3Mono_GM.sf3"),
)


class RenderError(RuntimeError):
    """FluidSynth or its soundfont is missing, or rendering failed."""


def find_soundfont() -> Path:
    """The soundfont: $ATTACCA_SOUNDFONT, else FluidR3 where Debian puts it. Raises RenderError."""
    named = os.environ.get(SOUNDFONT_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise RenderError(f"{SOUNDFONT_VARIABLE} is {named!r}, which is not a file")
        return Path(named)
    for path in _SOUNDFONTS:
        if path.is_file():
            return path
    raise RenderError(
        f"no soundfont at {' or '.join(map(str, _SOUNDFONTS))}; on Debian: apt install fluid-soundfont-gm "
        f"(or fluidr3mono-gm-soundfont), or name one in {SOUNDFONT_VARIABLE}"
    )
