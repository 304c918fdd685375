"""A standard graph as a TensorRT engine: parsed strictly typed, built with a timing cache, named by what it fits.

After export/gpu_bundle.py, before engine/tensorrt_device.py. `tensorrt` builds for the GPU it runs on;
`tensorrt_rtx_bindings` can build for a named compute capability without any, which is how this is tested.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attacca.engine.backends import ENGINES, checked_file
from attacca.engine.device import DeviceError, DeviceInfo
from attacca.engine.gpu_spec import GpuSpec
from attacca.engine.tensorrt_device import engine_key

TIMING_CACHE = "timing.cache"
_LARGEST_TOPK = 3840  # that TensorRT takes


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """How to build: `capability` (8, 6) for another GPU than this machine's, where the package can."""

    capability: tuple[int, int] | None = None
    workspace_bytes: int = 1 << 30
    effort: int = 3  # TensorRT's optimisation level

    def __post_init__(self) -> None:
        if not 0 <= self.effort <= 5:
            raise ValueError(f"EngineOptions.effort is {self.effort}, allowed: 0..5")
        if self.workspace_bytes < 1 << 20:
            raise ValueError(f"EngineOptions.workspace_bytes is {self.workspace_bytes}, allowed: {1 << 20} or more")


def build_engine(graph: Path, module: Any, options: EngineOptions, cache: Path | None = None) -> bytes:
    """The engine of a standard graph. DeviceError with the parser's or the builder's words if there is none.

    `cache` is read, if it is there and of this version, and written: it makes a second build quick.
    """
    logger = _Words(module)
    builder = module.Builder(logger.logger)
    network = builder.create_network(1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = module.OnnxParser(network, logger.logger)
    if not parser.parse_from_file(str(graph)):
        words = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise DeviceError(f"TensorRT {module.__version__} does not parse {graph.name}: {words}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    config.builder_optimization_level = options.effort
    if options.capability is not None:
        _aim(config, module, options.capability)
    timings = _timing_cache(config, module, cache)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise DeviceError(f"TensorRT {module.__version__} does not build {graph.name}: {logger.last}")
    if cache is not None and timings is not None:
        cache.write_bytes(bytes(memoryview(config.get_timing_cache().serialize())))
    return bytes(memoryview(engine))


def write_engine(
    folder: Path, spec: GpuSpec, info: DeviceInfo, module: Any, options: EngineOptions, *, takes: int = 1
) -> Path:
    """Build the engine of a bundle's standard graph for a GPU and put it where engine/backends.py looks."""
    if spec.codebook_size > _LARGEST_TOPK:
        raise DeviceError(f"{spec.codebook_size} codes are more than TensorRT sorts at once ({_LARGEST_TOPK})")
    graph = checked_file(folder, spec, "standard", takes)
    engines = folder / ENGINES
    engines.mkdir(exist_ok=True)
    engine = build_engine(graph, module, options, engines / TIMING_CACHE)
    name = engine_key(module, info, spec.manifest_sha256, precision=spec.precision, takes=takes)
    path = engines / f"{name}.engine"
    path.write_bytes(engine)
    return path


class _Words:
    """A logger of the package's that keeps the last error."""

    def __init__(self, module: Any) -> None:
        self.last = "no reason given"
        words = self

        class Logger(module.ILogger):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                module.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity in (module.ILogger.Severity.ERROR, module.ILogger.Severity.INTERNAL_ERROR):
                    words.last = " ".join(message.split())[:500]

        self.logger = Logger()


def _aim(config: Any, module: Any, capability: tuple[int, int]) -> None:
    """Build for another GPU. DeviceError if the package cannot, or does not know it."""
    name = f"SM{capability[0]}{capability[1]}"
    target = getattr(getattr(module, "ComputeCapability", None), name, None)
    if target is None:
        raise DeviceError(f"{module.__name__} {module.__version__} cannot build for {name}")
    config.num_compute_capabilities = 1
    config.set_compute_capability(target, 0)


def _timing_cache(config: Any, module: Any, path: Path | None) -> Any:
    """The builder's timings, from before if they fit; None if the package keeps none, as for RTX."""
    if path is None or "rtx" in module.__name__:
        return None
    known = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(known)
    if cache is None and known:  # of another version
        cache = config.create_timing_cache(b"")
    if cache is None or not config.set_timing_cache(cache, False):
        return None
    return cache
