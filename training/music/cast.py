"""Who plays in a song of composer v1, on what, and what each kind of section plays from the style's tables."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from attacca.training.music import lead
from attacca.training.music.song import Track
from attacca.training.music.style import Comping, Groove, Lead, Meter, Style, native

T = TypeVar("T")


def pick(rng: np.random.Generator, items: tuple[T, ...] | list[T]) -> T:
    """One of them, each as likely."""
    return items[int(rng.integers(len(items)))]


class Cast:
    """Who plays in this song: tracks with their programs, and the habits of each kind of section."""

    def __init__(self, rng: np.random.Generator, style: Style, meter: Meter) -> None:
        self.comps: list[Comping] = [c for i, c in enumerate(style.comping) if i == 0 or rng.random() < c.share]
        self.lead: Lead = pick(rng, style.leads)
        kit = pick(rng, style.kits)
        tracks = [
            Track(name="kit", instrument="drums", program=kit, level=style.drum_level),
            Track(name="tops", instrument="drums", program=kit, level=style.drum_level),
            Track(name="bass", instrument="bass", program=pick(rng, style.bass_programs), level=style.bass_level),
        ]
        for i, comp in enumerate(self.comps):
            tracks.append(
                Track(name=f"chords{i}", instrument="chords", program=pick(rng, comp.programs), level=comp.level)
            )
        program = pick(rng, self.lead.programs)
        tracks.append(Track(name="lead", instrument="lead", program=program, level=self.lead.level))
        self.tracks = tuple(
            Track(
                name=t.name,
                instrument=t.instrument,
                program=t.program,
                level=int(np.clip(t.level + rng.integers(-6, 7), 40, 127)),
            )
            for t in tracks
        )
        self.grooves_written = native(style.grooves, meter)
        self.bass_written = native(style.bass, meter)
        self.comps_written = [native(c.patterns, meter) for c in self.comps]
        self.lead_written = native(self.lead.patterns, meter) if self.lead.patterns else meter
        # By habit (form.HABITS): grooves of different kinds of section differ as far as there are enough
        grooves = style.grooves[self.grooves_written]
        order = rng.permutation(len(grooves))
        self.grooves: dict[str, Groove] = {}
        self.basses: dict[str, str] = {}
        self.patterns: dict[str, list[str]] = {}
        self.ideas: dict[str, lead.Idea] = {}
        for i, letter in enumerate("VCB"):
            self.grooves[letter] = grooves[int(order[i % len(grooves)])]
            self.basses[letter] = pick(rng, style.bass[self.bass_written])
            self.patterns[letter] = [
                pick(rng, c.patterns[w]) for c, w in zip(self.comps, self.comps_written, strict=True)
            ]
            self.ideas[letter] = lead.idea(rng, self.lead, meter, self.lead_written)
