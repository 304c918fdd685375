"""Model bundles: find, verify and load a directory of manifest, graphs and hashes.

The only way a model gets into the engine. Nothing is unpickled, no path leaves the bundle, every byte is checked
against the manifest before a runtime sees it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
from msgspec import UNSET

from .batch import BatchRuntime
from .beside import Beside, beside_for
from .code_levels import CodeLevels
from .codec import Codec
from .company import Batch
from .conditioning import ConditioningLayout
from .decoder import PatternDecoder
from .encodec import Encodec
from .manifest import (
    CODE_LEVELS_ROLE,
    DECODER_BATCH_ROLE,
    DECODER_DATA_ROLE,
    DECODER_ROLE,
    MANIFEST_FILE,
    MELODY,
    FileEntry,
    Manifest,
    ManifestError,
    manifest_pattern,
    read_manifest,
)
from .melody import PREFIX, MelodyDecoder, MelodyRuntime
from .musicgen import MusicgenDecoder, PromptBox, PromptedDecoder
from .native_lane import NativeBatch
from .native_trial import natively
from .pace import measure_pace
from .pattern import Pattern
from .prompted import Prompt, PromptedRuntime
from .rolling import RollingDecoder
from .runtime import Floats, StepRuntime
from .stacked import StackedRuntime
from .text import TextEncoder

MODELS_VARIABLE = "ATTACCA_MODELS"
MAX_FILE_BYTES = 8 << 30
KEPT_OF_WINDOW = 3  # a third of a window is heard again where a take outlasts it
_READ_BYTES = 1 << 20
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A loaded bundle; sessions are shared, every stream gets its own generator and codec streams. Thread-safe."""

    manifest: Manifest
    codec: Codec | Encodec
    runtime: StepRuntime
    pattern: Pattern
    levels: CodeLevels | None = None  # of its codes
    batch: Batch | None = None  # several takes' steps as one, where that was looked for and found to pay

    @property
    def conditioning(self) -> ConditioningLayout:
        """What the decoder can be told."""
        return self.manifest.conditioning.layout

    def generator(self) -> PatternDecoder | RollingDecoder:
        """A fresh stream of the decoder."""
        return self.decoder()

    def decoder(self) -> PatternDecoder:
        """A fresh stream of the decoder itself."""
        return PatternDecoder(self.runtime, self.pattern, levels=self.levels)


@dataclass(frozen=True, kw_only=True)
class PromptedModel(Model):
    """A loaded bundle that is told by a text what to play. `text` is None if it has no text encoder."""

    runtime: PromptedRuntime
    text: TextEncoder | None
    box: PromptBox
    beside: Beside | None = None  # where another core is used, as it is for models whose steps fill one

    def generator(self) -> RollingDecoder:
        """A fresh stream without end, under the prompt as it is now, until it is told another."""
        text = self.manifest.text
        prefix = 0 if text is UNSET or not text.melody_rows else text.melody_rows + text.max_tokens
        horizon = self.manifest.window_frames - prefix - self.pattern.lag_steps - 1
        books = self.manifest.num_codebooks
        keep = horizon // KEPT_OF_WINDOW
        return RollingDecoder(self.decoder, horizon=horizon, keep=keep, num_codebooks=books, beside=self.beside)

    def decoder(self) -> PromptedDecoder:
        """A fresh stream of the decoder itself, which knows no more than its window."""
        if isinstance(self.runtime, MelodyRuntime):
            return MelodyDecoder(self.runtime, self.pattern, self.box)
        return MusicgenDecoder(self.runtime, self.pattern, self.box)

    def tell(self, text: str, chroma: Floats | None = None) -> None:
        """Streams that begin from now on follow this text, and a melody [rows, 12]; as `prompt`. Any thread."""
        self.box.prompt = self.prompt(text, chroma)

    def prompt(self, text: str, chroma: Floats | None = None) -> Prompt:
        """What a text, and a melody [rows, 12], is to the decoder; an empty text is none. Each is made once.

        ValueError if it is too long or not what the bundle reads. Any thread; takes as long as tens of steps.
        """
        if self.text is not None:
            prompt = self.text.prompt(text, chroma)
            if isinstance(self.runtime, MelodyRuntime):
                self.runtime.laid(prompt, prompt.values[PREFIX].shape[1])  # here, not on the decode thread
            return prompt
        if text.strip() or chroma is not None:
            raise ValueError(f"{self.manifest.name} has no text encoder: it cannot be told {text[:40]!r}")
        return Prompt.silent(self.runtime.shape)


