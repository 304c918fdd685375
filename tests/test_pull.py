"""`attacca models pull`: names, paths and URLs; resumed, verified, and nothing half where something is wrong."""

from __future__ import annotations

import errno
import hashlib
import http.server
import json
import shutil
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from attacca.bridge import download as download_module
from attacca.bridge import hub_convert, unpack
from attacca.bridge.cli import app
from attacca.bridge.download import PullError, download
from attacca.bridge.pull import downloads, pull
from attacca.engine.bundle import list_bundles, verify_bundle
from attacca.engine.conditioning import ConditioningLayout
from attacca.engine.manifest import (
    ConditioningSection,
    DecoderSection,
    FileEntry,
    Manifest,
    PatternSection,
    encode_manifest,
    parse_manifest,
    read_manifest,
)


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` with ranges; notes the ranges asked for; ends the first answers early on demand."""

    content = b""
    tag = '"one"'
    cut_after: ClassVar[list[int]] = []  # bytes of each answer's body, as long as there are any
    status = 200
    ranges = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[str] = []
        self.cut_after = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/models/ostinato-l.zip"


class Answer(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range", "")
        server.asked.append(asked)
        if server.status != 200:
            self.send_error(server.status)
            return
        begin = int(asked.removeprefix("bytes=").rstrip("-") or 0) if server.ranges else 0
        if self.headers.get("If-Range", server.tag) != server.tag:
            begin = 0
        if begin >= len(server.content):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        total = len(server.content)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{total - 1}/{total}")
        self.send_header("Content-Length", str(total - begin))
        self.send_header("ETag", server.tag)
        self.end_headers()
        body = server.content[begin:]
        self.wfile.write(body[: server.cut_after.pop(0)] if server.cut_after else body)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folders and the models' list, inside the test's own."""
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setattr("platformdirs.user_data_path", lambda *a, **k: tmp_path / "data")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *a, **k: tmp_path / "cache")
    listed = tmp_path / "listed"
    listed.mkdir()
    monkeypatch.setenv("ATTACCA_MODELS", str(listed))
    return listed


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "made" / "toy"
    folder.mkdir(parents=True)
    files = {}
    for role in ("decoder", "codec_encoder", "codec_decoder"):
        content = hashlib.sha256(role.encode()).digest() * 400
        (folder / f"{role}.onnx").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        files[role] = FileEntry(path=f"{role}.onnx", sha256=digest, bytes=len(content))
    shape: dict[str, int] = {"sample_rate": 32000, "hop_samples": 640, "num_codebooks": 4, "codebook_size": 64}
    manifest = Manifest(
        format_version=1,
        name="toy",
        version="0.1",
        licence="Apache-2.0",
        **shape,
        window_frames=100,
        pattern=PatternSection(name="stack-delay", p=3),
        conditioning=ConditioningSection.of(ConditioningLayout(groups=())),
        decoder=DecoderSection(layers=1, heads=1, head_dim=8, dim=8),
        codec=dict(shape),
        files=files,
    )
    (folder / "manifest.json").write_bytes(encode_manifest(manifest))
    return folder


def zipped(bundle: Path, path: Path, top: str = "toy/") -> bytes:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(bundle.iterdir()):
            archive.write(file, top + file.name)
        archive.writestr(top + "../stray.txt", "not of the bundle")
    return path.read_bytes()


def files_under(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


WHOLE = ["codec_decoder.onnx", "codec_encoder.onnx", "decoder.onnx", "manifest.json"]


@pytest.mark.parametrize("top", ["", "toy/"])
def test_a_file_is_installed_under_its_bundles_name(bundle: Path, tmp_path: Path, top: str) -> None:
    zipped(bundle, tmp_path / "some.zip", top)
    target = pull(str(tmp_path / "some.zip"), show=False)
    assert target == tmp_path / "data" / "models" / "toy"
    assert files_under(tmp_path / "data") == [f"models/toy/{name}" for name in WHOLE]
    assert verify_bundle(target) == []
    assert list_bundles()["toy"] == target
    assert pull(str(bundle), show=False) == target  # the same bundle, from its folder: it is there already
    assert pull((tmp_path / "some.zip").as_uri(), tmp_path / "else where", show=False) == tmp_path / "else where"


def test_a_name_is_looked_up_and_brought_over_broken_connections(
    bundle: Path, tmp_path: Path, own_folders: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.content = zipped(bundle, tmp_path / "up.zip")
    server.cut_after = [1000, 0, 5000]
    digest = hashlib.sha256(server.content).hexdigest()
    entry = {"place": server.url, "sha256": digest, "bytes": len(server.content)}
    (own_folders / "downloads.json").write_text(json.dumps({"ostinato-l": entry}))
    assert downloads()["ostinato-l"][1] == own_folders
    assert app(["models", "pull", "ostinato-l"], standalone_mode=False) == 0
    target = tmp_path / "data" / "models" / "ostinato-l"
    assert capsys.readouterr().out == f"{target}\n"
    assert files_under(target) == WHOLE
    assert server.asked == ["", "bytes=1000-", "bytes=1000-", "bytes=6000-"]
    assert files_under(tmp_path / "cache") == []


def test_a_pull_that_was_ended_goes_on_in_another_call(tmp_path: Path, server: Server) -> None:
    server.content = bytes(range(256)) * 100
    server.cut_after = [700, 0, 0, 0, 0, 0]
    with pytest.raises(PullError, match="what has come is kept"):
        download(server.url, tmp_path, sleep=lambda seconds: None)
    server.asked.clear()
    server.cut_after = []
    assert download(server.url, tmp_path).read_bytes() == server.content
    assert server.asked == ["bytes=700-"]
    assert download(server.url, tmp_path).read_bytes() == server.content
    assert server.asked == ["bytes=700-"]


def test_a_file_that_changed_meanwhile_is_begun_anew(tmp_path: Path, server: Server) -> None:
    server.content, server.cut_after = b"old" * 1000, [500, 0, 0, 0, 0, 0]
    with pytest.raises(PullError):
        download(server.url, tmp_path, sleep=lambda seconds: None)
    for tag, content in (('"two"', b"new" * 900), ('"three"', b"n")):
        server.tag, server.content = tag, content
        got = download(server.url, tmp_path, sleep=lambda seconds: None)
        assert got.read_bytes() == content
        got.unlink()


def test_a_server_without_ranges_gives_the_whole_again(tmp_path: Path, server: Server) -> None:
    server.content, server.cut_after, server.ranges = b"abc" * 1000, [500], False
    assert download(server.url, tmp_path, sleep=lambda seconds: None).read_bytes() == server.content


def test_what_is_not_what_was_published_is_refused(
    bundle: Path, tmp_path: Path, own_folders: Path, server: Server
) -> None:
    server.content = zipped(bundle, tmp_path / "up.zip")
    with pytest.raises(PullError, match=r"has sha256 [0-9a-f]{64}, expected 0000"):
        pull(server.url, sha256="0" * 64, show=False)
    entry = {"place": server.url, "bytes": 17}
    (own_folders / "downloads.json").write_text(json.dumps({"toy": entry}))
    with pytest.raises(PullError, match="expected 17"):
        pull("toy", show=False)
    assert not (tmp_path / "data").exists()


def test_no_network_and_no_file_are_said(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(PullError, match="the server answers 404"):
        pull(server.url, show=False)
    with pytest.raises(PullError, match=r"cannot reach http://127\.0\.0\.1:9/"):
        download("http://127.0.0.1:9/a.zip", tmp_path, sleep=lambda seconds: None)
    with pytest.raises(PullError, match="is not there"):
        pull("file:///nowhere/at-all.zip", show=False)


def test_a_full_disk_leaves_nothing_half(
    bundle: Path, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.content = zipped(bundle, tmp_path / "up.zip")
    none_free = shutil._ntuple_diskusage(10, 10, 0)
    with monkeypatch.context() as patch:
        patch.setattr(download_module.shutil, "disk_usage", lambda path: none_free)
        with pytest.raises(PullError, match="0 MB free"):
            pull(server.url, show=False)
        with pytest.raises(PullError, match="0 MB free"):
            pull(str(bundle), show=False)

    def full(*arguments: object) -> None:
        (tmp_path / "data" / "models" / "x").mkdir(parents=True, exist_ok=True)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(unpack, "_write", full)
    with pytest.raises(PullError, match="is full"):
        pull(str(bundle), show=False)
    assert files_under(tmp_path / "data") == []


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda b: (b / "decoder.onnx").write_bytes(b"x" * 12800), "sha256"),
        (lambda b: (b / "decoder.onnx").write_bytes(b"x" * 12801), "more than the 12800 bytes"),
        (lambda b: (b / "decoder.onnx").write_bytes(b"x"), "has 1 bytes"),
        (lambda b: (b / "decoder.onnx").unlink(), "decoder.onnx"),
        (lambda b: (b / "manifest.json").write_text("{}"), "format_version"),
        (lambda b: (b / "manifest.json").unlink(), "holds 0 bundles|has no manifest"),
    ],
)
@pytest.mark.parametrize("archive", [True, False])
def test_a_broken_bundle_leaves_nothing(
    bundle: Path, tmp_path: Path, damage: object, words: str, archive: bool
) -> None:
    damage(bundle)  # type: ignore[operator]
    source = tmp_path / "broken.zip" if archive else bundle
    if archive:
        zipped(bundle, source)
    with pytest.raises(PullError, match=words):
        pull(str(source), show=False)
    assert files_under(tmp_path / "data") == []
    assert not list((tmp_path / "data").glob("models/.*"))


def test_what_is_no_archive_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\3\4 and then nothing")
    with pytest.raises(PullError, match=r"is no \.zip, or is damaged"):
        pull(str(tmp_path / "a.zip"), show=False)


def test_another_bundle_in_the_place_is_not_overwritten(bundle: Path, tmp_path: Path) -> None:
    target = pull(str(bundle), show=False)
    (target / "decoder.onnx").write_bytes(b"mine")
    with pytest.raises(PullError, match="is there already"):
        pull(str(bundle), show=False)
    assert (target / "decoder.onnx").read_bytes() == b"mine"


def test_names_without_a_place_and_unknown_ones_are_said(own_folders: Path) -> None:
    with pytest.raises(PullError, match=r"ostinato-l has no download place yet.*docs/gpu\.md"):
        pull("ostinato-l", show=False)
    with pytest.raises(PullError, match="names: ostinato-l"):
        pull("ostinata", show=False)
    (own_folders / "downloads.json").write_text('{"x": {"plaice": ""}}')
    with pytest.raises(PullError, match=r"downloads\.json is not understood"):
        pull("x", show=False)


def test_a_list_may_name_files_beside_it(bundle: Path, tmp_path: Path, own_folders: Path) -> None:
    zipped(bundle, own_folders / "toy.zip")
    (own_folders / "downloads.json").write_text('{"mine": {"place": "toy.zip"}}')
    assert pull("mine", show=False) == tmp_path / "data" / "models" / "mine"


def test_a_manifest_states_its_download_place_or_nothing(bundle: Path) -> None:
    plain = read_manifest(bundle)
    assert plain.origin is msgspec.UNSET
    assert b"origin" not in encode_manifest(plain)
    there = msgspec.structs.replace(plain, origin="https://example.org/toy.zip")
    assert parse_manifest(encode_manifest(there)) == there


def test_a_repository_goes_to_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def pull_repository(repo: str, to: Path | None, **options: object) -> Path:
        asked.append((repo, to, options))
        return tmp_path

    monkeypatch.setattr(hub_convert, "pull_repository", pull_repository)
    flags = ["--revision", "main", "--to", str(tmp_path / "there")]
    assert app(["models", "pull", "facebook/musicgen-small", *flags], standalone_mode=False) == 0
    options = {"show": True, "revision": "main", "endpoint": None, "offline": False}
    options |= {"checkpoint": None, "precision": "int8", "kv_bits": 32, "window_frames": None}
    assert asked == [("facebook/musicgen-small", tmp_path / "there", options)]
