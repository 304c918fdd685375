"""Bundles: what is understood is loaded, everything else is refused with a reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from decoder_fixtures import SAMPLING, TINY, Source, random_codes
from hypothesis import given, settings
from hypothesis import strategies as st

from attacca.engine.bundle import find_bundle, list_bundles, load_bundle, verify_bundle
from attacca.engine.generator import Generator
from attacca.engine.manifest import ManifestError, encode_manifest, parse_manifest, read_manifest

GOOD = (TINY / "manifest.json").read_bytes()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY, tmp_path / "tiny"))


def edited(path: str, value: Any) -> bytes:
    """The tiny manifest with one field set, or removed (value ...); an inner key follows a slash."""
    table = json.loads(GOOD)
    inner = table
    *parents, last = path.split("/")
    for part in parents:
        inner = inner[part]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return json.dumps(table).encode()


def test_tiny_bundle_is_whole_and_small() -> None:
    assert verify_bundle(TINY) == []
    assert sum(file.stat().st_size for file in TINY.iterdir()) < 1_000_000


def test_manifest_survives_a_round_trip() -> None:
    manifest = parse_manifest(GOOD)
    assert encode_manifest(manifest) == GOOD
    assert parse_manifest(encode_manifest(manifest)) == manifest
    assert manifest.frames_per_second == 50.0


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("format_version", 2, "format_version is 2, allowed: 1"),
        ("format_version", ..., "format_version is null, allowed: 1"),
        ("name", "../x", "name is '../x', allowed"),
        ("pattern/name", "zigzag", "pattern.name is 'zigzag', allowed: parallel, delay"),
        ("pattern/p", 0, "pattern.p is 0, allowed: 1..16"),
        ("sample_rate", 1, "sample_rate is 1, allowed: 8000..192000"),
        ("sample_rate", "32000", "sample_rate"),
        ("codec/hop_samples", 320, "codec.hop_samples is 320, allowed: 640"),
        ("window_frames", 10**9, "window_frames is 1000000000, allowed"),
        ("window_frames", 28, "window_frames is 28, allowed: above 28 for stack-delay"),
        ("decoder/dim", 33, "decoder.dim is 33, allowed: heads \\* head_dim = 32"),
        ("decoder/precision", "fp8", "decoder.precision is 'fp8', allowed: fp32"),
        ("decoder/kv_bits", 4, "decoder.kv_bits is 4, allowed: 8, 32"),
        ("decoder/rotary_base", 0.0, "rotary_base is 0.0, allowed"),
        ("conditioning/width", 44, "conditioning.width is 44, allowed: 43, the groups and their flags"),
        ("conditioning/groups", [["weather", 3]], "conditioning group is 'weather', allowed: beat, tempo, chord"),
        ("conditioning/groups", [["chord", 11]], "conditioning group 'chord' has width 11, allowed: 12"),
        ("conditioning/groups", [["style", 0]], "conditioning group 'style' has width 0, allowed: 1..64"),
        ("conditioning/groups", [["style", 65]], "conditioning group 'style' has width 65, allowed: 1..64"),
        ("conditioning/groups", [["chord", 12]] * 2, "conditioning group 'chord' stands there 2 times, allowed: 1"),
        ("conditioning/styles", ["dub"], "conditioning styles are 1 names, allowed: none or 8"),
        ("conditioning/styles", ["dub"] * 8, "conditioning style is 'dub', allowed: once"),
        ("conditioning/styles", ["3", *"abcdefg"], "conditioning style is '3', allowed: once, .* no number"),
        ("conditioning/styles", ["Auto", *"abcdefg"], "conditioning style is 'Auto', allowed: once, .* not 'auto'"),
        ("sampling/guidance", 11.0, "sampling.guidance is 11.0, allowed: 0..10"),
        ("files/decoder", ..., "needed: 'decoder'"),
        ("files/decoder/sha256", "zz", "sha256 is 'zz', allowed: 64 hex digits"),
        ("files/decoder/path", "../decoder.onnx", "path is '../decoder.onnx', allowed: a relative path inside"),
        ("files/decoder/path", "/etc/passwd", "path is '/etc/passwd', allowed"),
        ("files/decoder/path", "a\\..\\b", "allowed: a relative path inside"),
        ("files/decoder/bytes", -1, "bytes is -1, allowed: 0 or more"),
        ("surprise", 1, "unknown field `surprise`"),
        ("decoder/surprise", 1, "unknown field `surprise`"),
        ("licence", ..., "missing required field `licence`"),
    ],
)
def test_manifest_is_refused(path: str, value: Any, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        parse_manifest(edited(path, value))


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.integers(0, len(GOOD) - 2).map(lambda n: GOOD[:n])))
def test_broken_manifest_is_an_error_and_nothing_else(data: bytes) -> None:
    with pytest.raises(ManifestError):
        parse_manifest(data)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_changed_byte_is_understood_or_refused(place: int, byte: int) -> None:
    data = bytearray(GOOD)
    data[place] = byte
    try:
        parse_manifest(bytes(data))
    except ManifestError as error:
        assert "manifest" in str(error)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(ManifestError):
        parse_manifest(b'{"format_version": 1, "codec": ' + b"[" * 100_000)


def test_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no readable manifest\.json"):
        read_manifest(tmp_path)
    assert verify_bundle(tmp_path / "nowhere")


@pytest.mark.parametrize("role", ["decoder", "codec_encoder", "codec_decoder"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "tampered", "folder", "link"])
def test_damaged_file_is_found(bundle: Path, role: str, damage: str, tmp_path: Path) -> None:
    path = bundle / read_manifest(bundle).files[role].path
    data = bytearray(path.read_bytes())
    path.unlink()
    if damage == "truncated":
        path.write_bytes(data[:-1])
    elif damage == "tampered":
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif damage == "folder":
        path.mkdir()
    elif damage == "link":
        (tmp_path / "outside").write_bytes(data)
        path.symlink_to(tmp_path / "outside")
    problems = verify_bundle(bundle)
    assert len(problems) == 1
    assert problems[0].startswith(f"{role}: ")
    with pytest.raises(ManifestError, match=role):
        load_bundle(bundle)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("window_frames", 40, "window of 48, manifest says 40"),
        ("decoder/layers", 1, "unknown inputs"),
        ("decoder/layers", 3, "decoder input 'key_0_2' is None"),
        ("decoder/kv_bits", 8, "decoder input 'key_0_0'"),
        ("codec/kind", "zip", "codec.kind is 'zip'"),
    ],
)
def test_graph_must_fit_the_manifest(bundle: Path, path: str, value: Any, message: str) -> None:
    (bundle / "manifest.json").write_bytes(edited(path, value))
    with pytest.raises(ManifestError, match=message):
        load_bundle(bundle)


def test_graph_that_is_none_is_refused(bundle: Path) -> None:
    (bundle / "decoder.onnx").write_bytes(b"x" * read_manifest(bundle).files["decoder"].bytes)
    with pytest.raises(ManifestError, match="damaged or tampered"):
        load_bundle(bundle)
    with pytest.raises(ManifestError, match="is not readable"):
        load_bundle(bundle, verify=False)


def test_loaded_model_plays() -> None:
    model = load_bundle(TINY)
    manifest, generator = model.manifest, model.generator()
    typed: Generator = generator
    typed.listen(random_codes(10), Source().rows(0, 10))
    generator.plan(20, Source(), SAMPLING)
    audio = model.codec.decoder().push(generator.read(0, 20))
    assert audio.shape == (20 * manifest.hop_samples,)
    assert np.isfinite(audio).all()
    codes = model.codec.encoder().push(audio)
    assert codes.shape[1] == manifest.num_codebooks


def test_bundles_are_found_by_name_and_by_path(bundle: Path) -> None:
    environment = {"ATTACCA_MODELS": f"{bundle.parent / 'none'}:{bundle.parent}"}
    assert find_bundle("tiny", environment) == bundle
    assert find_bundle(bundle, {}) == bundle
    assert list_bundles(environment)["tiny"] == bundle
    with pytest.raises(ManifestError, match=r"no bundle 'absent'.*attacca"):
        find_bundle("absent", environment)
