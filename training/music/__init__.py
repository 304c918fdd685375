"""Composer v1 and its mixing desk: a seed becomes a song with exact labels, then 48 kHz stereo."""

from attacca.training.music.composer import compose
from attacca.training.music.song import ChordSpan, Note, Section, Song, Track
from attacca.training.music.styles import HELDOUT_NAMES, HELDOUT_STYLES, STYLE_NAMES, STYLES, find

__all__ = [
    "HELDOUT_NAMES",
    "HELDOUT_STYLES",
    "STYLES",
    "STYLE_NAMES",
    "ChordSpan",
    "Note",
    "Section",
    "Song",
    "Track",
    "compose",
    "find",
]
