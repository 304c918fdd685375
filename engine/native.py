"""Our own kernels of a decoder step (kernels/step.h), loaded through ctypes: models of weights, workspaces, calls.

Beside onnxruntime, in whose place they compute; engine/native_lane.py runs lanes on them. A call lets go of the
GIL. Where the package was installed without a compiler there is no library, and NativeError says so.
"""

from __future__ import annotations

import ctypes
import importlib.util
import weakref
from ctypes import POINTER, c_char_p, c_float, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

VERSION = 1
MODULE = f"{__package__}._native"
_REASON_BYTES = 256


class NativeError(Exception):
    """Our kernels cannot do it here; the message says why."""


class Role(IntEnum):
    """What a weight is: attacca_role."""

    TOKENS = 0
    LEVELS = 1
    CONDITIONS = 2
    NORM1 = 3
    NORM1_BIAS = 4
    QKV = 5
    OUT = 6
    NORM_CROSS = 7
    NORM_CROSS_BIAS = 8
    CROSS_QUERY = 9
    CROSS_OUT = 10
    NORM2 = 11
    NORM2_BIAS = 12
    IN = 13
    FFN_OUT = 14
    KEY_SCALE = 15
    VALUE_SCALE = 16
    NORM = 17
    NORM_BIAS = 18
    HEADS = 19


class Kind(IntEnum):
    """How a weight is stored: attacca_kind."""

    FLOAT = 0
    HALF = 1
    ROWS7 = 2
    BLOCKS8 = 3
    BLOCKS4 = 4


class Sizes(ctypes.Structure):
    """attacca_sizes."""

    _fields_ = (
        ("version", c_int32),
        ("layers", c_int32),
        ("dim", c_int32),
        ("heads", c_int32),
        ("head_dim", c_int32),
        ("hidden", c_int32),
        ("codebooks", c_int32),
        ("codebook_size", c_int32),
        ("table_rows", c_int32),
        ("conditions", c_int32),
        ("window", c_int32),
        ("kv_bits", c_int32),
        ("layer_norm", c_int32),
        ("gated", c_int32),
        ("rotary", c_int32),
        ("cross", c_int32),
        ("joined_heads", c_int32),
        ("norm_epsilon", c_float),
    )


class Call(ctypes.Structure):
    """attacca_call. Pointers are addresses; whoever fills them in keeps what they point to."""

    _fields_ = (
        ("rows", c_int32),
        ("past", c_int32),
        ("stack", c_void_p),
        ("level", c_void_p),
        ("position", c_void_p),
        ("cosine", c_void_p),
        ("sine", c_void_p),
        ("conditions", c_void_p),
        ("given", c_void_p),
        ("cache", c_void_p),
        ("capacity", c_int32),
        ("wanted", c_int32),
        ("row_of_level", c_void_p),
        ("prompt_tokens", c_int32),
        ("cross_key", c_void_p),
        ("cross_value", c_void_p),
        ("cross_mask", c_void_p),
        ("noise", c_void_p),
        ("temperature", c_void_p),
        ("guidance", c_void_p),
        ("top_k", c_void_p),
        ("tokens", c_void_p),
        ("logits", c_void_p),
    )


# name -> (result, arguments)
FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "attacca_kernels": (c_char_p, []),
    "attacca_kernels_count": (c_int32, []),
    "attacca_kernels_name": (c_char_p, [c_int32]),
    "attacca_model_new": (c_void_p, [POINTER(Sizes), c_char_p, c_char_p]),
    "attacca_model_free": (None, [c_void_p]),
    "attacca_model_set": (
        c_int32,
        [c_void_p, c_int32, c_int32, c_int32, c_int32, c_int32, c_int32, c_void_p, c_void_p, c_char_p],
    ),
    "attacca_model_finish": (c_int32, [c_void_p, c_char_p]),
    "attacca_model_bytes": (c_int64, [c_void_p]),
    "attacca_workspace_new": (c_void_p, [c_void_p, c_int32]),
    "attacca_workspace_free": (None, [c_void_p]),
    "attacca_step": (c_int32, [c_void_p, c_void_p, c_void_p, c_int32]),
}


