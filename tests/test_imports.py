"""Who may import whom: read from the source of every file, and seen again in a fresh interpreter."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("engine", "bridge", "export", "training")
MAY_IMPORT = {
    "engine": {"engine"},
    "bridge": {"engine", "bridge"},
    "export": {"engine", "export", "training"},
    "training": {"engine", "export", "training"},
}
NOT_AT_RUN_TIME = {"torch", "onnx", "onnxscript", "scipy", "safetensors", "transformers", "tensorrt"}
LAZY_ONLY = {"huggingface_hub", "httpx2", "filelock", "matplotlib", "sounddevice", "rtmidi"}
MOST_LINES = 400


def sources(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("attacca", *parts)).removesuffix(".__init__")


def imports(path: Path, *, top_level_only: bool = False) -> Iterator[str]:
    """Absolute dotted names that a file imports; relative ones are resolved against its package."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = module_name(path).split(".") if path.name == "__init__.py" else module_name(path).split(".")[:-1]
    nodes: list[ast.AST] = []
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        nodes.append(node)
        if not (top_level_only and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))):
            pending += ast.iter_child_nodes(node)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{stem}.{alias.name}" for alias in node.names)


def run_python(code: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("folder", OURS)
def test_import_direction(folder: str) -> None:
    assert sources(folder)
    wrong = []
    for path in sources(folder):
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "attacca" and parts[1] not in MAY_IMPORT[folder]:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
            if parts[0] in OURS or parts[0] == "tests":
                wrong.append(f"{path.relative_to(ROOT)} imports top-level {name}")
    assert not wrong


@pytest.mark.parametrize("folder", ["engine", "bridge"])
def test_the_runtime_names_no_training_package(folder: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(folder)
        for top_level_only, banned in ((False, NOT_AT_RUN_TIME), (True, LAZY_ONLY))
        for name in imports(path, top_level_only=top_level_only)
        if name.split(".")[0] in banned
    ]
    assert not wrong


def test_the_reader_of_imports_sees_all_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "engine"
    package.mkdir()
    file = package / "thing.py"
    file.write_text(
        "import a.b\nfrom . import c\nfrom .d import e\nfrom attacca import bridge\ndef f():\n    import g\n"
    )
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert set(imports(file)) == {"a.b", "attacca.engine.c", "attacca.engine.d.e", "attacca.bridge", "g"}
    assert "g" not in set(imports(file, top_level_only=True))


@pytest.mark.parametrize("folder", ["engine", "bridge"])
def test_importing_every_module_loads_nothing_heavy(folder: str, tmp_path: Path) -> None:
    names = [module_name(path) for path in sources(folder) if path.stem != "__main__"]
    code = (
        f"import importlib, sys, json\nfor n in {names!r}: importlib.import_module(n)\n"
        "print(json.dumps(list(sys.modules)))"
    )
    loaded = json.loads(run_python(code, tmp_path))
    assert set(names) <= set(loaded)
    tops = {name.split(".")[0] for name in loaded}
    assert not tops & (NOT_AT_RUN_TIME | LAZY_ONLY)
    ours = {name.split(".")[1] for name in loaded if name.startswith("attacca.")}
    assert ours <= MAY_IMPORT[folder]


def test_the_command_line_starts_without_the_path(tmp_path: Path) -> None:
    code = (
        "import sys, contextlib, io\nfrom attacca.bridge.cli import app\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): app(['--help'])\n"
        "print(sorted({'numpy', 'onnxruntime', 'zmq', 'soundfile', 'soxr'} & set(sys.modules)))"
    )
    assert run_python(code, tmp_path).strip() == "[]"


def test_no_top_level_package_of_ours_is_installed(tmp_path: Path) -> None:
    code = f"import importlib.util as u; print([n for n in {OURS!r} if u.find_spec(n) is not None])"
    assert run_python(code, tmp_path).strip() == "[]"


def test_no_file_is_too_long() -> None:
    folders = (*OURS, "tests", "benchmarks", "plugin_stub")
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for folder in folders
        for path in sources(folder)
    }
    assert not {name: length for name, length in lengths.items() if length > MOST_LINES}


def test_tests_of_extras_are_run_where_the_extras_are() -> None:
    """`make test` has neither onnx nor torch and skips such a file; `make test-train` takes what is marked."""
    extra = re.compile(r'importorskip\("(librosa|onnx|safetensors|tokenizers|torch|transformers)"\)')
    files = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").glob("test_*.py"))}
    asking = {name for name, text in files.items() if extra.search(text)}
    assert len(asking) > 20
    assert not [name for name in sorted(asking) if "mark.train" not in files[name]]
