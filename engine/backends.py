"""Which runtime plays a model: one of the CPU's, or a GPU's that has just been shown to compute the same.

Between loading (bridge/loading.py) and a bundle (engine/bundle.py). A backend counts only after a test on this very
machine: forced through the same tokens, its logits must lie near the CPU's, and steps queued on the device must
draw what steps made one by one draw. Whatever fails falls back to the CPU with one line that says why.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import platformdirs

from . import device_codec
from .bundle import Model, PromptedModel
from .codec import Codec
from .company import Batch
from .decoder import PatternDecoder
from .device import DeviceError, Driver, NotAvailable, ProgramMaker
from .device_decoder import DeviceDecoder
from .device_lane import DeviceRuntime
from .device_melody import DeviceMelodyDecoder, DeviceMelodyRuntime
from .device_prompted import DeviceMusicgenDecoder, DevicePromptedRuntime
from .device_room import seats_for
from .device_sharing import SharedDevice
from .device_trial import seconds_a_step, self_test, sharing_test
from .encodec import Encodec
from .gpu_spec import GpuSpec, GraphFile, manifest_sha256, read_spec
from .manifest import Manifest, ManifestError, read_manifest
from .musicgen import PromptedDecoder
from .prompted import Prompt
from .runtime import Floats

BACKENDS = ("auto", "native", "cpu", "cuda", "tensorrt")
CPU_BACKENDS = ("native", "cpu")  # our kernels; onnxruntime
GPU_BACKENDS = ("tensorrt", "cuda")  # by expected speed
ENGINES = "engines"
_log = logging.getLogger(__name__)
Say = Callable[[str], None]
MoveCodec = Callable[[Codec | Encodec, Mapping[str, Path], Driver], Codec | Encodec]


class Open(Protocol):
    """Loads a bundle's graph of so many takes onto a device. DeviceError or ManifestError says why not."""

    def __call__(self, folder: Path, spec: GpuSpec, driver: Driver, takes: int = 1) -> ProgramMaker: ...


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

    device: DevicePromptedRuntime | DeviceMelodyRuntime

    def decoder(self) -> PromptedDecoder:
        """A fresh stream of the decoder itself, which knows no more than its window."""
        if _failed(self.device):
            return super().decoder()
        kind = DeviceMelodyDecoder if isinstance(self.device, DeviceMelodyRuntime) else DeviceMusicgenDecoder
        return kind(self.device, self.pattern, self.box)

    def prompt(self, text: str, chroma: Floats | None = None) -> Prompt:
        """As PromptedModel's; nothing of it is made for the CPU as long as the device plays."""
        if self.text is None or self.device.failed:
            return super().prompt(text, chroma)
        return self.text.prompt(text, chroma)


def _failed(device: DeviceRuntime) -> bool:
    """Whether a take has met an error of the device; said each time, since each take is slower for it."""
    if device.failed:
        _log.warning("backend %s has failed (%s); the CPU plays", device.name, device.failed)
    return bool(device.failed)


def backend_of(model: object) -> str:
    """The name of the backend that a model's decoder runs on."""
    device = getattr(model, "device", None)
    if isinstance(device, DeviceRuntime):
        return device.name
    return "native" if kernels_of(model) else "cpu"


def kernels_of(model: object) -> str:
    """The name of our kernels that a model's decoder runs on; empty if it runs on something else."""
    on_device = isinstance(getattr(model, "device", None), DeviceRuntime)
    kernels = getattr(getattr(model, "runtime", None), "kernels", None)
    return "" if on_device or kernels is None else str(kernels.name)


def backend_label(model: object) -> str:
    """The backend in words, with the kernels' name where they are ours."""
    kernels, name = kernels_of(model), backend_of(model)
    return f"{name} ({kernels or 'onnxruntime'})" if name in CPU_BACKENDS else name


def steps_of(backend: str) -> str:
    """What computes steps on the CPU, as load_bundle has it, where this backend was asked for."""
    return backend if backend in CPU_BACKENDS else "auto"


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


def open_cuda(folder: Path, spec: GpuSpec, driver: Driver, takes: int = 1) -> ProgramMaker:
    """onnxruntime's CUDA provider."""
    from .ort_device import OrtMaker

    return OrtMaker(checked_file(folder, spec, "onnxruntime", takes), driver)