def load_bundle(
    path: str | Path,
    *,
    threads: int = 1,
    verify: bool = True,
    several: bool = False,
    beside: str = "auto",
    steps: str = "cpu",
    say: Callable[[str], None] = _log.warning,
) -> Model:
    """Load the bundle in the directory `path`; `threads` for each session, `verify` compares the hashes.

    `steps`: what computes the decoder's, "cpu" for onnxruntime, "native" for our kernels if they pass, "auto" for
    what is faster; `say` is told why kernels that were asked for do not.
    `beside`: whether a model that is told by a text uses a second core, see `beside_for`.
    `several`: many takes at once are expected, so that what their sharing of steps gains is measured, for some
    seconds, and used.
    ManifestError (a ValueError) says what is wrong and with which file. Load thread.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    files = {}
    for role, entry in manifest.files.items():
        problem = _problem(folder, role, entry, hashes=verify)
        if problem is not None:
            raise ManifestError(problem)
        files[role] = folder / entry.path
    graph = _graph(files, manifest, verify=verify)
    try:
        codec = load_codec(files, manifest.codec, threads=threads)
    except ValueError as error:
        raise ManifestError(f"codec of {folder}: {error}") from None
    parts: dict[str, Any] = {"manifest": manifest, "codec": codec, "pattern": manifest_pattern(manifest)}
    choice: dict[str, Any] = {"wanted": steps, "say": say, "threads": threads}
    if not manifest.decoder.prompted:
        plain = natively(StepRuntime(graph, manifest, threads=threads), graph, parts["pattern"], **choice)
        parts["levels"] = _levels(files, manifest)
        return Model(runtime=plain, batch=_batch(files, plain, threads) if several else None, **parts)
    kind = _prompted_kind(manifest, parts["pattern"])
    runtime = natively(kind(graph, manifest, threads=threads), graph, parts["pattern"], **choice)
    section = manifest.text
    text = None if section is UNSET else TextEncoder(files, section, runtime.shape, threads=threads)
    batch = _batch(files, runtime, threads) if several else None
    box = PromptBox(Prompt.silent(runtime.shape))
    parts["beside"] = beside_for(runtime, 1.0 / manifest.frames_per_second, beside)
    model = PromptedModel(runtime=runtime, text=text, box=box, batch=batch, **parts)
    model.tell("")
    return model


def _levels(files: Mapping[str, Path], manifest: Manifest) -> CodeLevels | None:
    if CODE_LEVELS_ROLE not in files:
        return None
    try:
        levels = CodeLevels.load(files[CODE_LEVELS_ROLE])
    except ValueError as error:
        raise ManifestError(f"{CODE_LEVELS_ROLE} of {manifest.name}: {error}") from None
    if levels.tables.shape[:2] != (manifest.num_codebooks, manifest.codebook_size):
        raise ManifestError(f"{CODE_LEVELS_ROLE} of {manifest.name} is of other codes: {levels.tables.shape[:2]}")
    return levels


def _prompted_kind(manifest: Manifest, pattern: Pattern) -> type[PromptedRuntime]:
    if manifest.decoder.kind == MELODY:
        return MelodyRuntime
    return StackedRuntime if pattern.family == "stack" else PromptedRuntime


def _batch(files: Mapping[str, Path], single: StepRuntime, threads: int) -> Batch | None:
    """What stepping several takes at once is worth here; None if nothing can, or it does not pay.

    onnxruntime needs a graph for it; our kernels take several of any model.
    """
    if single.kernels is None and DECODER_BATCH_ROLE not in files:
        return None
    runtime: BatchRuntime | NativeBatch = (
        NativeBatch(single)
        if single.kernels is not None
        else BatchRuntime(str(files[DECODER_BATCH_ROLE]), single, threads=threads)
    )
    rows = single.manifest.num_codebooks + 1 if manifest_pattern(single.manifest).family == "stack" else 1
    clock = time.thread_time if threads == 1 else time.perf_counter  # the former minds no busy neighbour
    batch = Batch(runtime=runtime, pace=measure_pace(single, runtime, rows=rows, clock=clock))
    return batch if batch.pace.pays else None


def load_codec(files: Mapping[str, Path], section: Mapping[str, object], *, threads: int = 1) -> Codec | Encodec:
    """The codec that a manifest's section describes. ValueError says what is not understood."""
    kind = Encodec if section.get("kind") == "encodec" else Codec
    return kind.load(files, section, threads=threads)


