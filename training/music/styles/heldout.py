"""Styles that no model is trained on, as data: for judging what was learned beyond the sixteen."""

from __future__ import annotations

from attacca.training.music.style import Style

HELDOUT: tuple[Style, ...] = ()
