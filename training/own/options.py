"""What both ways of `attacca train` take: whose music, for how long, and where the bundle and the run are put.

Below run.py (a bundle gone on with) and musicgen_run.py (published weights in another pattern), which add to it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import platformdirs

from attacca.engine.manifest import PRECISIONS

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Of minutes and updates, updates count if above 0. ValueError names what is out of range."""

    data: Path
    out: str = "mine"  # a name, or a folder where it has a slash in it
    run: Path | None = None  # None: beside the bundle, NAME.training
    minutes: float = 60.0
    updates: int = 0
    batch: int = 0  # 0: by machine
    learning_rate: float | None = None
    precision: str = "int8"
    heldout: float = 0.1  # share of the files
    seed: int = 0
    device: str | None = None

    LIMITS: ClassVar[dict[str, tuple[float, float]]] = {
        "minutes": (0.01, 1e6),
        "heldout": (0.01, 0.5),
        "batch": (0, 65536),
        "updates": (0, 10**9),
    }
    CHOICES: ClassVar[dict[str, tuple[str, ...]]] = {"precision": PRECISIONS}

    def __post_init__(self) -> None:
        for name, (low, high) in self.LIMITS.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} is {getattr(self, name):g}, allowed: {low:g}..{high:g}")
        for name, allowed in self.CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}, allowed: {', '.join(allowed)}")
        if self.learning_rate is not None and not 0.0 < self.learning_rate <= 0.1:
            raise ValueError(f"learning_rate is {self.learning_rate:g}, allowed: above 0, up to 0.1")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed is {self.seed}, allowed: 0..{2**31 - 1}")
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"the bundle's name is {self.name!r}, allowed: {_NAME.pattern}")

    @property
    def name(self) -> str:
        """What the new bundle calls itself."""
        return Path(self.out).name

    @property
    def bundle(self) -> Path:
        """Folder of the new bundle; a plain name lies where bundles are found by name."""
        if self.name != self.out:
            return Path(self.out)
        return platformdirs.user_data_path("attacca") / "models" / self.out

    @property
    def run_folder(self) -> Path:
        """Folder of all that is needed to go on."""
        return self.run or self.bundle.with_name(f"{self.bundle.name}.training")
