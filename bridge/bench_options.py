"""What `attacca bench` is asked for: which parts, and how long each row is measured.

Beside the path; bridge/bench_plan.py makes jobs of it. Everything in it goes into the report.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from attacca.bridge.bench_bandwidth import BUFFER_BYTES

PARTS = ("steps", "shapes", "path", "growth", "live")
MINUTES_AT_LEAST = 5.0


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """How long each row is measured, and which are."""

    quick: bool = False
    steps: int = 10_000  # of the decoder, for each row
    codec_frames: int = 6000
    calls: int = 5000  # of resampler, queue and wire
    step_limit_s: float | None = None  # a row of the bundle's steps ends after so long, whatever it has
    context_limit_s: float | None = None  # one of a small size's contexts
    shape_limit_s: float | None = None  # one of any other size
    line_rounds: int = 100  # for what rows cost in a step
    chunks: int = 1000  # of one take, alone and beside neighbours
    path_s: float = 60.0  # of audio that each of several takes makes
    takes: tuple[int, ...] = (1, 2, 4, 8)
    growth_s: float = 600.0  # the take whose cost must stay flat
    live_runs: int = 20
    live_lead_s: float = 6.0
    live_play_s: float = 3.0
    long_s: float = 600.0
    shapes: tuple[str, ...] = ("ostinato", "300m", "musicgen-small")
    parts: tuple[str, ...] = PARTS
    buffer_bytes: int = BUFFER_BYTES  # of the memory probe

    minutes: float | None = None  # what the lengths were cut for; rows say how many calls they had

    def __post_init__(self) -> None:
        unknown = sorted(set(self.parts) - set(PARTS))
        if unknown or not self.parts:
            raise ValueError(f"bench parts {', '.join(unknown) or 'none'}, allowed: {', '.join(PARTS)}")
        for name in ("steps", "codec_frames", "calls", "live_runs", "chunks", "line_rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"BenchOptions.{name} {getattr(self, name)} is below 1")

    def within(self, minutes: float) -> BenchOptions:
        """The same for about so many minutes of two cores at rest: rows end by time, takes are shorter and fewer.

        Steps of a small bundle and chunks stay as many as they were. ValueError below MINUTES_AT_LEAST.
        """
        if minutes < MINUTES_AT_LEAST:
            raise ValueError(f"bench minutes {minutes:g} is below {MINUTES_AT_LEAST:g}; there is --quick")
        return replace(
            self,
            minutes=minutes,
            step_limit_s=2.2 * minutes,
            context_limit_s=2.0 * minutes,
            shape_limit_s=0.25 * minutes,
            path_s=1.0 * minutes,
            growth_s=15.0 * minutes,
            live_runs=max(2, round(0.4 * minutes)),
            live_lead_s=4.0,
            live_play_s=2.5,
            long_s=3.0 * minutes,
        )


QUICK = BenchOptions(
    quick=True,
    steps=200,
    codec_frames=400,
    calls=300,
    line_rounds=20,
    chunks=18,
    path_s=3.0,
    takes=(1, 2),
    growth_s=20.0,
    live_runs=2,
    live_lead_s=2.0,
    live_play_s=1.5,
    long_s=5.0,
    shapes=(),
)
