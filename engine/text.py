"""Texts to prompts: tokenizer, text encoder and the keys and values of the decoder's layers, each text once.

Beside the step loop, off its path: a prompt takes as long as tens of steps, so it is made on the thread of whoever
asks for it, and the decode thread only takes up what is ready (engine/musicgen.py). Needs the `tokenizers` library.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from .chroma import PITCH_CLASSES, fitted, one_hot
from .manifest import TEXT_ROLES, ManifestError, TextSection
from .prompted import Prompt, PromptedShape
from .runtime import Floats

MAX_CHARACTERS = 4096
_KEPT = 16


class TextEncoder:
    """The loaded graphs of a bundle. Thread-safe."""

    def __init__(
        self, files: Mapping[str, Path], section: TextSection, shape: PromptedShape, *, threads: int = 1
    ) -> None:
        """ManifestError if a file cannot be read or does not fit, or the tokenizers library is not there."""
        encoder, prompt, tokenizer = (files[role] for role in TEXT_ROLES)
        self._section = section
        self._shape = shape
        self._tokenizer = _load_tokenizer(tokenizer)
        self._encoder = _session(encoder, threads, {"ids": [None]}, {"states": [None, section.dim]})
        inputs: dict[str, list[Any]] = {"states": [None, section.dim], "mask": [None]}
        if section.melody_rows:
            inputs["chroma"] = [None, PITCH_CLASSES]
        self._prompt = _session(prompt, threads, inputs, shape.prompt_outputs())
        self._names = [value.name for value in self._prompt.get_outputs()]
        self._made: OrderedDict[tuple[str, bytes], Prompt] = OrderedDict()
        self._encoded: tuple[str, Floats] | None = None
        self._lock = threading.Lock()

    @property
    def melody_rows(self) -> int:
        """Rows of chroma that the model reads; 0: it reads no melody."""
        return self._section.melody_rows

    def token_ids(self, text: str) -> list[int]:
        """Ids of a text's tokens, its end included. ValueError if there are too many."""
        if len(text) > MAX_CHARACTERS:
            raise ValueError(f"the text has {len(text)} characters, allowed: up to {MAX_CHARACTERS}")
        ids: list[int] = self._tokenizer.encode(text).ids
        if not 1 <= len(ids) <= self._section.max_tokens:
            raise ValueError(f"the text has {len(ids)} tokens, allowed: 1..{self._section.max_tokens}")
        return ids

    def prompt(self, text: str, chroma: Floats | None = None) -> Prompt:
        """The prompt of a text, and of a melody [rows, 12] where the model reads one; each made once.

        Nothing but spaces is no text. ValueError if the text is too long or the model reads no melody. Any thread.
        """
        rows = self._section.melody_rows
        if chroma is not None and not rows:
            raise ValueError("this model reads no melody")
        text = text if text.strip() else ""
        if not text and not rows:
            return Prompt.silent(self._shape)
        melody = fitted(one_hot(np.zeros(1, np.int64)) if chroma is None else chroma, rows) if rows else None
        key = text, b"" if melody is None else melody.tobytes()
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]
            made = self._make(text, melody)
            self._made[key] = made
            if len(self._made) > _KEPT:
                self._made.popitem(last=False)
            return made

    def _make(self, text: str, melody: Floats | None) -> Prompt:
        states = self._states_of(text) if text else np.zeros((1, self._section.dim), np.float32)
        mask = np.full(len(states), 1.0 if text else 0.0, np.float32)
        given = {"states": states, "mask": mask} | ({} if melody is None else {"chroma": melody})
        found = self._prompt.run(self._names, given)
        if not all(np.isfinite(value).all() for value in found):
            raise FloatingPointError(f"the text encoder's values of {text[:40]!r} are not finite")
        return self._shape.prompt_of(dict(zip(self._names, found, strict=True)), mask, text)

    def _states_of(self, text: str) -> Floats:
        """[tokens, text dim]; the last one's again at no cost, for melodies change more often than texts."""
        if self._encoded is None or self._encoded[0] != text:
            ids = np.array(self.token_ids(text), np.int64)
            self._encoded = text, self._encoder.run(["states"], {"ids": ids})[0]
        return self._encoded[1]


def _load_tokenizer(path: Path) -> Any:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise ManifestError(
            "this model reads text, which needs the tokenizers library: pip install 'attacca[musicgen]'"
        ) from None
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise ManifestError(f"{path.name} is no tokenizer: {error}") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _session(path: Path, threads: int, inputs: Mapping[str, list[Any]], outputs: Mapping[str, list[Any]]) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base but Exception
        raise ManifestError(f"{path.name} is not readable: {error}") from None
    for wanted, found in ((inputs, session.get_inputs()), (outputs, session.get_outputs())):
        shapes = {value.name: [n if isinstance(n, int) else None for n in value.shape] for value in found}
        if shapes != dict(wanted):
            raise ManifestError(f"{path.name} has {shapes}, allowed by the manifest: {dict(wanted)}")
    return session