def built() -> str | None:
    """Where the library lies; None if it was not built."""
    place = importlib.util.find_spec(MODULE)
    return None if place is None else place.origin


@lru_cache(maxsize=1)
def library() -> Any:
    """The loaded library. NativeError if it was not built, or is another version's. Any thread."""
    path = built()
    if path is None:
        raise NativeError("the kernels were not built: install attacca where there is a C++ compiler")
    try:
        found = ctypes.CDLL(path)
        for name, (result, arguments) in FUNCTIONS.items():
            function = getattr(found, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise NativeError(f"the kernels in {path} cannot be loaded: {error}") from None
    return found


def kernels() -> list[str]:
    """Names of the kernels that this processor can run, the fastest first. NativeError if there is no library."""
    loaded = library()
    return [loaded.attacca_kernels_name(index).decode() for index in range(loaded.attacca_kernels_count())]


@dataclass(frozen=True, kw_only=True, eq=False)
class Weight:
    """A weight in the layout of its kind: `inputs` by `outputs`; a vector has inputs 1, a table a row per input."""

    kind: Kind
    inputs: int
    outputs: int
    block: int = 0
    codes: npt.NDArray[Any]
    scales: npt.NDArray[np.float32] | None = None


class NativeModel:
    """Weights as the kernels hold them. Thread-safe once `finish` was called."""

    def __init__(self, sizes: Sizes, kernels: str | None = None) -> None:
        """Empty; `kernels` is a name of `kernels()`, or None for the fastest. NativeError if it cannot be."""
        self._library = library()
        why = ctypes.create_string_buffer(_REASON_BYTES)
        wanted = None if kernels is None else kernels.encode()
        self.handle = self._library.attacca_model_new(ctypes.byref(sizes), wanted, why)
        if not self.handle:
            raise NativeError(_reason(why))
        _freed_with(self, self._library.attacca_model_free, self.handle)
        self.kernels: str = kernels or self._library.attacca_kernels().decode()

    def set(self, role: Role, layer: int, weight: Weight) -> None:
        """Copy a weight. NativeError if it does not fit."""
        codes = np.require(weight.codes, requirements=["C", "A"])
        scales = None if weight.scales is None else np.require(weight.scales, np.float32, ["C", "A"])
        why = ctypes.create_string_buffer(_REASON_BYTES)
        status = self._library.attacca_model_set(
            self.handle,
            role,
            layer,
            weight.kind,
            weight.inputs,
            weight.outputs,
            weight.block,
            codes.ctypes.data,
            None if scales is None else scales.ctypes.data,
            why,
        )
        if status:
            raise NativeError(f"{role.name} of layer {layer}: {_reason(why)}")

    def finish(self) -> None:
        """NativeError names a weight that is missing."""
        why = ctypes.create_string_buffer(_REASON_BYTES)
        if self._library.attacca_model_finish(self.handle, why):
            raise NativeError(_reason(why))

    @property
    def nbytes(self) -> int:
        """Memory that it holds."""
        return int(self._library.attacca_model_bytes(self.handle))

    def workspace(self, rows: int) -> Workspace:
        """Buffers for calls of up to so many rows in all. NativeError if memory is short."""
        return Workspace(self, rows)


class Workspace:
    """What a thread steps with. One thread at a time."""

    def __init__(self, model: NativeModel, rows: int) -> None:
        self._model = model  # outlives this
        loaded = library()
        self._handle = loaded.attacca_workspace_new(model.handle, rows)
        if not self._handle:
            raise NativeError(f"no memory for steps of {rows} rows")
        _freed_with(self, loaded.attacca_workspace_free, self._handle)
        self._step = loaded.attacca_step

    def step(self, calls: Any, count: int) -> None:
        """Run so many calls, which lie one after another (a ctypes reference). ValueError if one is impossible."""
        if self._step(self._model.handle, self._handle, calls, count):
            raise ValueError("the decoder's kernels refuse a step: a token, a row or a slot is out of range")


def _freed_with(owner: object, free: Any, handle: int) -> None:
    """Not when the interpreter ends: a thread may still be in a step then, and the process is over anyway."""
    weakref.finalize(owner, free, handle).atexit = False


def _reason(why: Any) -> str:
    return str(why.value.decode(errors="replace")) or "the kernels do not say why"
