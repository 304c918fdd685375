"""What the engine holds takes to because a model does not do it by itself: asked by listener and session.

Stands between a bundle's manifest, which says what its takes need, the user's switches, and what in a take
sees to it.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import UNSET

from .leveller import LevelConfig
from .manifest import HoldSection, Manifest
from .stream import StreamConfig


@dataclass(frozen=True, kw_only=True)
class Hold:
    """None: left as the model makes it."""

    level: LevelConfig | None = None  # the level of what was played (engine/leveller.py)


def hold_of(model: object, config: StreamConfig) -> Hold:
    """What a model's manifest, or its attribute `hold`, asks for and the user did not switch off.

    Fakes have neither: their samples are exact.
    """
    asked, manifest = getattr(model, "hold", None), getattr(model, "manifest", None)
    if not isinstance(asked, Hold):
        stated = HoldSection(level=False)
        if isinstance(manifest, Manifest):
            stated = HoldSection() if manifest.hold is UNSET else manifest.hold
        asked = Hold(level=LevelConfig() if stated.level else None)
    return Hold(level=asked.level if config.hold_level else None)
