"""Checkpoint files as a mapping from names to float32 arrays, read one tensor at a time.

First stage of converting somebody else's checkpoint. safetensors files, in one piece or in shards, are read here
with numpy alone: a header of names, types and offsets, then the bytes. Torch's pickles are read by torch with
`weights_only`, which executes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
MAX_HEADER_BYTES = 100 << 20
CONFIG_FILE = "config.json"
SAFETENSORS_FILE = "model.safetensors"
SAFETENSORS_INDEX = "model.safetensors.index.json"
PICKLE_FILE = "pytorch_model.bin"
PICKLE_INDEX = "pytorch_model.bin.index.json"
WEIGHT_FILES = (SAFETENSORS_FILE, SAFETENSORS_INDEX, PICKLE_FILE, PICKLE_INDEX)
_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "U8": "u1",
    "I8": "i1",
}


class CheckpointError(ValueError):
    """A checkpoint that cannot be converted; the message names the file or the tensors."""


class Tensors(Mapping[str, Floats]):
    """Names to float32 arrays; each is read when it is asked for."""

    def __init__(self, readers: Mapping[str, Callable[[], Floats]], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._readers = dict(readers)
        self._shapes = dict(shapes)

    def __getitem__(self, name: str) -> Floats:
        return self._readers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape without reading the values. KeyError if there is no such tensor."""
        return self._shapes[name]

    def renamed(self, rename: Callable[[str], str | None]) -> Tensors:
        """The same tensors under other names; those that get None are left out."""
        names = {name: new for name in self if (new := rename(name)) is not None}
        return Tensors(
            {new: self._readers[name] for name, new in names.items()},
            {new: self._shapes[name] for name, new in names.items()},
        )

    def merged(self, other: Tensors) -> Tensors:
        """These and another's, which win where names are the same."""
        return Tensors(self._readers | other._readers, self._shapes | other._shapes)

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Tensors:
        """Arrays that are in memory already; widened when they are asked for."""
        return cls(
            {name: lambda array=array: np.asarray(array, dtype=np.float32) for name, array in arrays.items()},
            {name: tuple(array.shape) for name, array in arrays.items()},
        )


def read_tensors(folder: Path) -> Tensors:
    """The weights of a checkpoint folder in transformers' layout. CheckpointError if there are none."""
    for name, read in ((SAFETENSORS_FILE, read_safetensors), (PICKLE_FILE, read_pickle)):
        index = folder / f"{name}.index.json"
        if index.is_file():
            return _read_shards(index, read)
        if (folder / name).is_file():
            return read(folder / name)
    raise CheckpointError(
        f"{folder} has no weights: needed is {SAFETENSORS_FILE}, {SAFETENSORS_INDEX} with its parts, "
        f"{PICKLE_FILE} or {PICKLE_INDEX} with its parts"
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a checkpoint folder. CheckpointError if there is none."""
    try:
        found = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / CONFIG_FILE} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{folder / CONFIG_FILE} holds no table")
    return found


def read_safetensors(path: Path) -> Tensors:
    """One safetensors file. CheckpointError if its header does not describe its bytes."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise CheckpointError(f"{path} is no safetensors file: its header has {length} bytes of {size}")
        try:
            header = json.loads(file.read(length))
            entries = {
                name: (str(entry["dtype"]), tuple(int(n) for n in entry["shape"]), *map(int, entry["data_offsets"]))
                for name, entry in header.items()
                if name != "__metadata__"
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path} is no safetensors file: {type(error).__name__}: {error}") from None
    readers, shapes = {}, {}
    for name, (dtype, shape, *offsets) in entries.items():
        width = np.dtype(_TYPES[dtype]).itemsize if dtype in _TYPES else 0
        begin, end = offsets if len(offsets) == 2 else (0, -1)
        if not width or min(shape, default=0) < 0 or not 0 <= begin <= end <= size - 8 - length:
            raise CheckpointError(f"{path}: tensor {name!r} is {dtype} {shape} at {offsets}, not understood")
        if end - begin != width * int(np.prod(shape, dtype=np.int64)):
            raise CheckpointError(
                f"{path}: tensor {name!r} has {end - begin} bytes, its shape {shape} says otherwise"
            )
        readers[name] = _reader(path, dtype, shape, 8 + length + begin)
        shapes[name] = shape
    return Tensors(readers, shapes)


def _reader(path: Path, dtype: str, shape: tuple[int, ...], offset: int) -> Callable[[], Floats]:
    def read() -> Floats:
        if 0 in shape:
            return np.zeros(shape, np.float32)
        raw = np.fromfile(path, np.dtype(_TYPES[dtype]), count=int(np.prod(shape, dtype=np.int64)), offset=offset)
        if dtype == "BF16":  # the upper half of a float32
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        return raw.reshape(shape).astype(np.float32, copy=False)

    return read


def read_pickle(path: Path) -> Tensors:
    """The tensors of a torch file that holds one flat state dict. CheckpointError if it holds something else."""
    return state_tensors(load_pickle(path), path)


def load_pickle(path: Path) -> Any:
    """What a torch file holds: tensors and plain containers only. CheckpointError if it holds anything else."""
    try:
        import torch
    except ImportError:
        raise CheckpointError(
            f"{path} is a torch file: reading it needs torch; safetensors files need none"
        ) from None
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises pickle, zip, runtime and value errors here
        raise CheckpointError(f"{path} is no torch file of plain tensors: {error}") from None


def state_tensors(state: Any, path: Path) -> Tensors:
    """A torch state dict as Tensors. CheckpointError if it is none."""
    if not isinstance(state, Mapping) or not all(hasattr(value, "shape") for value in state.values()):
        raise CheckpointError(f"{path} holds no state dict: names with tensors")
    return Tensors(
        {name: lambda tensor=tensor: tensor.detach().float().numpy() for name, tensor in state.items()},
        {name: tuple(tensor.shape) for name, tensor in state.items()},
    )


def _read_shards(index: Path, read: Callable[[Path], Tensors]) -> Tensors:
    try:
        weight_map: dict[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = sorted(set(weight_map.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is no index of shards: {type(error).__name__}: {error}") from None
    absent = [name for name in files if Path(name).name != name or not (index.parent / name).is_file()]
    if absent:
        raise CheckpointError(f"{index} names files that are not there: {', '.join(absent)}")
    found = Tensors({}, {})
    for name in files:
        found = found.merged(read(index.parent / name))
    missing = sorted(set(weight_map) - set(found))
    if missing:
        raise CheckpointError(f"the shards of {index} lack {named(missing)}")
    return found


def named(names: list[str], most: int = 12) -> str:
    """Names for a message: the first dozen, and how many more."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
