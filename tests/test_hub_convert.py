"""From a repository or a folder to a bundle that can be named, with licence and origin, whole or not at all."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
from hub_server import FILES, NAME, HubServer, Repository, hub

from attacca.bridge import hub_convert
from attacca.bridge.cli import app
from attacca.bridge.hub_files import HubError
from attacca.bridge.pull import pull
from attacca.engine.bundle import find_bundle, load_bundle, verify_bundle
from attacca.engine.manifest import MANIFEST_FILE, encode_manifest, read_manifest

pytest.importorskip("huggingface_hub", reason="needs the [hub] extra")
__all__ = ["hub"]  # a fixture


@dataclass(frozen=True, kw_only=True)
class FakeOptions:
    """As the converter's, as far as they are used here."""

    name: str
    precision: str
    kv_bits: int
    licence: str = "CC-BY-NC-4.0"
    window_frames: int = 1536


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[FakeOptions]:
    """The conversions so far; what they make is the shipped bundle under another name."""
    conversions: list[FakeOptions] = []

    def convert_musicgen(source: Path, out: Path, options: FakeOptions) -> None:
        conversions.append(options)
        if (source / "broken").exists():
            (out / "decoder.onnx").write_bytes(b"a beginning")
            raise ValueError("decoder.layers.3.fc1.weight is missing")
        shutil.copytree(find_bundle("ostinato"), out, dirs_exist_ok=True)
        manifest = read_manifest(out)
        manifest = msgspec.structs.replace(
            manifest, name=options.name, licence=options.licence, provenance={"layout": "fake"}
        )
        (out / MANIFEST_FILE).write_bytes(encode_manifest(manifest))

    converter = ModuleType("converter")
    converter.ConvertOptions = FakeOptions  # type: ignore[attr-defined]
    converter.convert_musicgen = convert_musicgen  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, hub_convert._CONVERTER, converter)
    monkeypatch.setattr(hub_convert, "need_library", lambda name, extra: None)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return conversions


