"""What is said of a model's licence, and that it is said when the model is loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from attacca.bridge.config import Settings
from attacca.bridge.hub_files import source_of
from attacca.bridge.licence import licence_line, licence_of_card
from attacca.bridge.loading import load_model
from attacca.engine.bundle import find_bundle
from attacca.engine.manifest import MANIFEST_FILE, encode_manifest, read_manifest


@pytest.mark.parametrize(
    "name", ["Apache-2.0", "apache-2.0", "MIT", "BSD 3-clause", "cc0-1.0", "CC-BY-4.0", " mit "]
)
def test_of_a_permissive_licence_nothing_is_said(name: str) -> None:
    assert licence_line(name) is None


@pytest.mark.parametrize(
    "name",
    ["cc-by-nc-4.0", "CC-BY-NC 4.0", "cc-by-nc-sa-4.0", "CC_BY_NC", "some-research-license", "x-noncommercial"],
)
def test_non_commercial_is_said(name: str) -> None:
    assert licence_line(name) == f"licence {name}: these weights are for non-commercial use only"


def test_of_others_it_is_said_to_read_them() -> None:
    assert (
        licence_line("llama3.2") == "licence llama3.2: it may have conditions, read it before you use these weights"
    )
    assert "conditions" in str(licence_line("gpl-nce"))
    assert licence_line("") == "no licence is stated: ask the authors before you use these weights"


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: cc-by-nc-4.0\ntags: [x]\n---\n# A\n", "cc-by-nc-4.0"),
        ("---\ntags:\n- a\nlicense: 'mit' # so\n---\n", "mit"),
        ("---\nlicense: other\nlicense_name: mine-1.0\n---\n", "mine-1.0"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\ntags: []\n---\nlicense: mit\n", ""),
        ("license: mit\n", ""),
        ("", ""),
    ],
)
def test_the_licence_of_a_model_card(card: str, licence: str, tmp_path: Path) -> None:
    assert licence_of_card(card) == licence
    (tmp_path / "README.md").write_text(card)
    assert source_of(tmp_path) == {"licence": licence}


def test_a_folder_that_says_nothing_has_no_licence(tmp_path: Path) -> None:
    assert source_of(tmp_path) == {"licence": ""}


def test_it_is_said_when_the_model_is_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shipped = find_bundle("ostinato")
    load_model(Settings(model=str(shipped)))
    assert capsys.readouterr().err == ""
    folder = tmp_path / "theirs"
    shutil.copytree(shipped, folder)
    manifest = msgspec.structs.replace(read_manifest(folder), name="theirs", licence="cc-by-nc-4.0")
    (folder / MANIFEST_FILE).write_bytes(encode_manifest(manifest))
    load_model(Settings(model=str(folder)))
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "attacca: theirs: licence cc-by-nc-4.0: these weights are for non-commercial use only\n"
