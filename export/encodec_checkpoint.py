"""Reads EnCodec out of published checkpoints: transformers' layout and audiocraft's, both weight-norm spellings.

Between the files (export/tensors.py) and the streaming graphs (export/encodec.py). What comes out has one set of
names (transformers', weight normalisation folded in) and is complete: a partial or foreign checkpoint is refused,
the missing keys named.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from attacca.export.encodec_plan import EncodecConfig, needed_weights
from attacca.export.tensors import (
    WEIGHT_FILES,
    CheckpointError,
    Tensors,
    load_pickle,
    named,
    read_tensors,
    state_tensors,
)

Array = npt.NDArray[np.float32]

AUDIOCRAFT_FILE = "compression_state_dict.bin"
MUSICGEN_FILE = "state_dict.bin"  # stands beside it
CONFIG_FILE = "config.json"
_PREFIX = "audio_encoder."
_MOST_REFERENCES = 8  # of one setting to another to another
_NORM_FORMS = (("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1"))


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodecCheckpoint:
    """A complete mono EnCodec; `weights` has exactly the names and shapes of `needed_weights(config)`."""

    config: EncodecConfig
    weights: dict[str, Array]


def read_encodec(source: Path) -> EncodecCheckpoint:
    """Read a folder (MusicGen's or EnCodec's of transformers, audiocraft's) or one of audiocraft's two files.

    Of a folder that holds both layouts, as published ones do, transformers' is read: audiocraft's needs torch and
    may be but a pointer. CheckpointError names what is missing, misshapen or not understood.
    """
    folder = source.parent if source.is_file() else source
    whole = (folder / CONFIG_FILE).is_file() and any((folder / name).is_file() for name in WEIGHT_FILES)
    if source.is_file() and source.name != MUSICGEN_FILE:
        return _read_audiocraft(source)
    if (folder / AUDIOCRAFT_FILE).is_file() and (source.is_file() or not whole):
        return _read_audiocraft(folder / AUDIOCRAFT_FILE)
    if source.is_file() or not (source / CONFIG_FILE).is_file():
        raise CheckpointError(f"{folder} has neither {CONFIG_FILE} nor {AUDIOCRAFT_FILE}: no EnCodec checkpoint")
    try:
        config = json.loads((source / CONFIG_FILE).read_text(encoding="utf-8"))
        within = "audio_encoder" in config
        section = dict(config["audio_encoder"] if within else config)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{source / CONFIG_FILE} is not understood: {error}") from None
    prefix = _PREFIX if within else ""
    tensors = read_tensors(source).renamed(
        lambda name: name.removeprefix(prefix) if name.startswith(prefix) else None
    )
    return checkpoint(_parsed(EncodecConfig.of_transformers, section, source), tensors, str(source))


def checkpoint(config: EncodecConfig, stored: Tensors, origin: str) -> EncodecCheckpoint:
    """Fold weight normalisation and check. CheckpointError names the keys that are missing or of another shape."""
    weights, missing = {}, []
    for name, shape in needed_weights(config).items():
        spellings: list[tuple[str, ...]] = [(name,)]
        if name.endswith(".conv.weight"):
            spellings += [tuple(name.removesuffix("weight") + part for part in form) for form in _NORM_FORMS]
        found = next((keys for keys in spellings if all(key in stored for key in keys)), None)
        if found is None:
            likely = next((keys for keys in spellings if any(key in stored for key in keys)), spellings[-1])
            missing += [key for key in likely if key not in stored]
            continue
        if stored.shape(found[-1]) != shape:
            raise CheckpointError(f"{origin}: {found[-1]} has shape {stored.shape(found[-1])}, needed: {shape}")
        array = stored[found[0]] if len(found) == 1 else _folded(stored[found[0]], stored[found[1]], found[0])
        if not np.isfinite(array).all():
            raise CheckpointError(f"{origin}: {found[-1]} has values that are not finite")
        weights[name] = np.ascontiguousarray(array, np.float32)
    if missing:
        raise CheckpointError(f"{origin} lacks {len(missing)} tensors of EnCodec: {named(missing)}")
    return EncodecCheckpoint(config=config, weights=weights)


def _folded(scale: Array, direction: Array, name: str) -> Array:
    """scale * direction / |direction|, the norm over all but the first dimension (Salimans and Kingma 2016)."""
    if scale.size != len(direction):
        raise CheckpointError(f"{name} has shape {scale.shape}, needed: {len(direction)} values")
    wide = direction.astype(np.float64)
    norm = np.sqrt(np.square(wide).sum(axis=tuple(range(1, wide.ndim)), keepdims=True))
    folded: Array = (wide * (scale.astype(np.float64).reshape(norm.shape) / norm)).astype(np.float32)
    return folded


def _parsed(
    parse: Callable[[Mapping[str, object]], EncodecConfig], settings: Mapping[str, object], path: Path
) -> EncodecConfig:
    try:
        return parse(settings)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None


def _read_audiocraft(path: Path) -> EncodecCheckpoint:
    package = load_pickle(path)
    if not isinstance(package, Mapping):
        raise CheckpointError(f"{path} is no audiocraft checkpoint: it holds a {type(package).__name__}")
    if "pretrained" in package:
        raise CheckpointError(
            f"{path} only points to another checkpoint, {package['pretrained']!r}: convert that one"
        )
    if "best_state" not in package or "xp.cfg" not in package:
        raise CheckpointError(f"{path} is no audiocraft checkpoint: it lacks the keys best_state and xp.cfg")
    config = _parsed(EncodecConfig.of_audiocraft, _settings(str(package["xp.cfg"]), path), path)
    state = package["best_state"]
    state = state.get("model", state) if isinstance(state, Mapping) else state
    return checkpoint(config, state_tensors(state, path).renamed(transformers_name), str(path))


def random_checkpoint(config: EncodecConfig, *, seed: int = 0) -> EncodecCheckpoint:
    """Random weights through which signals neither vanish nor grow; codebooks each finer than the one before."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in needed_weights(config).items():
        if "codebook" in name:
            scale = 0.3 * 0.7 ** int(name.split(".")[2])
        elif name.endswith("bias") or "bias_" in name:
            scale = 0.05
        else:
            gain = 0.4 if ".block.3." in name or ".shortcut." in name else 1.0
            scale = gain * float(np.prod(shape[1:])) ** -0.5
        weights[name] = rng.normal(0.0, scale, shape).astype(np.float32)
    return EncodecCheckpoint(config=config, weights=weights)


def transformers_name(name: str) -> str:
    """An audiocraft key as transformers spells it."""
    name = re.sub(r"^(encoder|decoder)\.model\.", r"\1.layers.", name)
    name = re.sub(r"\.(conv|convtr)\.\1\.", ".conv.", name)
    return re.sub(r"^quantizer\.vq\.layers\.(\d+)\._codebook\.", r"quantizer.layers.\1.codebook.", name)


def _settings(text: str, path: Path) -> dict[str, object]:
    """The codec's part of an OmegaConf YAML; `${a.b}` stands for the value at a.b from the top."""
    try:
        import yaml
    except ImportError:
        raise CheckpointError(f"{path}: reading its settings needs PyYAML") from None
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CheckpointError(f"{path}: xp.cfg is not readable YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(tree, dict):
        raise CheckpointError(f"{path}: xp.cfg is no table")

    def value_of(value: object, depth: int) -> object:
        if isinstance(value, dict):
            return {key: value_of(inner, depth) for key, inner in value.items()}
        if isinstance(value, list):
            return [value_of(inner, depth) for inner in value]
        found = re.fullmatch(r"\$\{([\w.]+)\}", value) if isinstance(value, str) else None
        if found is None:
            return value
        if depth > _MOST_REFERENCES:
            raise CheckpointError(f"{path}: {value} of xp.cfg leads in a circle")
        target: object = tree
        for part in found[1].split("."):
            target = target.get(part) if isinstance(target, dict) else None
        return value_of(target, depth + 1)

    # Only what describes the codec: the rest may refer to settings that are resolved by its own training alone.
    return {name: value_of(tree[name], 0) for name in ("encodec", "seanet", "rvq") if name in tree}
