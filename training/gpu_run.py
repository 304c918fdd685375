"""A lease of a GPU, one command: `python -m attacca.training.gpu_run --root RUN --limit-s 580`, until all is done.

Everything from songs to scored bundles (training/gpu_plan.py), in calls that end in time (training/gpu_lease.py).
Results go to --out, a few files a call: results.json first, then the bundles in parts, which `--join` puts together
where they arrive (training/gpu_parts.py). How to use it: docs/gpu.md. Standard library only: machines are bare.
"""

from __future__ import annotations

import argparse
import ctypes.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attacca.training.gpu_lease import STATE_FILE, Lease, LeaseError, starter
from attacca.training.gpu_parts import LIST_SUFFIX, PartsError, deliver, join, split, zip_folder
from attacca.training.gpu_plan import FULL_MINUTES, TINY, Budget, Part, plan, table

REPOSITORY = Path(__file__).resolve().parents[1]
_RESERVE_S = 12.0  # of a call, for packing and delivering
_LEAST_DISK_GB = 25.0
_SOUNDFONTS = ("/usr/share/sounds/sf2/FluidR3_GM.sf2", "/usr/share/sounds/sf3/FluidR3Mono_GM.sf3")
_NAMES = ("ostinato", "ostinato-l")


def install(carried: Path | None, root: Path) -> dict[str, str]:
    """Install what was carried (*.deb, *.whl), name the soundfont (*.sf2, *.sf3); the environment to run in."""
    links, site = root / "links", root / "site"
    (links / "attacca").mkdir(parents=True, exist_ok=True)
    for folder in ("engine", "bridge", "export", "training"):
        link = links / "attacca" / folder
        if not link.is_symlink():
            link.symlink_to(REPOSITORY / folder)
    environment = dict(os.environ)
    path = [str(site), str(links), str(REPOSITORY), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    environment["PYTHONUNBUFFERED"] = "1"
    if carried is None:
        return environment
    packages, wheels = (sorted(str(path) for path in carried.glob(kind)) for kind in ("*.deb", "*.whl"))
    if packages and ctypes.util.find_library("fluidsynth") is None:
        _call(["dpkg", "-i", *packages])
    if wheels and not site.is_dir():
        offline = ["--no-index", "--no-deps", "--no-compile", "--quiet", "--target", str(site)]
        _call([sys.executable, "-m", "pip", "install", *offline, *wheels])
    fonts = sorted(path for kind in ("*.sf2", "*.sf3") for path in carried.glob(kind))
    if fonts:
        environment["ATTACCA_SOUNDFONT"] = str(fonts[0].resolve())
    return environment


def _call(command: Sequence[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        words = (done.stdout + done.stderr)[-1000:]
        raise LeaseError(f"{' '.join(command[:4])} ... ended with {done.returncode}:\n{words}")


def machine(root: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """What this machine has."""
    code = (
        "import json, torch; ok = torch.cuda.is_available(); print(json.dumps({'torch': torch.__version__,"
        " 'cuda': torch.version.cuda, 'gpu': torch.cuda.get_device_name() if ok else None,"
        " 'gpu_gib': round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1) if ok else 0}))"
    )
    asked = subprocess.run([sys.executable, "-c", code], env=dict(environment), capture_output=True, check=False)
    found: dict[str, Any] = json.loads(asked.stdout) if asked.returncode == 0 else {"torch": None, "gpu": None}
    font = environment.get("ATTACCA_SOUNDFONT") or next(
        (name for name in _SOUNDFONTS if Path(name).is_file()), None
    )
    return {
        **found,
        "python": sys.version.split()[0],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "disk_gb": round(shutil.disk_usage(root).free / 1e9, 1),
        "fluidsynth": ctypes.util.find_library("fluidsynth"),
        "soundfont": font,
    }


def lacks(found: Mapping[str, Any], *, gpu: bool = True) -> list[str]:
    """What the run cannot do without, in words."""
    missing = []
    if not found["torch"]:
        missing.append("torch cannot be imported: carry its wheel, or use an interpreter that has it")
    elif gpu and not found["gpu"]:
        missing.append("torch finds no GPU (--tiny runs without one)")
    if not found["fluidsynth"]:
        missing.append("libfluidsynth: carry the packages of fluidsynth (*.deb) in --carried")
    if not found["soundfont"]:
        missing.append("a General MIDI soundfont: carry one (*.sf2, *.sf3) in --carried")
    if gpu and found["disk_gb"] < _LEAST_DISK_GB:
        missing.append(f"disk: {found['disk_gb']} GB are free, needed {_LEAST_DISK_GB}")
    return missing


def pack(root: Path) -> list[Path]:
    """Parts and lists of the bundles that are finished, split once."""
    state = json.loads((root / STATE_FILE).read_text(encoding="utf-8"))
    folder, waiting = root / "parts", []
    for name in _NAMES:
        if not state.get(f"export-{name}", {}).get("finished"):
            continue
        listed = folder / f"{name}.zip{LIST_SUFFIX}"
        if not listed.is_file():
            archive = zip_folder(root / "bundles" / name, root / f"{name}.zip")
            split(archive, folder)
        parts = json.loads(listed.read_text(encoding="utf-8"))["parts"]
        waiting += [listed, *(folder / part["file"] for part in parts)]
    return waiting


def results(root: Path, found: Mapping[str, Any], parts: Sequence[Part], left_minutes: float) -> dict[str, Any]:
    """All that was measured, as results.json holds it."""
    state = json.loads((root / STATE_FILE).read_text(encoding="utf-8"))
    keys = ("seconds", "finished", "failures")
    report: dict[str, Any] = {
        "machine": dict(found),
        "minutes_left_by_budget": round(left_minutes, 1),
        "parts": {p.name: {"budget_minutes": p.minutes, **{k: state[p.name][k] for k in keys}} for p in parts},
    }
    for name in _NAMES:
        for kind in ("quality", "speed"):
            path = root / f"{kind}-{name}.json"
            if path.is_file():
                report.setdefault(name, {})[kind] = json.loads(path.read_text(encoding="utf-8"))
        log = root / name / "log.jsonl"
        if log.is_file():
            report.setdefault(name, {})["training"] = [json.loads(line) for line in log.read_text().splitlines()]
    return report


def hand_over(root: Path, out: Path, report: Mapping[str, Any], *, files: int, mebibytes: float) -> int:
    """Write results.json to `out`, and as many parts as fit beside it; how many parts still wait."""
    text = json.dumps(report, indent=1) + "\n"
    for folder in {root, out}:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "results.json").write_text(text, encoding="utf-8")
    note = root / "delivered.json"
    before: list[str] = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else []
    waiting = pack(root)
    copied = deliver(waiting, set(before), out, files=files, total_bytes=int(mebibytes * 2**20))
    note.write_text(json.dumps(before + copied), encoding="utf-8")
    return len(waiting) - len(before) - len(copied)


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m attacca.training.gpu_run", description=__doc__)
    parser.add_argument("--root", type=Path, help="run folder; the same call goes on in it")
    parser.add_argument("--minutes-total", type=float, default=FULL_MINUTES, help="of all calls together")
    parser.add_argument("--limit-s", type=float, default=580.0, help="this call ends within so many seconds")
    parser.add_argument("--carried", type=Path, help="folder with *.deb, *.whl, a soundfont")
    parser.add_argument("--out", type=Path, help="folder for results; ROOT/out if not given")
    parser.add_argument("--out-files", type=int, default=8, help="most files in it")
    parser.add_argument("--out-mib", type=float, default=62.0, help="most MiB in it")
    parser.add_argument("--tiny", action="store_true", help="toy sizes on a CPU, to test the run itself")
    parser.add_argument("--budget", action="store_true", help="print the budget and do nothing")
    parser.add_argument("--join", type=Path, nargs="+", metavar="FOLDER", help="put parts together, into --root")
    chosen = parser.parse_args(given)
    if chosen.root is None and not chosen.budget:
        parser.error("--root is needed")
    if chosen.out_files < 2 or chosen.out_mib < 16.0:
        parser.error(f"--out-files {chosen.out_files} and --out-mib {chosen.out_mib}, allowed: 2 and 16 and up")
    return chosen


def main(given: Sequence[str] | None = None) -> int:
    """0: all is done and handed over; 75: call it again; 1: something is wrong, and said."""
    began = time.monotonic()
    options = arguments(given)
    try:
        if options.join:
            for path in join(options.join, options.root):
                print(f"{path}: whole and sound")
            return 0
        budget = TINY if options.tiny else Budget.of(options.minutes_total)
        if options.budget:
            print(table(plan(Path("RUN"), budget, cores=16, total=options.minutes_total)))
            return 0
        return _run(options, budget, began)
    except (LeaseError, PartsError, ValueError, OSError) as error:
        print(f"gpu_run: {error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace, budget: Budget, began: float) -> int:
    root: Path = options.root.resolve()
    root.mkdir(parents=True, exist_ok=True)
    environment = install(options.carried, root)
    found = machine(root, environment)
    print(json.dumps(found), flush=True)
    if missing := lacks(found, gpu=not options.tiny):
        raise LeaseError("; ".join(missing))
    parts = plan(root, budget, cores=found["cores"], total=options.minutes_total)
    limit_s = options.limit_s - _RESERVE_S - (time.monotonic() - began)
    lease = Lease(
        root, parts, limit_s=limit_s, start=starter(environment), say=lambda text: print(text, flush=True)
    )
    try:
        done = lease.run()
    finally:
        report = results(root, found, parts, lease.left_minutes())
        out = (options.out or root / "out").resolve()
        waiting = hand_over(root, out, report, files=options.out_files - 1, mebibytes=options.out_mib)
    if done and not waiting:
        print("all is done and handed over")
        return 0
    minutes = f"{lease.left_minutes():.1f} min by the budget"
    names = ", ".join(part.name for part in lease.unfinished()) or "nothing"
    print(f"left to do: {names} ({minutes}); {waiting} files to hand over: call again")
    return 75


if __name__ == "__main__":
    sys.exit(main())
