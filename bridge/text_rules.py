"""What may be said in words: one rule for clients, OSC and the engine.

Beside the path; plugin_stub/core/text_rules.cpp has the same rule in C++.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from .protocol import MAX_TEXT_CHARACTERS

# Control characters, halves of surrogate pairs, line and paragraph separators.
_UNREADABLE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})


def check_text(text: str) -> None:
    """ValueError if a text is too long or holds what nobody can read."""
    if len(text) > MAX_TEXT_CHARACTERS:
        raise ValueError(f"the text has {len(text)} characters, allowed: up to {MAX_TEXT_CHARACTERS}")
    for place, character in enumerate(text):
        if unicodedata.category(character) in _UNREADABLE:
            raise ValueError(
                f"the text has U+{ord(character):04X} at {place}, allowed: characters that can be read"
            )
