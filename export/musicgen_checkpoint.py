"""MusicGen checkpoints, as transformers and as audiocraft write them, under one set of names and checked.

Between the files (export/tensors.py) and the graph builder (export/musicgen.py). The names are transformers'
without the prefix of the decoder: embed_tokens.K, layers.N.{self_attn,encoder_attn}.{q,k,v,out}_proj, fc1, fc2, the
norms, lm_heads.K, enc_to_dec_proj. Audiocraft's fused projections are taken apart; T5 is not in its file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attacca.export.tensors import (
    CONFIG_FILE,
    WEIGHT_FILES,
    CheckpointError,
    Tensors,
    load_pickle,
    named,
    read_config,
    read_tensors,
    state_tensors,
)

AUDIOCRAFT_FILE = "state_dict.bin"
HEAD_DIM = 64  # of every published size; audiocraft's file says so in its own configuration only
ACTIVATIONS = ("gelu", "relu")
_PARTS = ("q_proj", "k_proj", "v_proj")
_STYLE_PARTS = ("batch_norm", "embed", "rvq", "transformer")  # of musicgen-style's conditioner, in its file
_AUDIOCRAFT_NAMES = (
    (r"^emb\.", "embed_tokens."),
    (r"^transformer\.", ""),
    (r"^linears\.", "lm_heads."),
    (r"^out_norm\.", "layer_norm."),
    (r"\.cross_attention\.", ".encoder_attn."),
    (r"_attn\.mha\.", "_attn."),
    (r"\.linear1\.", ".fc1."),
    (r"\.linear2\.", ".fc2."),
    (r"\.norm1\.", ".self_attn_layer_norm."),
    (r"\.norm_cross\.", ".encoder_attn_layer_norm."),
    (r"\.norm2\.", ".final_layer_norm."),
    (r"^condition_provider\.conditioners\.description\.output_proj\.", "enc_to_dec_proj."),
    (r"^condition_provider\.conditioners\.self_wav\.output_proj\.", "audio_enc_to_dec_proj."),
)
_IGNORED = re.compile(r"^embed_positions\.|^condition_provider\.conditioners\.self_wav\.chroma\.|\.rope\.")


@dataclass(frozen=True, kw_only=True)
class MusicgenShape:
    """Sizes of a decoder. `cross` is false for melody checkpoints: there, conditions precede the tokens."""

    layers: int
    dim: int
    heads: int
    hidden: int
    num_codebooks: int
    codebook_size: int
    audio_channels: int
    text_dim: int
    activation: str = "gelu"
    cross: bool = True
    num_chroma: int = 0

    def __post_init__(self) -> None:
        if self.heads < 1 or self.dim % self.heads or (self.dim // self.heads) % 8:
            raise CheckpointError(f"{self.heads} heads do not divide dim {self.dim} into heads of a multiple of 8")
        if self.audio_channels not in (1, 2) or self.num_codebooks % self.audio_channels:
            raise CheckpointError(f"{self.num_codebooks} codebooks do not serve {self.audio_channels} channels")
        if self.activation not in ACTIVATIONS:
            raise CheckpointError(f"activation {self.activation!r} is not one of {', '.join(ACTIVATIONS)}")

    @property
    def projects_text(self) -> bool:
        """Whether the text encoder's states are projected to the decoder's size."""
        return self.text_dim != self.dim

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Every tensor of the decoder with its shape."""
        d, vectors = self.dim, ("weight", "bias")
        for k in range(self.num_codebooks):
            yield f"embed_tokens.{k}.weight", (self.codebook_size + 1, d)
            yield f"lm_heads.{k}.weight", (self.codebook_size, d)
        for layer in range(self.layers):
            prefix = f"layers.{layer}."
            for kind in ("self_attn", "encoder_attn") if self.cross else ("self_attn",):
                for part in (*_PARTS, "out_proj"):
                    yield f"{prefix}{kind}.{part}.weight", (d, d)
                yield from ((f"{prefix}{kind}_layer_norm.{vector}", (d,)) for vector in vectors)
            yield from ((f"{prefix}final_layer_norm.{vector}", (d,)) for vector in vectors)
            yield f"{prefix}fc1.weight", (self.hidden, d)
            yield f"{prefix}fc2.weight", (d, self.hidden)
        yield from ((f"layer_norm.{vector}", (d,)) for vector in vectors)
        if self.projects_text:
            yield "enc_to_dec_proj.weight", (d, self.text_dim)
            yield "enc_to_dec_proj.bias", (d,)
        if self.num_chroma:
            yield "audio_enc_to_dec_proj.weight", (d, self.num_chroma)
            yield "audio_enc_to_dec_proj.bias", (d,)


