"""Texts for models that read them, made into prompts on a thread of their own: neither I/O nor decode waits.

Between those who tell (a session's client, OSC) and the decode thread: a text goes in, the prompt that it is to the
model comes back as a `Told` in the inbox, each text made once (engine/text.py). Of texts for one session that come
faster than they are made the latest counts.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from attacca.engine.bundle import PromptedModel
from attacca.engine.chroma import Floats
from attacca.engine.events import Model
from attacca.engine.prompted import Prompt

from .queues import ALL_SESSIONS, Told
from .text_rules import check_text

NO_TEXT: Final = "this model takes no text"
_log = logging.getLogger("attacca.teller")


class Teller:
    """Any thread. What cannot be told is logged and comes back as an error."""

    def __init__(self, model: Model, put: Callable[[Told], object]) -> None:
        self._model, self._put = model, put
        self._wanted: dict[int, tuple[str, Floats | None, bool]] = {}  # by session, oldest first
        self._changed = threading.Condition()
        self._stopped = False
        self._thread: threading.Thread | None = None

    @property
    def takes_text(self) -> bool:
        """Whether the model reads any."""
        return takes_text(self._model)

    @property
    def melody_rows(self) -> int:
        """Rows of chroma that the model reads; 0: it reads no melody."""
        model = self._model
        return model.text.melody_rows if isinstance(model, PromptedModel) and model.text is not None else 0

    def tell(
        self, text: str, session: int = ALL_SESSIONS, *, melody: Floats | None = None, outside: bool = False
    ) -> None:
        """Have a session, or all and those to come, follow a text soon; at once in this method's own time.

        An empty one is the engine's own for a session, and none for all. `melody` is chroma [n, 12], for models
        that read it. `outside`: it is not from the session's client. ValueError if it is no text or the model takes
        none.
        """
        self._check(text)
        with self._changed:
            if session == ALL_SESSIONS:
                self._wanted.clear()
            self._wanted.pop(session, None)
            self._wanted[session] = text, melody, outside
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="attacca-teller", daemon=True)
                self._thread.start()
            self._changed.notify()

    def make(self, text: str, melody: Floats | None = None) -> Prompt | None:
        """A session's prompt at once: where a host waits for it anyway. Decode thread. ValueError as `tell`."""
        self._check(text)
        return self._prompt(text, melody, False)

    def close(self) -> None:
        """End the thread; a text that is being made is finished first."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _check(self, text: str) -> None:
        check_text(text)
        if text.strip() and not self.takes_text:
            raise ValueError(NO_TEXT)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._wanted and not self._stopped:
                    self._changed.wait()
                if self._stopped:
                    return
                session = next(iter(self._wanted))
                text, melody, outside = self._wanted.pop(session)
            try:
                told = Told(session=session, prompt=self._prompt(text, melody, session == ALL_SESSIONS))
            except Exception as error:  # a text must never end the engine
                _log.warning("text refused: %s", error)
                told = Told(session=session, prompt=None, refused=str(error)[:512], outside=outside)
            self._put(told)

    def _prompt(self, text: str, melody: Floats | None, for_all: bool) -> Prompt | None:
        model = self._model
        if not isinstance(model, PromptedModel):
            return None
        if for_all:
            model.tell(text)
        if for_all or (melody is None and not text.strip()):
            return model.box.prompt
        return model.prompt(text if text.strip() else model.box.prompt.text, melody)


def takes_text(model: Model) -> bool:
    """Whether a model can be told a text."""
    return isinstance(model, PromptedModel) and model.text is not None


def tell(model: Model, text: str) -> None:
    """Have streams of a model that begin from now on follow a text. ValueError if it reads none or is too long."""
    if isinstance(model, PromptedModel):
        model.tell(text)
    elif text.strip():
        raise ValueError("this model reads no text")
