"""Which runtime plays a model: the CPU's, or a GPU's that has just been shown to compute the same.

Between loading (bridge/loading.py) and a bundle (engine/bundle.py). A backend counts only after a test on this very
machine: forced through the same tokens, its logits must lie near the CPU's, and steps queued on the device must
draw what steps made one by one draw. Whatever fails falls back to the CPU with one line that says why.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs

from . import device_codec
from .bundle import Model, PromptedModel
from .codec import Codec
from .decoder import PatternDecoder
from .device import DeviceError, Driver, NotAvailable, ProgramMaker
from .device_decoder import DeviceDecoder
from .device_lane import DeviceRuntime
from .device_prompted import DeviceMusicgenDecoder, DevicePromptedRuntime
from .encodec import Encodec
from .generator import Conditions, Sampling
from .gpu_spec import GpuSpec, GraphFile, manifest_sha256, read_spec
from .manifest import MELODY, Manifest, ManifestError, read_manifest
from .musicgen import PromptedDecoder

BACKENDS = ("auto", "cpu", "cuda", "tensorrt")
GPU_BACKENDS = ("tensorrt", "cuda")  # by expected speed
TOLERANCE = 0.05  # RMS of the difference of logits over their RMS; int8 weights against halves lie near 0.01
ENGINES = "engines"
_LISTENED, _FORCED, _TIMED_STEPS = 8, 16, 48
_log = logging.getLogger(__name__)
Say = Callable[[str], None]
MoveCodec = Callable[[Codec | Encodec, Mapping[str, Path], Driver], Codec | Encodec]
Open = Callable[[Path, GpuSpec, Driver], ProgramMaker]


@dataclass(frozen=True, kw_only=True)
class DeviceModel(Model):
    """A bundle whose decoder runs on a device; the CPU's runtime stays beside it."""

    device: DeviceRuntime

    def decoder(self) -> PatternDecoder:
        """A fresh stream of the decoder itself; on the CPU once the device has failed."""
        runtime: Any = self.device
        if _failed(self.device):
            return super().decoder()
        return DeviceDecoder(runtime, self.pattern, levels=self.levels)


@dataclass(frozen=True, kw_only=True)
class PromptedDeviceModel(PromptedModel):
    """The same for a bundle that is told by a text what to play."""

    device: DevicePromptedRuntime

    def decoder(self) -> PromptedDecoder:
        """A fresh stream of the decoder itself, which knows no more than its window."""
        if _failed(self.device):
            return super().decoder()
        return DeviceMusicgenDecoder(self.device, self.pattern, self.box)


def _failed(device: DeviceRuntime) -> bool:
    """Whether a take has met an error of the device; said each time, since each take is slower for it."""
    if device.failed:
        _log.warning("backend %s has failed (%s); the CPU plays", device.name, device.failed)
    return bool(device.failed)


def backend_of(model: object) -> str:
    """The name of the backend that a model's decoder runs on."""
    device = getattr(model, "device", None)
    return device.name if isinstance(device, DeviceRuntime) else "cpu"


def precision_of(model: object) -> str:
    """Of the graph on a device; empty for the CPU, whose manifest says it."""
    device = getattr(model, "device", None)
    return device.spec.precision if isinstance(device, DeviceRuntime) else ""


def gpu_folders(bundle: Path, manifest: Manifest) -> list[Path]:
    """Where graphs for GPUs are looked for: in the bundle, then in the user's cache."""
    cache = platformdirs.user_cache_path("attacca", appauthor=False) / "gpu"
    return [bundle / "gpu", cache / f"{manifest.name}-{manifest_sha256(manifest)[:16]}"]


def find_spec(bundle: Path, manifest: Manifest) -> tuple[Path, GpuSpec]:
    """Folder and list of a bundle's graphs. ManifestError if there are none, or the ones found do not fit."""
    if manifest.decoder.kind == MELODY:
        raise ManifestError(f"{manifest.name} is a melody model, which has no graphs for GPUs")
    folders = gpu_folders(bundle, manifest)
    for folder in folders:
        if folder.is_dir():
            return folder, read_spec(folder, manifest)
    raise ManifestError(f"{manifest.name} has no graphs for GPUs: attacca export --model {bundle}")


