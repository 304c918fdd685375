"""Decoders on an NVIDIA GPU: one command, resumable, within ten minutes: `python -m benchmarks.gpu --root RUN`.

Environment, correctness against the CPU, steps per second, real-time factors, launch gaps, many takes that share
steps, an engine that serves them. Each part is a process of its own, so one that fails costs itself alone; finished
parts are not done again. Wheels that the machine lacks come from a folder (--wheels), whole or in parts;
docs/gpu.md says which. Not run on a GPU so far.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
OURS = ("engine", "bridge", "export", "training")


def link(folder: Path) -> Path:
    """Folder in which `attacca` is found, where nothing is installed."""
    (folder / "attacca").mkdir(parents=True, exist_ok=True)
    for name in OURS:
        place = folder / "attacca" / name
        if not place.is_symlink():
            place.symlink_to(REPOSITORY / name)
    return folder


if importlib.util.find_spec("attacca") is None:
    sys.path.insert(0, str(link(Path(tempfile.mkdtemp(prefix="attacca-links-")))))

from attacca.training.gpu_lease import Lease, LeaseError, starter  # noqa: E402
from attacca.training.gpu_parts import LIST_SUFFIX, PartsError, join  # noqa: E402
from attacca.training.gpu_plan import WHOLE, Part  # noqa: E402
from attacca.training.gpu_stop import EXIT_UNFINISHED  # noqa: E402

FLAVOURS = (("onnxruntime", "plain"), ("onnxruntime", "operator"), ("standard", "operator"))
CASE_NAMES = ("ostinato", "ostinato-delay", "small", "small-stacked", "medium")
BATCHED = ("ostinato", "ostinato-delay", "small")
PLAIN = ("ostinato", "small")  # in the flavour of plain operators too, which tells little more
ONCE = ("small-stacked",)  # in one flavour
AGAINST = {"ostinato": "ostinato-delay", "small-stacked": "small"}  # stack-delay against delay
SERVED = (1, 8, 32)
TAKES = (1, 2, 4, 8, 16, 32)
# Minutes by plan: weights of medium are 2.8 GB, written once for all flavours.
_MINUTES = {"ostinato": 0.3, "ostinato-delay": 0.3, "small": 0.5, "small-stacked": 0.5, "medium": 0.9}
_BATCHED_MINUTES = {"ostinato": 0.5, "ostinato-delay": 0.4, "small": 1.1}
_STEPS = 10_000
_RESERVE_S = 8.0
_PACKAGES = ("onnxruntime-gpu", "onnxruntime", "tensorrt", "tensorrt-rtx-cu13-bindings", "numpy", "onnx")


def plan(root: Path, backend: str, *, toy: bool) -> list[Part]:
    """All parts, the cheap and telling ones first."""
    common = ("-m", "benchmarks.gpu", "--root", str(root), "--backend", backend, *(("--toy",) if toy else ()))

    def part(name: str, minutes: float, *, optional: bool = True) -> Part:
        result = root / "parts" / f"{name}.json"
        command = (*common, "--part", name)
        return Part(name=name, command=command, result=result, minutes=minutes, ends=WHOLE, optional=optional)

    names = [name for name in CASE_NAMES if not (toy and name == "medium")]
    flavours = FLAVOURS[2:] if backend == "tensorrt" else FLAVOURS
    parts = [part("environment", 0.1, optional=False), part("host", 0.1)]
    parts += [part("path.ostinato", 0.3), part("engine.ostinato", 0.4)]
    for kind, cases in (("correct", names), ("steps", names), ("takes", BATCHED)):
        for case in cases:
            for dialect, attention in flavours:
                if kind == "takes" and (dialect, attention) != flavours[-1]:
                    continue  # of one flavour: it takes a graph for every number of takes
                if (dialect, attention) == FLAVOURS[0] and case not in PLAIN:
                    continue
                if (dialect, attention) != flavours[-1] and case in ONCE:
                    continue
                minutes = 0.15 if kind == "correct" else _MINUTES[case]
                minutes = _BATCHED_MINUTES[case] if kind == "takes" else minutes
                parts.append(part(f"{kind}.{case}.{dialect}.{attention}", minutes))
    return parts


def do_part(name: str, root: Path, backend: str, *, toy: bool) -> Any:
    """One part, in this process."""
    if name == "environment":
        return environment(backend)
    from benchmarks import gpu_measure as measure
    from benchmarks import gpu_takes
    from benchmarks.gpu_models import CASES, TOYS, Flavour

    driver, opener = opened(backend)
    dialect = "standard" if backend == "tensorrt" else "onnxruntime"
    bench = measure.Bench(driver, opener, root / "graphs", dialect)
    if name in ("path.ostinato", "engine.ostinato"):
        bundle = REPOSITORY / "tests" / "data" / "tiny" if toy else REPOSITORY / "engine" / "bundles" / "ostinato"
        copied = shutil.copytree(bundle, root / name, dirs_exist_ok=True)
        if name == "path.ostinato":
            return measure.path(bench, copied, lambda: opened(backend)[0], chunks=4 if toy else 40)
        counts, seconds = ((1, 3), 2.0) if toy else (SERVED, 6.0)
        return list(gpu_takes.engine(bench, copied, lambda: opened(backend)[0], counts, seconds=seconds))
    if name == "host":
        takes, steps = (2, 16) if toy else (16, 64)
        cases = [(TOYS if toy else CASES)[case] for case in BATCHED]
        return [gpu_takes.host_work(case, takes=takes, steps=steps) for case in cases]
    kind, case_name, dialect, attention = name.split(".")
    case = (TOYS if toy else CASES)[case_name]
    flavour = Flavour(precision="fp16", dialect=dialect, attention=attention)
    if kind == "correct":
        return measure.correct(bench, case, flavour)
    if kind == "steps":
        return measure.steps(bench, case, flavour, count=64 if toy else _STEPS)
    counts, rounds = (TAKES[:3], 4) if toy else (TAKES, 60)
    return list(gpu_takes.takes_at_once(bench, case, flavour, counts, rounds=rounds))


def opened(backend: str) -> tuple[Any, Callable[[Path, Any], Any]]:
    """Driver of a backend, and how it opens a graph. `host` is this machine's CPU, to rehearse."""
    from attacca.engine.device import HostDriver
    from attacca.engine.ort_device import OrtMaker

    if backend == "host":
        return HostDriver(), OrtMaker
    from attacca.engine.cuda_driver import CudaDriver

    if backend == "cuda":
        return CudaDriver(), OrtMaker
    from attacca.engine.tensorrt_device import TensorrtMaker, load_tensorrt
    from attacca.export.tensorrt_engine import EngineOptions, build_engine

    module = load_tensorrt()

    def build(graph: Path, driver: Any) -> Any:
        engine = graph.with_suffix(".engine")
        if not engine.is_file():
            engine.write_bytes(build_engine(graph, module, EngineOptions(), graph.parent / "timing.cache"))
        return TensorrtMaker(engine.read_bytes(), driver, module)

    return CudaDriver(), build


