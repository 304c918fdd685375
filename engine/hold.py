"""What the engine holds takes to because a model does not do it by itself: asked by listener and session.

Stands between a bundle's manifest, which says what its takes need, and the parts of a take that see to it. A user's
switch is a change of the manifest as loaded (bridge/loading.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import UNSET

from .beat_lock import LockConfig
from .leveller import LevelConfig
from .manifest import HoldSection, Manifest


@dataclass(frozen=True, kw_only=True)
class Hold:
    """None: left as the model makes it."""

    level: LevelConfig | None = None  # the level of what was played (engine/leveller.py)
    beat: LockConfig | None = None  # the host's beat (engine/beat_lock.py)


def hold_of(model: object) -> Hold:
    """What a model's manifest asks for, or its attribute `hold`. Fakes have neither: their samples are exact."""
    asked, manifest = getattr(model, "hold", None), getattr(model, "manifest", None)
    if isinstance(asked, Hold):
        return asked
    if not isinstance(manifest, Manifest):
        return Hold()
    stated = HoldSection() if manifest.hold is UNSET else manifest.hold
    told = any(name == "beat" for name, _ in manifest.conditioning.groups)
    beat = not told if stated.beat is UNSET else stated.beat
    return Hold(level=LevelConfig() if stated.level else None, beat=LockConfig() if beat else None)
