"""From settings to a loaded model and its sampling: what `serve`, `continue`, `bench` and the demo start with.

Between the settings (bridge/config.py) and the engine; load thread.
"""

from __future__ import annotations

import dataclasses
import sys

from msgspec import UNSET
from msgspec.structs import replace

from attacca.bridge.config import Settings
from attacca.bridge.licence import licence_line
from attacca.bridge.teller import tell
from attacca.engine.backends import CPU_BACKENDS, backend_of, choose, steps_of
from attacca.engine.bundle import Model as Bundle
from attacca.engine.bundle import find_bundle, load_bundle
from attacca.engine.events import Model
from attacca.engine.fake import FakeConfig, FakeModel
from attacca.engine.generator import Sampling
from attacca.engine.manifest import HoldSection, read_manifest


def load_model(settings: Settings, *, several: bool = False) -> Model:
    """The model that the settings name, verified; or the fake, as tones. ManifestError says what is wrong.

    `several`: for many takes at once, see load_bundle.
    ValueError if it is told a text and reads none.
    A licence that is not permissive is said on stderr.
    """
    if settings.fake:
        return FakeModel(manifest=FakeConfig(tone=True))
    folder = find_bundle(settings.model)
    loaded = load_bundle(
        folder,
        threads=settings.threads,
        several=several,
        beside=settings.second_core,
        steps=steps_of(settings.backend),
        say=_say,
    )
    model = choose(_held(loaded, settings), folder, settings.backend, say=_say, several=several)
    if backend_of(model) not in CPU_BACKENDS:
        print(f"attacca: {model.manifest.name}: the decoder plays on {backend_of(model)}", file=sys.stderr)
    line = licence_line(model.manifest.licence)
    if line is not None:
        print(f"attacca: {model.manifest.name}: {line}", file=sys.stderr)
    if settings.text is not None:
        tell(model, settings.text)
    return model


def _say(line: str) -> None:
    print(f"attacca: {line}", file=sys.stderr)


def _held(model: Bundle, settings: Settings) -> Bundle:
    """The model, its takes held to no more than the user wants (engine/hold.py)."""
    asked = HoldSection() if model.manifest.hold is UNSET else model.manifest.hold
    held = replace(
        asked,
        level=asked.level and settings.hold_level,
        beat=asked.beat if settings.hold_beat else False,
    )
    return model if held == asked else dataclasses.replace(model, manifest=replace(model.manifest, hold=held))


def sampling_of(settings: Settings) -> Sampling:
    """How tokens are drawn: what the user set, else what the model's manifest says sounds best; seed 0 if unset."""
    values: dict[str, float] = {}
    if not settings.fake:
        defaults = read_manifest(find_bundle(settings.model)).sampling
        values = {"temperature": defaults.temperature, "top_k": defaults.top_k, "guidance": defaults.guidance}
    for name in ("temperature", "top_k", "guidance", "seed"):
        if getattr(settings, name) is not None:
            values[name] = getattr(settings, name)
    return Sampling(
        seed=int(values.get("seed", 0)),
        temperature=float(values.get("temperature", 1.0)),
        top_k=int(values.get("top_k", 0)),
        guidance=float(values.get("guidance", 1.0)),
    )


def require_model(settings: Settings) -> None:
    """ManifestError now, in one line, if the model cannot be found or read: not from another process later."""
    if not settings.fake:
        read_manifest(find_bundle(settings.model))


def sampling_flags(settings: Settings) -> tuple[str, ...]:
    """Flags that hand the user's sampling, and what takes are held to, on to an engine in another process."""
    names = ("temperature", "top_k", "guidance")
    given = [(name, getattr(settings, name)) for name in names if getattr(settings, name) is not None]
    sampled = tuple(part for name, value in given for part in (f"--{name.replace('_', '-')}", str(value)))
    loose = [
        f"--no-{name.replace('_', '-')}" for name in ("hold_level", "hold_beat") if not getattr(settings, name)
    ]
    return (*sampled, *loose)