def test_a_repository_becomes_a_bundle_that_can_be_named(
    hub: HubServer, made: list[FakeOptions], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["models", "pull", NAME, "--endpoint", hub.url]
    assert app(command, standalone_mode=False) == 0
    folder = tmp_path / "data" / "attacca" / "models" / "musicgen-tiny"
    out, err = capsys.readouterr()
    assert out == f"{folder}\n"
    assert "non-commercial use only" in err
    assert "musicgen-tiny is ready: attacca serve --model musicgen-tiny" in err
    assert "only --precision fp32 gives transformers' own" in err
    assert find_bundle("musicgen-tiny") == folder
    assert verify_bundle(folder) == []
    manifest = read_manifest(folder)
    assert (manifest.name, manifest.licence) == ("musicgen-tiny", "cc-by-nc-4.0")
    assert manifest.provenance == {
        "layout": "fake",
        "checkpoint": "facebook--musicgen-tiny",
        "licence": "cc-by-nc-4.0",
        "repo": NAME,
        "commit": hub.repositories[NAME].commit,
        "endpoint": hub.url,
        "precision": "int8",
        "kv_bits": 32,
    }
    assert [path.name for path in folder.parent.iterdir()] == ["musicgen-tiny"]
    assert app([*command[:3], "--offline"], standalone_mode=False) == 0  # it is there: nothing is made
    assert made == [FakeOptions(name="musicgen-tiny", precision="int8", kv_bits=32, licence="cc-by-nc-4.0")]
    capsys.readouterr()
    assert app([*command, "--revision", "v9"], standalone_mode=False) == 2
    assert capsys.readouterr().err == f"attacca: {NAME} has no revision 'v9'; see {hub.url}/{NAME}/tree/main\n"


def change_commit(hub: HubServer, folder: Path) -> dict[str, object]:
    hub.add(Repository(NAME, FILES | {"config.json": b'{"model_type": "musicgen", "x": 1}'}))
    return {}


def change_precision(hub: HubServer, folder: Path) -> dict[str, object]:
    return {"precision": "int4"}


def change_window(hub: HubServer, folder: Path) -> dict[str, object]:
    return {"window_frames": 500}


def damage(hub: HubServer, folder: Path) -> dict[str, object]:
    (folder / "decoder.onnx").write_bytes(b"?")
    return {}


@pytest.mark.parametrize("change", [change_commit, change_precision, change_window, damage])
def test_what_is_there_of_the_same_repository_is_replaced(
    hub: HubServer,
    made: list[FakeOptions],
    tmp_path: Path,
    change: Callable[[HubServer, Path], dict[str, object]],
) -> None:
    folder = pull(NAME, tmp_path / "b", endpoint=hub.url, show=False)
    more = change(hub, folder)
    assert pull(NAME, tmp_path / "b", endpoint=hub.url, show=False, **more) == folder  # type: ignore[arg-type]
    assert len(made) == 2
    provenance = read_manifest(folder).provenance
    assert provenance["commit"] == hub.repositories[NAME].commit
    assert provenance["precision"] == more.get("precision", "int8")
    assert provenance.get("window_frames") == more.get("window_frames")
    assert made[-1].window_frames == more.get("window_frames", 1536)
    pull(NAME, tmp_path / "b", endpoint=hub.url, show=False)
    assert len(made) == (3 if more else 2)  # what was asked for before is made again
    assert verify_bundle(folder) == []
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_what_is_there_of_others_is_not(hub: HubServer, made: list[FakeOptions], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(find_bundle("ostinato"), other)
    files = tmp_path / "files"
    files.mkdir()
    (files / "letter.txt").write_text("dear")
    for folder in (other, files):
        with pytest.raises(HubError, match=f"{folder} is there and was not made of {NAME}: choose another"):
            pull(NAME, folder, endpoint=hub.url, show=False)
    assert verify_bundle(other) == []
    assert [path.name for path in files.iterdir()] == ["letter.txt"]


def test_a_folder_is_converted_where_it_is(made: list[FakeOptions], tmp_path: Path) -> None:
    source = tmp_path / "My Model (2)"
    source.mkdir()
    (source / "config.json").write_text('{"model_type": "musicgen"}')
    folder = pull(str(source), show=False)
    assert folder == tmp_path / "data" / "attacca" / "models" / "my-model-2"
    manifest = read_manifest(folder)
    assert manifest.licence == "CC-BY-NC-4.0"  # nothing is stated: the converter knows whose weights they may be
    assert manifest.provenance["checkpoint"] == "My Model (2)"
    (source / "README.md").write_text("---\nlicense: mit\n---\n")
    assert read_manifest(pull(str(source), show=False)).licence == "mit"


def test_a_conversion_that_fails_leaves_what_was_there(
    hub: HubServer, made: list[FakeOptions], tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "state_dict.bin").write_bytes(b"")
    folder = pull(str(source), tmp_path / "b", show=False)
    (source / "broken").touch()
    before = (folder / MANIFEST_FILE).read_bytes()
    for target in (folder, tmp_path / "new"):
        with pytest.raises(
            HubError, match=r"source cannot be converted: decoder\.layers\.3\.fc1\.weight is missing"
        ):
            pull(str(source), target, precision="fp32", show=False)
    assert (folder / MANIFEST_FILE).read_bytes() == before
    assert verify_bundle(folder) == []
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["b", "source"]


def test_what_is_no_checkpoint_is_said(hub: HubServer, made: list[FakeOptions], tmp_path: Path) -> None:
    for kind in ("opt", "bark"):
        hub.add(Repository("facebook/other", FILES | {"config.json": b'{"model_type": "%s"}' % kind.encode()}))
        with pytest.raises(
            HubError, match=f"facebook/other is a '{kind}' model; .* played: musicgen, musicgen_melody$"
        ):
            pull("facebook/other", tmp_path / "b", endpoint=hub.url, show=False)
        assert hub.requests("GET", "/resolve/") == []
    hub.add(Repository("facebook/unsaid", FILES | {"config.json": b"{}"}))
    with pytest.raises(HubError, match=r"facebook--unsaid is no MusicGen checkpoint .*: nothing here plays it"):
        pull("facebook/unsaid", tmp_path / "b", endpoint=hub.url, show=False)
    assert made == []


def test_what_cannot_be_made_is_said_before_anything_comes(
    hub: HubServer, made: list[FakeOptions], tmp_path: Path
) -> None:
    with pytest.raises(HubError, match="precision is 'int3', allowed: fp32, fp16, int8, int4"):
        pull(NAME, tmp_path / "b", precision="int3", endpoint=hub.url, show=False)
    with pytest.raises(HubError, match="kv-bits is 4, allowed: 8, 32"):
        pull(NAME, tmp_path / "b", kv_bits=4, endpoint=hub.url, show=False)
    with pytest.raises(HubError, match=r"window-frames is 9, allowed: 64\.\.1536"):
        pull(NAME, tmp_path / "b", window_frames=9, endpoint=hub.url, show=False)
    assert hub.asked == []


def test_without_the_converters_library_nothing_is_pulled(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from attacca.bridge import hub as hub_module

    monkeypatch.setattr(hub_module, "find_spec", lambda name: None if name == "onnx" else object())
    with pytest.raises(HubError, match=r"onnx: not installed; install with: pip install 'attacca\[musicgen\]'"):
        pull(NAME, tmp_path / "b", endpoint=hub.url, show=False)
    assert hub.asked == []


@pytest.mark.train
def test_a_real_checkpoint_from_the_hub_to_a_loaded_model(hub: HubServer, tmp_path: Path) -> None:
    for library in ("torch", "onnx", "transformers", "tokenizers"):
        pytest.importorskip(library)
    from musicgen_fixtures import make_musicgen, save, save_tokenizer

    source = save(make_musicgen(), tmp_path / "source")
    save_tokenizer(source)
    hub.add(Repository("facebook/toy", {path.name: path.read_bytes() for path in source.iterdir()}))
    folder = pull("facebook/toy", tmp_path / "toy", endpoint=hub.url, show=False)
    model = load_bundle(folder)
    assert (model.manifest.name, model.manifest.licence) == ("toy", "cc-by-nc-4.0")
    assert model.manifest.decoder.precision == "int8"
    assert model.manifest.provenance["commit"] == hub.repositories["facebook/toy"].commit
