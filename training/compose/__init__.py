"""The composers: a seed becomes a song with exact labels; first stage of training's path to a dataset.

v0, in this package, made the songs that Ostinato v0 was trained on; v1 is training/music.
"""

from attacca.training.compose.composer import compose
from attacca.training.compose.song import ChordSpan, Note, Song
from attacca.training.compose.styles import STYLE_NAMES, STYLES, Style

__all__ = ["STYLES", "STYLE_NAMES", "ChordSpan", "Note", "Song", "Style", "compose"]
