"""`attacca models`: bundles are listed, verified and shown, and a damaged one is said to be damaged."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import msgspec
import pytest

from attacca.bridge.cli import app
from attacca.bridge.models import inspect_bundle, pattern_text
from attacca.engine.conditioning import full_layout
from attacca.engine.manifest import (
    ConditioningSection,
    DecoderSection,
    FileEntry,
    Manifest,
    PatternSection,
    encode_manifest,
    read_manifest,
)


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle that can be named `toy`; its graphs are no graphs, which nothing here should mind."""
    folder = tmp_path / "models" / "toy"
    folder.mkdir(parents=True)
    files = {}
    for role in ("decoder", "codec_encoder", "codec_decoder"):
        content = role.encode() * 100
        (folder / f"{role}.onnx").write_bytes(content)
        files[role] = FileEntry(path=f"{role}.onnx", sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
    shape: dict[str, int] = {"sample_rate": 32000, "hop_samples": 640, "num_codebooks": 4, "codebook_size": 64}
    manifest = Manifest(
        format_version=1,
        name="toy",
        version="0.1",
        licence="Apache-2.0",
        **shape,
        window_frames=100,
        pattern=PatternSection(name="stack-delay", p=3),
        conditioning=ConditioningSection.of(full_layout(2, ("dub", "slow waltz"))),
        decoder=DecoderSection(layers=1, heads=1, head_dim=8, dim=8),
        codec=dict(shape),
        files=files,
        provenance={"seed": 7, "command": "make [train]"},
    )
    (folder / "manifest.json").write_bytes(encode_manifest(manifest))
    monkeypatch.setenv("ATTACCA_MODELS", str(folder.parent))
    return folder


def attacca(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = app(list(args), standalone_mode=False)
    return (code, *capsys.readouterr())


def test_a_sound_bundle_is_found_by_name_and_by_folder(bundle: Path) -> None:
    for name in ("toy", str(bundle)):
        row = inspect_bundle(name)
        assert row.problem is None
        assert (row.name, row.folder, row.licence) == ("toy", str(bundle), "Apache-2.0")
        assert row.megabytes == sum(path.stat().st_size for path in bundle.glob("*.onnx")) / 1e6
    assert pattern_text(read_manifest(bundle)) == "stack-delay (p = 3), 4 x 64"


def test_it_is_listed_verified_and_shown(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = attacca(capsys, "models", "list", "--json")
    assert code == 0
    assert {"name": "toy", "problem": None}.items() <= next(
        r for r in json.loads(out) if r["name"] == "toy"
    ).items()
    assert "hashes hold" in attacca(capsys, "models", "list")[1]
    assert attacca(capsys, "models", "verify", "toy") == (0, f"toy: every hash holds ({bundle})\n", "")
    code, out, _ = attacca(capsys, "models", "show", "toy", "--json")
    assert json.loads(out) == msgspec.json.decode(msgspec.json.encode(read_manifest(bundle)))
    table = attacca(capsys, "models", "show", "toy")[1]
    assert "0 dub, 1 slow waltz" in table
    for words in ("pattern.name", "stack-delay", "provenance.command", "make [train]", "Apache-2.0"):
        assert words in table


def flip(bundle: Path) -> None:
    path = bundle / "codec_decoder.onnx"
    content = bytearray(path.read_bytes())
    content[50] ^= 1
    path.write_bytes(bytes(content))


def drop(bundle: Path) -> None:
    (bundle / "decoder.onnx").unlink()


def cut(bundle: Path) -> None:
    path = bundle / "manifest.json"
    path.write_bytes(path.read_bytes()[:100])


def widen(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["window_frames"] = 10**9
    (bundle / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("damage", "words"),
    [(flip, "codec_decoder.onnx"), (drop, "decoder.onnx"), (cut, "manifest"), (widen, "window_frames")],
)
def test_damage_is_named(bundle: Path, capsys: pytest.CaptureFixture[str], damage: object, words: str) -> None:
    damage(bundle)  # type: ignore[operator]
    code, out, err = attacca(capsys, "models", "verify", "toy")
    assert code == 2
    assert "toy: every hash holds" not in out
    assert err.startswith("attacca: toy: ")
    assert words in err
    assert err.count("\n") == 1
    code, out, _ = attacca(capsys, "models", "list")
    assert code == 0
    assert words in " ".join(out.split())


def test_an_unknown_name_says_where_it_was_looked_for(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = attacca(capsys, "models", "verify", "toi")
    assert code == 2
    assert "'toi'" in err
    assert str(bundle.parent) in err