@dataclass(frozen=True, kw_only=True)
class MusicgenCheckpoint:
    """A checked decoder; `config` is transformers' whole config.json, empty for audiocraft's layout."""

    shape: MusicgenShape
    decoder: Tensors
    text_encoder: Tensors  # T5 under transformers' names; empty if the checkpoint holds none
    config: Mapping[str, Any]
    source: str  # "transformers" or "audiocraft"


def read_musicgen(path: Path) -> MusicgenCheckpoint:
    """A checkpoint folder of either layout, or audiocraft's file itself.

    Of a folder that holds both, as published ones do, transformers' is read: audiocraft's needs torch and lacks T5.
    CheckpointError says what it is instead, or names the tensors that are missing, unknown or of another shape.
    """
    if path.is_file():
        return _read_audiocraft(path)
    if (path / AUDIOCRAFT_FILE).is_file() and not _is_whole(path):
        return _read_audiocraft(path / AUDIOCRAFT_FILE)
    if not (path / CONFIG_FILE).is_file():
        raise CheckpointError(f"{path} has neither {CONFIG_FILE} nor {AUDIOCRAFT_FILE}: no MusicGen checkpoint")
    return _read_transformers(path)


def _is_whole(folder: Path) -> bool:
    """Whether transformers' layout of a MusicGen checkpoint is there, not only that of its codec."""
    if not any((folder / name).is_file() for name in WEIGHT_FILES) or not (folder / CONFIG_FILE).is_file():
        return False
    return str(read_config(folder).get("model_type", "")).startswith("musicgen")


def _read_transformers(folder: Path) -> MusicgenCheckpoint:
    config = read_config(folder)
    try:
        kind = str(config["model_type"])
        settings = dict(config if kind.endswith("_decoder") else config["decoder"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder / CONFIG_FILE} is not understood: {type(error).__name__}: {error}"
        ) from None
    if kind.removesuffix("_decoder") not in ("musicgen", "musicgen_melody"):
        raise CheckpointError(f"{folder} is a {kind!r} checkpoint, allowed: musicgen and musicgen_melody")
    tensors = read_tensors(folder)
    alone = kind.endswith("_decoder")
    decoder = _known(tensors.renamed(lambda name: _decoder_name(name if alone else _inner_name(name))))
    text = tensors.renamed(lambda name: name[len("text_encoder.") :] if name.startswith("text_encoder.") else None)
    defaults = {"num_hidden_layers": 24, "ffn_dim": 4096, "num_attention_heads": 16, "hidden_size": 1024}
    defaults |= {"vocab_size": 2048, "num_codebooks": 4, "audio_channels": 1}
    sizes = {name: _size(settings.get(name, default), name) for name, default in defaults.items()}
    text_dim = dict(config.get("text_encoder", {})).get("d_model", 512)
    projection = "enc_to_dec_proj.weight"
    melody = kind.startswith("musicgen_melody")
    shape = MusicgenShape(
        layers=sizes["num_hidden_layers"],
        dim=sizes["hidden_size"],
        heads=sizes["num_attention_heads"],
        hidden=sizes["ffn_dim"],
        num_codebooks=sizes["num_codebooks"],
        codebook_size=sizes["vocab_size"],
        audio_channels=sizes["audio_channels"],
        text_dim=decoder.shape(projection)[-1]
        if projection in decoder
        else sizes["hidden_size"]
        if alone
        else text_dim,
        activation=str(settings.get("activation_function", "gelu")),
        cross=not melody,
        num_chroma=_size(config.get("num_chroma", 12), "num_chroma") if melody and not alone else 0,
    )
    _check(decoder, shape, folder)
    return MusicgenCheckpoint(shape=shape, decoder=decoder, text_encoder=text, config=config, source="transformers")


def _inner_name(name: str) -> str | None:
    if name.startswith(("enc_to_dec_proj.", "audio_enc_to_dec_proj.")):
        return name
    return name[len("decoder.") :] if name.startswith("decoder.") else None


def _decoder_name(name: str | None) -> str | None:
    return None if name is None else name.removeprefix("model.decoder.")


def _read_audiocraft(path: Path) -> MusicgenCheckpoint:
    package = load_pickle(path)
    if isinstance(package, Mapping) and "best_state" in package:
        state = package["best_state"]
        state = state.get("model", state) if isinstance(state, Mapping) else state
        settings = str(package.get("xp.cfg", ""))
    else:
        state, settings = package, ""
    tensors = state_tensors(state, path)
    decoder = _known(_separated(tensors.renamed(_audiocraft_name)))
    _check_conditioners(decoder, path)
    shape = _audiocraft_shape(decoder, settings, path)
    _check(decoder, shape, path)
    nothing = Tensors({}, {})
    return MusicgenCheckpoint(shape=shape, decoder=decoder, text_encoder=nothing, config={}, source="audiocraft")


