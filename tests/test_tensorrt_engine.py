"""TensorRT engines built without a GPU: parsed, strictly typed, for a named compute capability. And their flaws."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

onnx = pytest.importorskip("onnx")

from decoder_fixtures import TINY  # noqa: E402
from fake_gpu import TINY_GPU, tiny_gpu_graph, tiny_gpu_spec  # noqa: E402
from gpu_fixtures import musicgen_graph, musicgen_spec  # noqa: E402

from attacca.engine.device import DeviceError, DeviceInfo  # noqa: E402
from attacca.engine.manifest import ManifestError, PatternSection, read_manifest  # noqa: E402
from attacca.export.gpu_bundle import sizes_of, write_graphs  # noqa: E402
from attacca.export.tensorrt_engine import TIMING_CACHE, EngineOptions, build_engine, write_engine  # noqa: E402

pytestmark = pytest.mark.train
AMPERE = DeviceInfo(name="NVIDIA A10", compute_capability=(8, 6), driver_version=13000, memory_bytes=1 << 34)


def rtx() -> object:
    return pytest.importorskip(
        "tensorrt_rtx_bindings",
        reason="needs: pip install --no-deps tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings",
    )


def test_the_committed_graph_is_what_the_exporter_writes(tmp_path: Path) -> None:
    spec = write_graphs(TINY, tmp_path, precision="fp32", dialects=("onnxruntime",))
    assert spec == tiny_gpu_spec()
    assert (tmp_path / spec.graphs[0].path).read_bytes() == tiny_gpu_graph().read_bytes()
    assert (tmp_path / "gpu.json").read_bytes() == (TINY_GPU / "gpu.json").read_bytes()


def test_an_engine_is_built_ahead_of_time_from_a_bundle_for_a_gpu_that_is_not_here(tmp_path: Path) -> None:
    module = rtx()
    spec = write_graphs(TINY, tmp_path, dialects=("standard",))
    path = write_engine(tmp_path, spec, AMPERE, module, EngineOptions(capability=(8, 6), effort=0))
    assert path.parent == tmp_path / "engines"
    assert path.name.startswith(f"rtx{module.__version__}_nvidia-a10_sm86_{spec.manifest_sha256[:16]}_fp16_t1")
    assert path.stat().st_size > 10_000
    assert not (path.parent / TIMING_CACHE).exists()  # this package keeps none


@pytest.mark.parametrize("takes", [1, 4])
def test_musicgens_graph_is_parsed_and_the_cache_is_written_in_place(tmp_path: Path, takes: int) -> None:
    module = rtx()
    path = tmp_path / "step.onnx"
    path.write_bytes(musicgen_graph(musicgen_spec("fp16"), takes=takes, dialect="standard", attention="operator"))
    builder = module.Builder(module.Logger(module.Logger.ERROR))
    network = builder.create_network(1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = module.OnnxParser(network, module.Logger(module.Logger.ERROR))
    assert parser.parse_from_file(str(path))
    kinds = [str(network.get_layer(i).type).rsplit(".", 1)[-1] for i in range(network.num_layers)]
    assert kinds.count("KV_CACHE_UPDATE") == 4  # key and value of two layers
    assert kinds.count("ATTENTION_INPUT") == 4  # of each layer, and across
    outputs = {network.get_output(i).name for i in range(network.num_outputs)}
    assert {"tokens", "checksum", "logits", "history.out", "key_0.out", "value_1.out"} <= outputs


def test_a_graph_that_does_not_parse_is_said_in_the_parsers_words(tmp_path: Path) -> None:
    module = rtx()
    path = tmp_path / "step.onnx"
    path.write_bytes(tiny_gpu_graph().read_bytes())  # onnxruntime's own nodes
    with pytest.raises(DeviceError, match=r"does not parse step.onnx: .*num_heads"):
        build_engine(path, module, EngineOptions(capability=(8, 6)))
    with pytest.raises(DeviceError, match="cannot build for SM12"):
        write_graphs(TINY, tmp_path, dialects=("standard",))
        build_engine(next(tmp_path.glob("*standard*.onnx")), module, EngineOptions(capability=(1, 2)))


class Builder:
    """What `tensorrt` is to the exporter; `known` are the timings that fit its version."""

    __name__, __version__ = "tensorrt", "10.16.0"
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=3)
    MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")

    class ILogger:
        Severity = SimpleNamespace(ERROR=1, INTERNAL_ERROR=0)

    def __init__(self, known: bytes) -> None:
        self.known, self.asked = known, []
        self.builds = True

    def Builder(self, logger: Any) -> Any:
        self.logger = logger
        return SimpleNamespace(
            create_network=lambda flags: self.asked.append(("network", flags)),
            create_builder_config=lambda: self,
            build_serialized_network=self._build,
        )

    def OnnxParser(self, network: Any, logger: Any) -> Any:
        return SimpleNamespace(parse_from_file=lambda path: True)

    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        self.asked.append((pool, size))

    def create_timing_cache(self, data: bytes) -> bytes | None:
        self.asked.append(("timings", data))
        return data if data in (b"", self.known) else None

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        return True

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: b"new timings")

    def _build(self, network: Any, config: Any) -> bytes | None:
        if not self.builds:
            self.logger.log(1, "no tactic  was found")
        return b"engine" if self.builds else None


def test_a_build_is_strongly_typed_and_keeps_its_timings(tmp_path: Path) -> None:
    cache, graph = tmp_path / TIMING_CACHE, tmp_path / "step.onnx"
    options = EngineOptions(workspace_bytes=1 << 21, effort=4)
    module = Builder(b"new timings")
    assert build_engine(graph, module, options, cache) == b"engine"
    assert module.asked == [("network", 1 << 3), ("workspace", 1 << 21), ("timings", b"")]
    assert module.builder_optimization_level == 4
    assert cache.read_bytes() == b"new timings"
    build_engine(graph, module, options, cache)
    assert module.asked[-1] == ("timings", b"new timings")  # read back
    other = Builder(b"of a later version")
    build_engine(graph, other, options, cache)
    assert other.asked[-2:] == [("timings", b"new timings"), ("timings", b"")]  # begun anew
    other.builds = False
    with pytest.raises(DeviceError, match=r"TensorRT 10.16.0 does not build step.onnx: no tactic was found"):
        build_engine(graph, other, options)


def test_too_many_codes_and_options_out_of_range_are_named(tmp_path: Path) -> None:
    import msgspec

    spec = msgspec.structs.replace(tiny_gpu_spec(), codebook_size=4000)
    with pytest.raises(DeviceError, match="4000 codes are more than TensorRT sorts at once"):
        write_engine(tmp_path, spec, AMPERE, object(), EngineOptions())
    with pytest.raises(ValueError, match=r"EngineOptions.effort is 9, allowed: 0..5"):
        EngineOptions(effort=9)
    with pytest.raises(ValueError, match=r"EngineOptions.workspace_bytes is 1"):
        EngineOptions(workspace_bytes=1)


def test_bundles_that_have_no_graphs_are_refused(tmp_path: Path) -> None:
    import msgspec

    manifest = read_manifest(TINY)
    decoder = msgspec.structs.replace(manifest.decoder, kind="musicgen-melody")
    with pytest.raises(ManifestError, match="is of kind 'musicgen-melody' with the pattern stack-delay"):
        sizes_of(msgspec.structs.replace(manifest, decoder=decoder))
    delay = msgspec.structs.replace(manifest, decoder=decoder, pattern=PatternSection(name="delay"))
    told = sizes_of(delay)
    assert (told.melody, told.prompt_tokens, told.rows) == (True, 0, 1)
    decoder = msgspec.structs.replace(manifest.decoder, kind="musicgen")
    stacked = sizes_of(msgspec.structs.replace(manifest, decoder=decoder, codec={"audio_channels": 2}))
    assert (stacked.rows, stacked.channels, stacked.prompt_tokens) == (5, 2, 16)
    with pytest.raises(ValueError, match="precision is 'int8', allowed: fp32, fp16"):
        sizes_of(manifest, "int8")
    assert sizes_of(manifest).rows == manifest.num_codebooks + 1