def checked_file(folder: Path, spec: GpuSpec, dialect: str, takes: int = 1) -> Path:
    """The graph of a dialect, its bytes as listed. ManifestError if it is missing or changed."""
    for graph in spec.graphs:
        if graph.dialect == dialect and graph.takes == takes:
            return _verified(folder, graph)
    raise ManifestError(f"{folder} has no {dialect} graph for {takes} takes")


def _verified(folder: Path, graph: GraphFile) -> Path:
    for name, wanted in ((graph.path, graph.sha256), (graph.data, graph.data_sha256)):
        path = folder / name
        if not name:
            continue
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ManifestError(f"{path} cannot be read: {error.strerror}") from None
        if found != wanted:
            raise ManifestError(f"{path} has sha256 {found}, listed is {wanted}: make it anew with attacca export")
    return folder / graph.path


def open_cuda(folder: Path, spec: GpuSpec, driver: Driver) -> ProgramMaker:
    """onnxruntime's CUDA provider."""
    from .ort_device import OrtMaker

    return OrtMaker(checked_file(folder, spec, "onnxruntime"), driver)


def open_tensorrt(folder: Path, spec: GpuSpec, driver: Driver) -> ProgramMaker:
    """TensorRT, with the engine that `attacca export --tensorrt` made on this machine."""
    from .tensorrt_device import TensorrtMaker, engine_key, load_tensorrt

    module = load_tensorrt()
    name = engine_key(module, driver.info(), spec.manifest_sha256, precision=spec.precision, takes=1)
    path = folder / ENGINES / f"{name}.engine"
    if not path.is_file():
        raise NotAvailable(f"no TensorRT engine {path.name}: attacca export --tensorrt on this machine")
    return TensorrtMaker(path.read_bytes(), driver, module)


def cuda_driver() -> Driver:
    """NVIDIA's driver. NotAvailable if there is none."""
    from .cuda_driver import CudaDriver

    return CudaDriver()


OPENERS: Mapping[str, Open] = {"cuda": open_cuda, "tensorrt": open_tensorrt}


