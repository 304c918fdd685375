"""Weights that several graphs share, each once, in one file beside them.

Under export/gpu_bundle.py: a bundle's graphs for one, four, ... takes and for two runtimes hold the same matrices.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import onnx
from onnx import TensorProto

_INLINE_BYTES = 1024  # smaller constants stay in their graph
_ALIGNMENT = 64


class WeightPool:
    """A file of weights, by what they hold. `index` remembers places, for a pool that is gone on with."""

    def __init__(self, path: Path, *, index: Path | None = None) -> None:
        """Begun anew, unless there is an index of it."""
        self.path, self._index = path, index
        self._places: dict[str, int] = {}
        if index is not None and index.is_file() and path.is_file():
            self._places = json.loads(index.read_text(encoding="utf-8"))
        else:
            path.write_bytes(b"")

    def take(self, model: onnx.ModelProto) -> None:
        """Put a model's weights here; the model, which is to lie beside, says where they are."""
        with self.path.open("ab") as file:
            for tensor in model.graph.initializer:
                if len(tensor.raw_data) >= _INLINE_BYTES:
                    key, length = hashlib.sha256(tensor.raw_data).hexdigest(), len(tensor.raw_data)
                    if key not in self._places:
                        file.write(bytes(-file.tell() % _ALIGNMENT))
                        self._places[key] = file.tell()
                        file.write(tensor.raw_data)
                    tensor.ClearField("raw_data")
                    tensor.data_location = TensorProto.EXTERNAL
                    place = {"location": self.path.name, "offset": self._places[key], "length": length}
                    for name, value in place.items():
                        tensor.external_data.add(key=name, value=str(value))
        if self._index is not None:
            self._index.write_text(json.dumps(self._places), encoding="utf-8")
