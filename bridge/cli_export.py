"""`attacca export`: a model's graphs for GPUs, and TensorRT engines of them; part of the command line (cli.py).

The work is attacca.export, on which the runtime does not depend: it is looked up by name when the command runs, and
needs `onnx` (the [gpu] extra brings it).
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from attacca.bridge.cli_options import AsJson

MOST_TAKES = 64  # in one step


def export_command(
    model: Annotated[str, typer.Option("--model", "-m", help="Bundle, by name or folder.")] = "ostinato",
    tensorrt: Annotated[
        bool, typer.Option("--tensorrt", help="Build a TensorRT engine too, for the GPU of this machine.")
    ] = False,
    precision: Annotated[str, typer.Option("--precision", help="Weights and cache: fp16 or fp32.")] = "fp16",
    capability: Annotated[
        str | None,
        typer.Option("--capability", help="Build for a GPU that is not here, e.g. 8.6 (TensorRT-RTX only)."),
    ] = None,
    gpu: Annotated[str | None, typer.Option("--gpu", help="With --capability: that GPU's name.")] = None,
    takes: Annotated[
        str, typer.Option("--takes", help='Graphs for so many takes in one step, beside that of one; none: "".')
    ] = "4,16",
    effort: Annotated[int, typer.Option("--effort", min=0, max=5, help="How long TensorRT looks.")] = 3,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder; if not given, where `serve` looks.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a model's graphs for NVIDIA GPUs, so that `attacca serve --backend cuda` can play them.

    Engines are kept by GPU, TensorRT version and model, so none is ever used where it does not fit.

    Example: attacca export --model ostinato --tensorrt
    """
    from attacca.bridge.cli_group import UserError
    from attacca.engine.backends import cuda_driver, gpu_folders
    from attacca.engine.bundle import find_bundle, verify_bundle
    from attacca.engine.device import DeviceError, DeviceInfo
    from attacca.engine.manifest import read_manifest

    if (capability is None) != (gpu is None) or (capability is not None and not tensorrt):
        raise UserError("--capability, --gpu and --tensorrt go together")
    bundle = find_bundle(model)
    problems = verify_bundle(bundle)
    if problems:
        raise UserError("; ".join(problems))
    folder = gpu_folders(bundle, read_manifest(bundle))[1] if out is None else out
    _need("onnx")
    counts = _counts(takes)
    exporter = importlib.import_module("attacca.export.gpu_bundle")
    spec = exporter.write_graphs(bundle, folder, precision=precision, takes=counts)
    made = [folder / name for name in dict.fromkeys(n for g in spec.graphs for n in (g.path, g.data) if n)]
    if tensorrt:
        try:
            module = importlib.import_module("attacca.engine.tensorrt_device").load_tensorrt()
            wanted = None if capability is None else _capability(capability)
            if wanted is None:
                info = cuda_driver().info()
            else:
                info = DeviceInfo(name=gpu or "", compute_capability=wanted, driver_version=0, memory_bytes=0)
            made += [_engine(folder, spec, info, module, wanted, effort, count) for count in counts]
        except DeviceError as error:
            raise UserError(str(error)) from None
    _tell(made, as_json=as_json)


def _engine(
    folder: Path, spec: Any, info: Any, module: Any, capability: tuple[int, int] | None, effort: int, takes: int
) -> Path:
    builder = importlib.import_module("attacca.export.tensorrt_engine")
    options = builder.EngineOptions(capability=capability, effort=effort)
    path: Path = builder.write_engine(folder, spec, info, module, options, takes=takes)
    return path


def _capability(text: str) -> tuple[int, int]:
    from attacca.bridge.cli_group import UserError

    major, _, minor = text.partition(".")
    if not (major.isdigit() and minor.isdigit()):
        raise UserError(f"--capability is {text!r}, allowed: two numbers, e.g. 8.6")
    return int(major), int(minor)


def _counts(text: str) -> tuple[int, ...]:
    from attacca.bridge.cli_group import UserError

    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdigit() and 1 <= int(part) <= MOST_TAKES for part in parts):
        raise UserError(f"--takes is {text!r}, allowed: numbers of 1..{MOST_TAKES} with commas between")
    return tuple(sorted({1, *map(int, parts)}))


def _need(module: str) -> None:
    from importlib.util import find_spec

    from attacca.bridge.cli_group import UserError

    if find_spec(module) is None:
        raise UserError(f"{module}: not installed; install with: pip install 'attacca[gpu]'")


def _tell(made: list[Path], *, as_json: bool) -> None:
    sizes = {str(path): path.stat().st_size for path in made}
    if as_json:
        print(json.dumps({"files": sizes}, indent=2))
        return
    for path, size in sizes.items():
        print(f"{path}: {size / 1e6:.1f} MB")
