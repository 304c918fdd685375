"""Texts for models that read them, made into prompts on a thread of their own: neither I/O nor decode waits.

Between the OSC port and the model (engine/text.py). Of texts that come faster than they are made the latest counts.
"""

from __future__ import annotations

import logging
import threading

from attacca.engine.bundle import PromptedModel
from attacca.engine.events import Model

_log = logging.getLogger("attacca.teller")


class Teller:
    """Any thread. A text that cannot be told is logged."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._wanted: str | None = None
        self._changed = threading.Condition()
        self._stopped = False
        self._thread: threading.Thread | None = None

    def tell(self, text: str) -> None:
        """Have all streams follow a text soon; at once in this method's own time."""
        with self._changed:
            self._wanted = text
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="attacca-teller", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """End the thread; a text that is being made is finished first."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._wanted is None and not self._stopped:
                    self._changed.wait()
                if self._stopped:
                    return
                text, self._wanted = self._wanted, None
            try:
                tell(self._model, text or "")
            except Exception as error:  # a text must never end the engine
                _log.warning("text refused: %s", error)


def tell(model: Model, text: str) -> None:
    """Have all streams of a model follow a text, now. ValueError if it reads none or this one is too long."""
    if isinstance(model, PromptedModel):
        model.tell(text)
    elif text.strip():
        raise ValueError("this model reads no text")
