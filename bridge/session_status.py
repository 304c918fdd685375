"""What a session's status says, and when it is due: at once after a change, else once a second.

Beside bridge/session.py, which tells it of takes, measures and faults and sends what it makes. Decode thread.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from attacca.engine.events import Measures

from .protocol import Status
from .triggers import Takes

STATUS_EVERY_S: Final = 1.0
MEASURES_EVERY_S: Final = 0.1
MEASURED: Final = (  # measures that a status says as they are
    "rtf_decoder", "rtf_codec", "rtf_total", "late_chunks",
    "level_gain_db", "drift_ms", "beat_error_ms", "new_beginnings",
)  # fmt: skip
_MOST: Final = 2**31  # of what a status counts


class SessionStatus:
    """One session's. `now` arguments are seconds of the worker's clock."""

    def __init__(self, number: int, takes: Takes) -> None:
        self._number = number
        self._takes = takes
        self._seeds: dict[int, int] = {}
        self._starts: dict[int, int] = {}
        self._measures: dict[str, Any] = {}
        self._said_s = float("-inf")
        self._due = True

    def changed(self) -> None:
        """Something of it is new."""
        self._due = True

    def begins(self, take: int, seed: int, start_position: int) -> None:
        """A take is armed, or sounds. What was known of takes that are over is forgotten."""
        self._seeds = {n: kept for n, kept in self._seeds.items() if n in self._takes} | {take: seed}
        self._starts = {n: kept for n, kept in self._starts.items() if n in self._takes} | {take: start_position}
        self._due = True

    def moves(self, take: int, start_position: int) -> None:
        """A take starts elsewhere."""
        self._starts[take] = start_position
        self._due = True

    def measured(self, measures: Measures) -> None:
        """Of the take that plays."""
        self._measures = {name: getattr(measures, name) for name in MEASURED} | {
            "lookahead_samples": min(measures.look_ahead_samples, _MOST),
            "control_latency_samples": min(measures.control_latency_samples, _MOST),
        }
        self._due = True

    def is_due(self, now: float) -> bool:
        """Whether it is to be said now; then it counts as said."""
        if now - self._said_s < (MEASURES_EVERY_S if self._due else STATUS_EVERY_S):
            return False
        self._said_s, self._due = now, False
        return True

    def message(self, head: int, heard: Measures, counts: Counter[str]) -> Status:
        """As of a play head; `heard` is of the session alone, `counts` are its faults by name."""
        state, take = self._takes.describe(head)
        return Status(
            session=self._number,
            state=state,
            take=take,
            seed=None if take is None else self._seeds.get(take),
            start_position=None if take is None else self._starts.get(take),
            bad_messages=sum(count for name, count in counts.items() if name.startswith("refused")),
            gap_samples=min(heard.gap_samples, _MOST),
            bad_samples=min(heard.bad_samples + counts["bad samples"], _MOST),
            **self._measures,
        )