def environment(backend: str) -> dict[str, Any]:
    """What this machine has. DeviceError or NotAvailable if the backend cannot be used at all."""
    import onnxruntime

    driver, _ = opened(backend)
    info = driver.info()
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "backend": backend,
        "gpu": info.name,
        "compute_capability": list(info.compute_capability),
        "driver_cuda": info.driver_version,
        "memory_gib": round(info.memory_bytes / 2**30, 1),
        "providers": onnxruntime.get_available_providers(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "versions": versions,
    }


def install(wheels: Path | None, root: Path) -> dict[str, str]:
    """Install what was carried; the environment to run parts in. LeaseError if pip fails."""
    links, site = link(root / "links"), root / "site"
    if wheels is not None and not (site / ".done").is_file():
        if any(wheels.rglob(f"*{LIST_SUFFIX}")):
            join([wheels], root / "wheels")
        found = sorted(str(path) for folder in (wheels, root / "wheels") for path in folder.glob("*.whl"))
        offline = ["--no-index", "--no-deps", "--no-compile", "--quiet", "--upgrade", "--target", str(site)]
        if found:
            done = subprocess.run(
                [sys.executable, "-m", "pip", "install", *offline, *found],
                check=False,
                capture_output=True,
                text=True,
            )
            if done.returncode != 0:
                raise LeaseError(f"pip install ended with {done.returncode}: {done.stderr[-800:]}")
        site.mkdir(exist_ok=True)
        (site / ".done").touch()
    environment = dict(os.environ)
    path = [str(site), str(links), str(REPOSITORY), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    libraries = [str(path) for place in (site, *map(Path, sys.path)) for path in place.glob("nvidia/*/lib")]
    libraries.append(environment.get("LD_LIBRARY_PATH", ""))
    environment["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, libraries))
    environment["PYTHONUNBUFFERED"] = "1"
    return environment


def report(root: Path, parts: Sequence[Part]) -> dict[str, Any]:
    """All that was measured so far."""
    state = json.loads((root / "gpu_run.json").read_text(encoding="utf-8"))
    told: dict[str, Any] = {
        "environment": None,
        "path": [],
        "host": [],
        "engine": [],
        "correct": [],
        "steps": [],
        "takes": [],
        "not_done": {},
    }
    for part in parts:
        kind = part.name.split(".")[0]
        if not part.result.is_file():
            log = root / "logs" / f"{part.name}.log"
            words = log.read_text(errors="replace").strip().splitlines()[-1:] if log.is_file() else []
            told["not_done"][part.name] = words[0] if words else "not begun"
            continue
        value = json.loads(part.result.read_text(encoding="utf-8"))
        if kind == "environment":
            told[kind] = value
        else:
            told[kind] += value if isinstance(value, list) else [value]
    told["ratios"] = ratios(told)
    revision = subprocess.run(["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"], capture_output=True, check=False)
    told["seconds"] = {part.name: state[part.name]["seconds"] for part in parts}
    told["commit"] = revision.stdout.decode().strip()
    return told


def ratios(told: dict[str, Any]) -> list[dict[str, Any]]:
    """Time for a second of audio under stack-delay over that under delay, by flavour and takes in a step."""
    found = []
    for kind in ("steps", "takes"):
        done = [row for row in told[kind] if "failed" not in row]
        rows = {(row["case"], row["flavour"], row.get("takes", 1)): row for row in done}
        for (case, flavour, count), row in rows.items():
            other = rows.get((AGAINST.get(case, ""), flavour, count))
            if other is not None:
                name = "rtf" if kind == "steps" else "rtf_each"
                ratio = {"of": case, "over": other["case"], "flavour": flavour, "takes": count, "by": kind}
                found.append(ratio | {"ratio": row[name] / other[name]})
    return found


def main(given: Sequence[str] | None = None) -> int:
    """0: all is measured; 75: call again; 1: something is wrong, and said."""
    began = time.monotonic()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="run folder; the same call goes on in it")
    parser.add_argument(
        "--backend", choices=("cuda", "tensorrt", "host"), default="cuda", help="host: rehearse on a CPU"
    )
    parser.add_argument("--wheels", type=Path, help="folder of *.whl, or of their parts (docs/gpu.md)")
    parser.add_argument("--out", type=Path, help="folder for gpu.json and gpu.png; ROOT if not given")
    parser.add_argument("--limit-s", type=float, default=580.0, help="this call ends within so many seconds")
    parser.add_argument("--toy", action="store_true", help="toy sizes")
    parser.add_argument("--part", help="one part in this process, as the run itself calls it")
    options = parser.parse_args(given)
    root = options.root.resolve()
    if options.part is not None:
        value = do_part(options.part, root, options.backend, toy=options.toy)
        target = root / "parts" / f"{options.part}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
        return 0
    try:
        return _run(options, root, began)
    except (LeaseError, PartsError, OSError) as error:
        print(f"gpu: {error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace, root: Path, began: float) -> int:
    root.mkdir(parents=True, exist_ok=True)
    surroundings = install(options.wheels, root)
    parts = plan(root, options.backend, toy=options.toy)
    limit_s = options.limit_s - _RESERVE_S - (time.monotonic() - began)
    lease = Lease(
        root, parts, limit_s=limit_s, start=starter(surroundings), say=lambda text: print(text, flush=True)
    )
    try:
        done = lease.run()
    finally:
        told = report(root, parts)
        out = options.out or root
        out.mkdir(parents=True, exist_ok=True)
        (out / "gpu.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        if importlib.util.find_spec("matplotlib") is not None and told["steps"]:
            from benchmarks.gpu_plot import draw

            draw(told, out / "gpu.png")
    for name, words in told["not_done"].items():
        print(f"{name}: not done: {words}")
    return 0 if done else EXIT_UNFINISHED


if __name__ == "__main__":
    sys.exit(main())