def choose(
    model: Model,
    bundle: Path,
    backend: str,
    *,
    say: Say,
    driver: Callable[[], Driver] = cuda_driver,
    openers: Mapping[str, Open] = OPENERS,
    clock: Callable[[], float] = time.perf_counter,
    move_codec: MoveCodec = device_codec.chosen,
) -> Model:
    """The model on the backend asked for; `auto` is the fastest that passes. What fails is said, and the CPU plays.

    A machine without an NVIDIA driver is not told so unless a GPU was asked for. ValueError on an unknown name.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}, allowed: {', '.join(BACKENDS)}")
    if backend == "cpu":
        return model
    try:
        device = driver()
    except NotAvailable as error:
        if backend != "auto":
            say(f"backend {backend}: {error}; the CPU plays")
        return model
    try:
        find_spec(bundle, read_manifest(bundle))
    except ManifestError as error:  # told before anything is loaded onto the device
        device.close()
        say(f"backend {backend}: {error}; the CPU plays")
        return model
    passed: list[tuple[float, Model]] = []
    reasons = []
    for name in GPU_BACKENDS if backend == "auto" else (backend,):
        try:
            candidate = on_device(model, bundle, name, device, openers[name])
            passed.append((seconds_a_step(candidate, clock), candidate))
        except (DeviceError, ManifestError) as error:
            reasons.append(f"backend {name}: {error}")
        except Exception as error:  # packages over a GPU fail in their own ways, and music must go on
            reasons.append(f"backend {name}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
    if passed:
        return with_codec(min(passed, key=lambda each: each[0])[1], bundle, driver, say, move_codec)
    say("; ".join(reasons) + "; the CPU plays")
    return model


def on_device(model: Model, bundle: Path, name: str, driver: Driver, open_graph: Open) -> Model:
    """The model with its decoder on a device, tested. DeviceError or ManifestError says why not."""
    folder, spec = find_spec(bundle, read_manifest(bundle))  # as it lies there, not as settings changed it
    maker = open_graph(folder, spec, driver)
    parts: dict[str, Any] = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    parts["batch"] = None  # of the CPU's graphs
    if isinstance(model, PromptedModel):
        prompted = DevicePromptedRuntime(maker, spec, model.manifest, name=name)
        found: Model = PromptedDeviceModel(**parts, device=prompted)
    else:
        found = DeviceModel(**parts, device=DeviceRuntime(maker, spec, model.manifest, name=name))
    self_test(model, found)
    return found


def with_codec(
    model: Model, bundle: Path, driver: Callable[[], Driver], say: Say, move: MoveCodec = device_codec.chosen
) -> Model:
    """The model with its codec on a second stream of the device too, if that pays; else a line says why not."""
    files = {role: bundle / entry.path for role, entry in model.manifest.files.items()}
    try:
        return dataclasses.replace(model, codec=move(model.codec, files, driver()))
    except DeviceError as error:
        say(f"backend {backend_of(model)}: the codec stays on the CPU: {error}")
    except Exception as error:  # as above
        say(f"backend {backend_of(model)}: the codec stays on the CPU: {type(error).__name__}: {str(error)[:200]}")
    return model


def self_test(cpu: Model, device: Model) -> float:
    """How far the device's logits lie from the CPU's, relative. DeviceError if too far, or feedback fails."""
    wanted = forced_logits(cpu.decoder(), cpu)
    try:
        found = forced_logits(full(device.decoder()), cpu)
    except FloatingPointError:
        raise DeviceError("its logits are not finite") from None
    apart = float(np.sqrt(np.mean((found - wanted) ** 2) / np.mean(wanted**2)))
    if not apart <= TOLERANCE:
        raise DeviceError(f"its logits differ from the CPU's by {apart:.3g}, allowed: {TOLERANCE}")
    queued, single = device.decoder(), device.decoder()
    sampling, source = Sampling(seed=1), Nothing(cpu.conditioning.width)
    queued.plan(_FORCED, source, sampling)
    while single.frontier < _FORCED:
        single.plan(_FORCED, source, sampling, max_steps=1)
    if not np.array_equal(queued.read(0, _FORCED), single.read(0, _FORCED)):
        raise DeviceError("steps queued on it draw other tokens than steps made one by one")
    return apart


def forced_logits(decoder: PatternDecoder, model: Model) -> npt.NDArray[np.float32]:
    """Guided logits [steps, K, V], zeros for codebooks without a frame: some frames heard, random codes forced."""
    manifest, logits = model.manifest, []
    books, size = manifest.num_codebooks, manifest.codebook_size
    codes = np.random.default_rng(0).integers(0, size, (_LISTENED + 4 * _FORCED, books))
    source = Nothing(model.conditioning.width)
    decoder.listen(codes[:_LISTENED].astype(np.uint16), source.rows(0, _LISTENED))

    def force(frames: npt.NDArray[np.int64], found: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        logits.append(np.where(frames[:, None] >= 0, found, 0.0))
        chosen: npt.NDArray[np.int64] = codes[np.clip(frames, 0, len(codes) - 1), np.arange(books)]
        return chosen

    decoder.choose = force
    PatternDecoder.plan(decoder, _LISTENED + _FORCED, source, Sampling(seed=1, guidance=2.0), max_steps=8 * _FORCED)
    return np.stack(logits).astype(np.float32)


def full(decoder: PatternDecoder) -> PatternDecoder:
    """The decoder with all logits brought back from the device."""
    lane: Any = decoder._lane
    lane.full_logits = True
    return decoder


def seconds_a_step(model: Model, clock: Callable[[], float]) -> float:
    """Of a few steps, queued as a take queues them."""
    decoder, source = model.decoder(), Nothing(model.conditioning.width)
    sampling = Sampling(seed=1)
    decoder.plan(1 << 20, source, sampling, max_steps=_TIMED_STEPS)
    began = clock()
    decoder.plan(1 << 20, source, sampling, max_steps=_TIMED_STEPS)
    return (clock() - began) / _TIMED_STEPS


class Nothing:
    """A condition source that commands nothing."""

    def __init__(self, width: int) -> None:
        self._width = width

    def rows(self, first_frame: int, count: int) -> Conditions:
        """See ConditionSource."""
        return np.zeros((count, self._width), np.float32)