def open_tensorrt(folder: Path, spec: GpuSpec, driver: Driver, takes: int = 1) -> ProgramMaker:
    """TensorRT, with the engine that `attacca export --tensorrt` made on this machine."""
    from .tensorrt_device import TensorrtMaker, engine_key, load_tensorrt

    module = load_tensorrt()
    name = engine_key(module, driver.info(), spec.manifest_sha256, precision=spec.precision, takes=takes)
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
    several: bool = False,
) -> Model:
    """The model on the backend asked for; `auto` is the fastest that passes. What fails is said, and the CPU plays.

    `several`: many takes at once are expected, so that they share steps where there are graphs for it and it pays.
    A machine without an NVIDIA driver is not told so unless a GPU was asked for. ValueError on an unknown name.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}, allowed: {', '.join(BACKENDS)}")
    if backend in CPU_BACKENDS:  # which of them, load_bundle has settled
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
        found = min(passed, key=lambda each: each[0])[1]
        if several:
            found = with_sharing(found, bundle, openers[backend_of(found)], say, clock)
        return with_codec(found, bundle, driver, say, move_codec)
    say("; ".join(reasons) + "; the CPU plays")
    return model


def on_device(model: Model, bundle: Path, name: str, driver: Driver, open_graph: Open) -> Model:
    """The model with its decoder on a device, tested. DeviceError or ManifestError says why not."""
    folder, spec = find_spec(bundle, read_manifest(bundle))  # as it lies there, not as settings changed it
    maker = open_graph(folder, spec, driver)
    parts: dict[str, Any] = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    parts["batch"] = None  # of the CPU's graphs
    if isinstance(model, PromptedModel):
        parts["beside"] = None  # threads of the CPU's: a device's lanes are one thread's
        kind = DeviceMelodyRuntime if spec.melody else DevicePromptedRuntime
        found: Model = PromptedDeviceModel(**parts, device=kind(maker, spec, model.manifest, name=name))
    else:
        found = DeviceModel(**parts, device=DeviceRuntime(maker, spec, model.manifest, name=name))
    self_test(model, found)
    return found


def with_sharing(model: Model, bundle: Path, open_graph: Open, say: Say, clock: Callable[[], float]) -> Model:
    """The model on a device whose takes share steps, if that passes its test and pays; else a line says why not."""
    folder, spec = find_spec(bundle, read_manifest(bundle))
    device: DeviceRuntime = getattr(model, "device")  # noqa: B009
    counts = sorted({graph.takes for graph in spec.graphs if graph.takes > 1})
    try:
        counts = affordable(counts, folder, spec, device.driver.info().memory_bytes)
        device.share({takes: open_graph(folder, spec, device.driver, takes) for takes in counts})
        pace = sharing_test(model, device, clock) if counts else None
        if pace is not None and pace.pays:
            device.warm()
            return dataclasses.replace(model, batch=Batch(runtime=SharedDevice(device), pace=pace))
    except (DeviceError, ManifestError) as error:
        say(f"backend {device.name}: takes do not share steps: {error}")
    except Exception as error:  # as in `choose`
        say(f"backend {device.name}: takes do not share steps: {type(error).__name__}: {str(error)[:200]}")
    device.share({})
    return model


def affordable(counts: Sequence[int], folder: Path, spec: GpuSpec, memory_bytes: int) -> list[int]:
    """The graphs of several takes, smallest first, that half of a device's memory holds with all their seats.

    0 bytes: it is not known, and all are tried.
    """
    kept = (spec.cache(1) | spec.prompt(1)).values()
    seat = sum(int(np.prod(shape)) * dtype.itemsize for dtype, shape in kept)
    files = [name for graph in spec.graphs[:1] for name in (graph.path, graph.data) if name]
    graph_bytes = sum((folder / name).stat().st_size for name in files)
    return [
        takes
        for loaded, takes in enumerate(counts, 2)
        if not memory_bytes or seats_for(takes) * seat + loaded * graph_bytes <= memory_bytes // 2
    ]


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