def _check_conditioners(decoder: Tensors, path: Path) -> None:
    """Refuse what a decoder would be told by and is not, by name."""
    prefix = "condition_provider.conditioners."
    others = [name[len(prefix) :].split(".") for name in decoder if name.startswith(prefix)]
    style = sorted({parts[1] for parts in others if parts[0] == "self_wav" and parts[1] in _STYLE_PARTS})
    if style:
        raise CheckpointError(
            f"{path} is a musicgen-style checkpoint, which is told by a recording's style: of its conditioner "
            f"{', '.join(style)} are not supported, and what listens for it (MERT-v1-95M) is not in the file"
        )
    if others:
        names = ", ".join(sorted({parts[0] for parts in others}))
        raise CheckpointError(f"{path}: conditioners {names} are not supported, allowed: description and melody")


def _audiocraft_name(name: str) -> str:
    for pattern, new in _AUDIOCRAFT_NAMES:
        name = re.sub(pattern, new, name)
    return name


def _separated(tensors: Tensors) -> Tensors:
    """Each in_proj_weight [3 d, d] as the three projections that it stacks."""
    found = tensors
    for name in [name for name in tensors if name.endswith(".in_proj_weight")]:
        rows, dim = tensors.shape(name)
        if rows != 3 * dim:
            raise CheckpointError(f"{name} has shape {(rows, dim)}, allowed: three times as many rows as columns")
        stem = name.removesuffix("in_proj_weight")
        readers = {
            f"{stem}{part}.weight": lambda name=name, i=i, dim=dim: tensors[name][i * dim : (i + 1) * dim]
            for i, part in enumerate(_PARTS)
        }
        found = found.merged(Tensors(readers, dict.fromkeys(readers, (dim, dim))))
    return found.renamed(lambda name: None if name.endswith(".in_proj_weight") else name)


def _audiocraft_shape(decoder: Tensors, settings: str, path: Path) -> MusicgenShape:
    """Sizes read off the tensors; heads from the file's own configuration where it has one."""
    for name in ("embed_tokens.0.weight", "layers.0.fc1.weight"):
        if name not in decoder:
            raise CheckpointError(f"{path} is no MusicGen checkpoint: it lacks {name} (as transformers names it)")
    rows, dim = decoder.shape("embed_tokens.0.weight")
    codebooks = 1 + max(int(name.split(".")[1]) for name in decoder if name.startswith("embed_tokens."))
    heads = re.search(r"\bnum_heads:\s*(\d+)", settings)
    projection, chroma = "enc_to_dec_proj.weight", "audio_enc_to_dec_proj.weight"
    return MusicgenShape(
        layers=1 + max(int(name.split(".")[1]) for name in decoder if name.startswith("layers.")),
        dim=dim,
        heads=int(heads[1]) if heads else dim // HEAD_DIM,
        hidden=decoder.shape("layers.0.fc1.weight")[0],
        num_codebooks=codebooks,
        codebook_size=rows - 1,
        audio_channels=2 if codebooks == 8 else 1,
        text_dim=decoder.shape(projection)[-1] if projection in decoder else dim,
        cross=any(".encoder_attn." in name for name in decoder),
        num_chroma=decoder.shape(chroma)[-1] if chroma in decoder else 0,
    )


def _known(tensors: Tensors) -> Tensors:
    """Without what older files hold and nothing reads: tables of positions, windows of spectra."""
    return tensors.renamed(lambda name: None if _IGNORED.search(name) else name)


def _size(value: Any, name: str) -> int:
    if not isinstance(value, int) or value < 1:
        raise CheckpointError(f"{name} of the configuration is {value!r}, allowed: 1 or more")
    return value


def _check(decoder: Tensors, shape: MusicgenShape, path: Path) -> None:
    expected = dict(shape.tensors())
    missing = [name for name in expected if name not in decoder]
    if missing:
        raise CheckpointError(f"{path} lacks {len(missing)} tensors of the decoder: {named(missing)}")
    unknown = [name for name in decoder if name not in expected]
    if unknown:
        raise CheckpointError(f"{path} has {len(unknown)} tensors that the decoder does not: {named(unknown)}")
    wrong = [
        f"{name} {decoder.shape(name)} in place of {size}"
        for name, size in expected.items()
        if decoder.shape(name) != size
    ]
    if wrong:
        raise CheckpointError(f"{path} has tensors of other shapes: {named(wrong)}")
