"""The manifest of a model bundle: the single source of shapes, ids, rates, pattern, licence and provenance.

First thing read of a model and the last thing written by export. Strict both ways: what this version does not
understand is refused with the value and what is allowed, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from .conditioning import ConditioningLayout
from .pattern import Pattern, make_pattern

FORMAT_VERSION = 1
MANIFEST_FILE = "manifest.json"
MAX_MANIFEST_BYTES = 1 << 20
DECODER_ROLE = "decoder"
DECODER_DATA_ROLE = "decoder_data"  # weights beside a graph that is too big for one file
DECODER_BATCH_ROLE = "decoder_batch"  # graph of several takes over the decoder's weights, where it is worth one
CODE_LEVELS_ROLE = "code_levels"  # of codes (engine/code_levels.py), where they shall hold a take's level
TEXT_ROLES = ("text_encoder", "prompt", "tokenizer")
STACKED, MUSICGEN, MELODY = "stacked", "musicgen", "musicgen-melody"
DECODER_KINDS = (STACKED, MUSICGEN, MELODY)
PATTERNS = ("parallel", "delay", "flat", "stack", "stack-delay")
PRECISIONS = ("fp32", "fp16", "int8", "int4")
KV_BITS = (8, 32)
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")

# What a field may be: (lowest, highest), both included.
_LIMITS = {
    "sample_rate": (8000, 192000),
    "hop_samples": (16, 65536),
    "num_codebooks": (1, 32),
    "codebook_size": (2, 65535),
    "window_frames": (8, 65536),
    "pattern.p": (1, 16),
    "decoder.layers": (1, 256),
    "decoder.heads": (1, 256),
    "decoder.head_dim": (8, 512),
    "decoder.dim": (8, 65536),
}


class ManifestError(ValueError):
    """A bundle that cannot be used; the message names the field, its value and what is allowed."""


class PatternSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Codebook pattern; `p` counts only for stack-delay, `channels` (1 if left out) only for delay."""

    name: str
    p: int = 1
    channels: int | msgspec.UnsetType = msgspec.UNSET

    @property
    def side_by_side(self) -> int:
        """Codebooks that are computed at once."""
        return 1 if self.channels is msgspec.UNSET else self.channels