def _graph(files: Mapping[str, Path], manifest: Manifest, *, verify: bool) -> bytes | str:
    """The decoder's graph, or its path where weights lie beside it, which onnxruntime looks for from there."""
    if DECODER_DATA_ROLE in files:
        return str(files[DECODER_ROLE])
    graph = files[DECODER_ROLE].read_bytes()
    if verify and hashlib.sha256(graph).hexdigest() != manifest.files[DECODER_ROLE].sha256:
        raise ManifestError(f"{DECODER_ROLE} of {manifest.name} changed while it was being loaded")
    return graph


def verify_bundle(path: str | Path) -> list[str]:
    """Every problem of the bundle in `path`, in words; an empty list if there is none. Nothing is loaded."""
    folder = Path(path)
    try:
        manifest = read_manifest(folder)
    except ManifestError as error:
        return [str(error)]
    found = (_problem(folder, role, entry, hashes=True) for role, entry in manifest.files.items())
    return [problem for problem in found if problem is not None]


def bundle_folders(environment: Mapping[str, str] | None = None) -> list[Path]:
    """Where bundles are looked for by name, first wins: ATTACCA_MODELS, the user's data directory, the package."""
    listed = (os.environ if environment is None else environment).get(MODELS_VARIABLE, "")
    own = [Path(part) for part in listed.split(os.pathsep) if part]
    return [*own, platformdirs.user_data_path("attacca") / "models", Path(__file__).parent / "bundles"]


def list_bundles(environment: Mapping[str, str] | None = None) -> dict[str, Path]:
    """Bundles that can be named -> their directories; a directory counts if it has a manifest, sound or not."""
    found: dict[str, Path] = {}
    for folder in bundle_folders(environment):
        if folder.is_dir():
            for path in sorted(folder.iterdir()):
                if (path / MANIFEST_FILE).is_file():
                    found.setdefault(path.name, path)
    return found


def find_bundle(name_or_path: str | Path, environment: Mapping[str, str] | None = None) -> Path:
    """Directory of a bundle given by path or by name. ManifestError names where it was looked for."""
    path = Path(name_or_path)
    if (path / MANIFEST_FILE).is_file():
        return path
    named = list_bundles(environment).get(str(name_or_path))
    if named is not None:
        return named
    folders = ", ".join(str(folder) for folder in bundle_folders(environment))
    raise ManifestError(
        f"no bundle {str(name_or_path)!r}: not a directory with a {MANIFEST_FILE}, nor in {folders}"
    )


def _problem(folder: Path, role: str, entry: FileEntry, *, hashes: bool) -> str | None:
    path = folder / entry.path
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            return f"{role}: {entry.path} leads outside the bundle"
        size = path.stat().st_size
        if not path.is_file():
            return f"{role}: {entry.path} is not a file"
        if size != entry.bytes or size > MAX_FILE_BYTES:
            return f"{role}: {entry.path} has {size} bytes, manifest says {entry.bytes}"
        found = file_sha256(path) if hashes else entry.sha256
    except OSError as error:
        return f"{role}: {entry.path} cannot be read: {error.strerror}"
    if found != entry.sha256:
        return f"{role}: {entry.path} has sha256 {found}, manifest says {entry.sha256}: damaged or tampered with"
    return None


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_READ_BYTES):
            digest.update(part)
    return digest.hexdigest()
