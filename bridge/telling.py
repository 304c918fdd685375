"""What one session has its model told: words of its client's, and notes as a melody, for models that read them.

Between bridge/session.py and the thread that makes prompts (bridge/teller.py), on the decode thread. Notes count in
two ways: those held when a take is triggered, or while one plays, are its chord, their pitch classes in turn; where
none is held at a trigger, what was played since the one before is its melody, highest notes first, again and again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from attacca.engine.chroma import Floats, chord_rows, phrase_rows

from .queues import ALL_SESSIONS, Told
from .teller import NO_TEXT, Teller

if TYPE_CHECKING:
    from attacca.engine.prompted import Prompt

PHRASE_S: Final = 30.0  # of what was played, the last so many seconds are a melody: as much as models read
_KEPT_NOTES: Final = 4096


class TellError(ValueError):
    """A text that cannot be told."""


class Telling:
    """Decode thread only. `play` has the engine follow a prompt; `waits`: the host waits, so it is made at once."""

    def __init__(self, session: int, teller: Teller | None, play: Callable[[Prompt], None]) -> None:
        self._session, self._teller, self._play = session, teller, play
        self._text = ""  # empty: the engine's own
        self._prompt: Prompt | None = None  # as last played to
        self._melody: Floats | None = None
        self._held: tuple[int, ...] = ()
        self._notes: deque[tuple[int, int | None]] = deque(maxlen=_KEPT_NOTES)  # from a position on, the highest

    def text(self, text: str, *, waits: bool) -> None:
        """Play to a text. TellError if it cannot be."""
        if self._teller is None:
            raise TellError(NO_TEXT)
        try:
            self._ask(text, self._melody, waits=waits)
        except ValueError as error:
            raise TellError(str(error)) from None
        self._text = text

    def hold(self, position: int, notes: Iterable[int]) -> None:
        """MIDI notes held from a position on."""
        held = tuple(sorted(notes))
        if self._reads_melody and held != self._held:
            self._held = held
            self._notes.append((position, held[-1] if held else None))

    def follow(self, *, waits: bool) -> None:
        """While a take plays: what is held now is its chord; what was held last stays while nothing is."""
        if self._held:
            self._follow(self._chord(), waits=waits)

    def begin(self, position: int, sample_rate: int, *, waits: bool) -> None:
        """A take is triggered: what is held is its chord, or what was played until then its melody."""
        if not self._reads_melody:
            return
        since = position - PHRASE_S * sample_rate
        played = [(at, note) for at, note in self._notes if at >= since]
        self._notes.clear()
        if self._held:
            self._follow(self._chord(), waits=waits)
            return
        starts = [at / sample_rate for at, _ in played]
        notes = [None if note is None else note % 12 for _, note in played]
        rows = phrase_rows(starts, notes, position / sample_rate)
        self._follow(rows if len(rows) else None, waits=waits)

    def told(self, told: Told) -> None:
        """A text has become a prompt, the session's own or one for all."""
        if told.prompt is None:
            return
        if told.session == ALL_SESSIONS:
            self._text = ""
            if self._melody is not None:
                self._ask("", self._melody, waits=False)
                return
        self._prompt = told.prompt
        self._play(told.prompt)

    def again(self) -> None:
        """The engine was made anew."""
        if self._prompt is not None:
            self._play(self._prompt)

    @property
    def _reads_melody(self) -> bool:
        return self._teller is not None and self._teller.melody_rows > 0

    def _chord(self) -> Floats:
        assert self._teller is not None
        return chord_rows({note % 12 for note in self._held}, self._teller.melody_rows)

    def _follow(self, melody: Floats | None, *, waits: bool) -> None:
        old = self._melody
        if (old is None) != (melody is None) or (
            old is not None and melody is not None and old.tobytes() != melody.tobytes()
        ):
            self._melody = melody
            self._ask(self._text, melody, waits=waits)

    def _ask(self, text: str, melody: Floats | None, *, waits: bool) -> None:
        assert self._teller is not None
        if waits:
            self.told(Told(session=self._session, prompt=self._teller.make(text, melody)))
        else:
            self._teller.tell(text, self._session, melody=melody)