class ConditioningSection(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Layout the decoder was trained with (engine/conditioning.py); width 0 and no groups: it takes no commands."""

    width: int
    groups: tuple[tuple[str, int], ...]  # (name, width without its flag), in column order
    styles: tuple[str, ...] = ()  # names by number, or none

    @classmethod
    def of(cls, layout: ConditioningLayout) -> ConditioningSection:
        """A layout as the manifest states it."""
        return cls(width=layout.width, groups=layout.groups, styles=layout.styles)

    @property
    def layout(self) -> ConditioningLayout:
        """The layout. ManifestError if it is not understood."""
        try:
            layout = ConditioningLayout(groups=self.groups, styles=self.styles)
        except ValueError as error:
            raise ManifestError(f"manifest {error}") from None
        if layout.width != self.width:
            raise ManifestError(
                f"manifest conditioning.width is {self.width}, allowed: {layout.width}, the groups and their flags"
            )
        return layout


class DecoderSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shape and storage of the decoder graph; dim = heads * head_dim.

    `kind` is "stacked" if left out: rotary positions, a vector of conditions per frame. "musicgen" has sinusoidal
    positions and attends across to a prompt; "musicgen-melody" has it as rows before the first frame.
    """

    layers: int
    heads: int
    head_dim: int
    dim: int
    precision: str = "fp32"
    kv_bits: int = 32
    rotary_base: float = 10000.0
    kind: str | msgspec.UnsetType = msgspec.UNSET

    @property
    def prompted(self) -> bool:
        """Whether it is told by a prompt what to play."""
        return self.kind in (MUSICGEN, MELODY)


class TextSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A text encoder whose states the decoder's prompt is made of; and the rows of its melody, 0 if it has none."""

    dim: int
    max_tokens: int = 256
    melody_rows: int = 0


class HoldSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the engine holds takes to (engine/hold.py), so far as it is not as usual."""

    level: bool = True  # the level of what was played
    beat: bool | msgspec.UnsetType = msgspec.UNSET  # the host's beat; if not stated, where the model is not told it


class SamplingDefaults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What sounds best with this model; used where the user says nothing."""

    temperature: float = 1.0
    top_k: int = 0
    guidance: float = 1.0
    emphasis: float | msgspec.UnsetType = msgspec.UNSET  # on players commanded out (emphasis.py); unset: none


class FileEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of the bundle; `path` is relative and stays inside."""

    path: str
    sha256: str
    bytes: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A bundle's manifest, as in manifest.json."""

    format_version: int
    name: str
    version: str
    licence: str
    sample_rate: int
    hop_samples: int
    num_codebooks: int
    codebook_size: int
    window_frames: int
    pattern: PatternSection
    conditioning: ConditioningSection
    decoder: DecoderSection
    codec: dict[str, object]  # engine/codec.py validates it
    files: dict[str, FileEntry]
    sampling: SamplingDefaults = SamplingDefaults()
    provenance: dict[str, str | int | float | bool | None] = {}
    text: TextSection | msgspec.UnsetType = msgspec.UNSET
    hold: HoldSection | msgspec.UnsetType = msgspec.UNSET
    origin: str | msgspec.UnsetType = msgspec.UNSET  # URL or path it can be pulled from, where it has one

    @property
    def frames_per_second(self) -> float:
        """Codec frames in a second."""
        return self.sample_rate / self.hop_samples


def parse_manifest(data: bytes) -> Manifest:
    """Decode and validate. ManifestError names the field, its value and what is allowed."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise ManifestError(f"manifest has {len(data)} bytes, allowed: up to {MAX_MANIFEST_BYTES}")
    try:
        version = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).get("format_version", msgspec.Raw(b"null"))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(f"manifest is not a JSON object: {error}") from None
    if bytes(version).strip() != str(FORMAT_VERSION).encode():
        shown = bytes(version)[:32].decode(errors="replace")
        raise ManifestError(f"manifest format_version is {shown}, allowed: {FORMAT_VERSION}")
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(f"manifest is not understood: {error}") from None
    check_manifest(manifest)
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the bundle in `folder`. ManifestError if there is none or it is refused."""
    path = folder / MANIFEST_FILE
    try:
        with path.open("rb") as file:
            data = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise ManifestError(f"no readable {MANIFEST_FILE} in {folder}: {error.strerror}") from None
    return parse_manifest(data)


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of manifest.json: sorted, indented, ending in a newline."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=2) + b"\n"


def check_manifest(manifest: Manifest) -> None:
    """Refuse values outside what this version understands (ManifestError)."""
    if manifest.format_version != FORMAT_VERSION:
        raise ManifestError(f"manifest format_version is {manifest.format_version}, allowed: {FORMAT_VERSION}")
    if not _NAME.fullmatch(manifest.name):
        raise ManifestError(f"manifest name is {manifest.name!r}, allowed: {_NAME.pattern}")
    for field, (low, high) in _LIMITS.items():
        value: object = manifest
        for part in field.split("."):
            value = getattr(value, part)
        if not isinstance(value, int) or not low <= value <= high:
            raise ManifestError(f"manifest {field} is {value}, allowed: {low}..{high}")
    _check_choice("pattern.name", manifest.pattern.name, PATTERNS)
    pattern = manifest_pattern(manifest)
    reach = 2 * (pattern.lag_steps + pattern.num_codebooks + 1)
    if manifest.window_frames <= reach:  # a rollback prefills what the pattern had put out of order
        raise ManifestError(
            f"manifest window_frames is {manifest.window_frames}, allowed: above {reach} for {pattern.name}"
        )
    _check_choice("decoder.precision", manifest.decoder.precision, PRECISIONS)
    _check_choice("decoder.kv_bits", manifest.decoder.kv_bits, KV_BITS)
    decoder = manifest.decoder
    _check_text(manifest)
    if decoder.heads * decoder.head_dim != decoder.dim:
        raise ManifestError(
            f"manifest decoder.dim is {decoder.dim}, allowed: heads * head_dim = {decoder.heads * decoder.head_dim}"
        )
    if not 1.0 < decoder.rotary_base < 1e9:
        raise ManifestError(f"manifest decoder.rotary_base is {decoder.rotary_base}, allowed: above 1, below 1e9")
    _ = manifest.conditioning.layout  # refuses what is not understood
    _check_codec(manifest)
    _check_sampling(manifest.sampling)
    _check_files(manifest.files)


def manifest_pattern(manifest: Manifest) -> Pattern:
    """The codebook pattern of a manifest. ManifestError if it is not understood."""
    stated = manifest.pattern
    try:
        return make_pattern(stated.name, manifest.num_codebooks, p=stated.p, channels=stated.side_by_side)
    except ValueError as error:
        raise ManifestError(f"manifest pattern: {error}") from None


def _check_text(manifest: Manifest) -> None:
    if manifest.decoder.kind is not msgspec.UNSET:
        _check_choice("decoder.kind", manifest.decoder.kind, DECODER_KINDS)
    if manifest.decoder.prompted and manifest.conditioning.width:
        raise ManifestError(
            f"manifest conditioning.width is {manifest.conditioning.width}, "
            f"allowed: 0 for {manifest.decoder.kind!r}"
        )
    melody = manifest.decoder.kind == MELODY
    if manifest.text is msgspec.UNSET:
        if melody:
            raise ManifestError(f"manifest has no text encoder, needed where decoder.kind is {MELODY!r}")
        return
    if not manifest.decoder.prompted:
        raise ManifestError(
            f"manifest has a text encoder, allowed where decoder.kind is {MUSICGEN!r} or {MELODY!r}"
        )
    text, rows = manifest.text, (1, 4096) if melody else (0, 0)
    limits = {"dim": (1, 65536), "max_tokens": (1, 4096), "melody_rows": rows}
    for field, (low, high) in limits.items():
        if not low <= getattr(text, field) <= high:
            raise ManifestError(f"manifest text.{field} is {getattr(text, field)}, allowed: {low}..{high}")
    lacking = [role for role in TEXT_ROLES if role not in manifest.files]
    if lacking:
        raise ManifestError(f"manifest files lacks {', '.join(lacking)}, which a text encoder needs")


def _check_choice(field: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        raise ManifestError(f"manifest {field} is {value!r}, allowed: {', '.join(map(str, allowed))}")


def _check_codec(manifest: Manifest) -> None:
    for field in ("sample_rate", "hop_samples", "num_codebooks", "codebook_size"):
        value, wanted = manifest.codec.get(field), getattr(manifest, field)
        if value != wanted:
            raise ManifestError(
                f"manifest codec.{field} is {value!r}, allowed: {wanted}, as in the manifest itself"
            )


def _check_sampling(sampling: SamplingDefaults) -> None:
    limits = {"temperature": (0, 4), "top_k": (0, 65535), "guidance": (0, 10), "emphasis": (0, 10)}
    for field, (low, high) in limits.items():
        value = getattr(sampling, field)
        if value is not msgspec.UNSET and not low <= value <= high:
            raise ManifestError(f"manifest sampling.{field} is {value}, allowed: {low}..{high}")


def _check_files(files: Mapping[str, FileEntry]) -> None:
    if DECODER_ROLE not in files:
        raise ManifestError(
            f"manifest files has the roles {sorted(files)}, needed: {DECODER_ROLE!r} and the codec's"
        )
    for role, entry in files.items():
        parts = entry.path.split("/")
        if (
            "\\" in entry.path
            or ":" in entry.path
            or "\0" in entry.path
            or any(p in ("", ".", "..") for p in parts)
        ):
            raise ManifestError(
                f"manifest files.{role}.path is {entry.path!r}, allowed: a relative path inside the bundle"
            )
        if not _SHA256.fullmatch(entry.sha256):
            raise ManifestError(f"manifest files.{role}.sha256 is {entry.sha256!r}, allowed: 64 hex digits")
        if entry.bytes < 0:
            raise ManifestError(f"manifest files.{role}.bytes is {entry.bytes}, allowed: 0 or more")
