"""A local server that speaks the hub's endpoints, for tests: models' API, resolve with redirects to a CDN, ranges.

Whatever can go wrong with them goes wrong on demand.
"""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

LARGE_BYTES = 1000  # from here on a file is an LFS file, as weights are


@dataclass
class Fault:
    """Something that goes wrong with requests whose path contains `where`, `times` times."""

    where: str
    times: int = 1
    status: int = 0  # answer so
    headers: dict[str, str] = field(default_factory=dict)
    cut_after_bytes: int = -1  # break the connection off
    flip: bool = False  # send other bytes
    ignore_range: bool = False  # send a file from the start, as 200
    slow_s: float = 0.0  # between pieces of a kilobyte
    body: bytes | None = None  # answer with this


@dataclass
class Repository:
    """A model repository at one commit."""

    name: str
    files: dict[str, bytes]
    licence: str | None = "cc-by-nc-4.0"
    token: str | None = None  # asked for
    gated: bool = False

    @property
    def commit(self) -> str:
        """As git would: changes with the content."""
        return hashlib.sha1(b"".join(name.encode() + data for name, data in sorted(self.files.items()))).hexdigest()

    def entry(self, name: str) -> dict[str, Any]:
        """A file as the API lists it."""
        data = self.files[name]
        if len(data) < LARGE_BYTES:
            oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            return {"rfilename": name, "size": len(data), "blobId": oid}
        sha = hashlib.sha256(data).hexdigest()
        large = {"sha256": sha, "size": len(data), "pointerSize": 134}
        return {"rfilename": name, "size": len(data), "blobId": "0" * 40, "lfs": large}


@dataclass
class HubServer:
    """The server's state: what it holds, what shall go wrong, and what it was asked."""

    url: str = ""
    cdn: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)  # method, path, headers
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, repository: Repository) -> Repository:
        """Hold it."""
        self.repositories[repository.name] = repository
        return repository

    def fault(self, path: str) -> Fault | None:
        """The first fault left for a path; spent by this."""
        with self.lock:
            for fault in self.faults:
                if fault.where in path and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def requests(self, method: str, part: str) -> list[dict[str, str]]:
        """The headers of all requests of a kind so far."""
        with self.lock:
            return [headers for kind, path, headers in self.asked if kind == method and part in path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        with self.hub.lock:
            self.hub.asked.append(
                (self.command, path, {name.lower(): value for name, value in self.headers.items()})
            )
        fault = self.hub.fault(path)
        if fault is not None and (fault.status or fault.body is not None):
            self._send(fault.status or 200, fault.body or b"", fault.headers)
        elif path.startswith("/api/models/"):
            self._api(path.removeprefix("/api/models/"))
        elif path.startswith("/cdn/"):
            name, _, file = path.removeprefix("/cdn/").partition("/resolve/")
            self._file(self.hub.repositories[name].files[file], fault)
        else:
            self._resolve(path.removeprefix("/"), fault)

    def _find(self, name: str) -> Repository | None:
        """The repository if this caller may see it; else answers and returns None."""
        repository = self.hub.repositories.get(name)
        known = repository is not None and self.headers.get("Authorization") == f"Bearer {repository.token}"
        if repository is None or (repository.token and not known and not repository.gated):
            self._send(401, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"})
            return None
        return repository

    def _revision(self, repository: Repository, revision: str) -> bool:
        if revision in ("main", repository.commit):
            return True
        self._send(404, b'{"error": "Invalid rev id"}', {"X-Error-Code": "RevisionNotFound"})
        return False

    def _api(self, rest: str) -> None:
        if "/tree/" in rest:
            name, _, revision = rest.partition("/tree/")
        else:
            name, _, revision = rest.partition("/revision/")
        repository = self._find(name)
        if repository is None or not self._revision(repository, revision):
            return
        entries = [repository.entry(file) for file in sorted(repository.files)]
        if "/tree/" in rest:
            self._json([_tree_entry(entry) for entry in entries])
            return
        card = {} if repository.licence is None else {"license": repository.licence}
        tags = [] if repository.licence is None else [f"license:{repository.licence}"]
        info = {"_id": "1", "id": name, "modelId": name, "sha": repository.commit, "private": False, "tags": tags}
        config = json.loads(repository.files.get("config.json", b"{}"))
        info["config"] = {key: value for key, value in config.items() if key == "model_type"}
        self._json(info | {"cardData": card, "siblings": entries, "gated": "auto" if repository.gated else False})

    def _resolve(self, path: str, fault: Fault | None) -> None:
        name, _, rest = path.partition("/resolve/")
        revision, _, file = rest.partition("/")
        repository = self._find(name)
        if repository is None or not self._revision(repository, revision):
            return
        if repository.gated and self.headers.get("Authorization") != f"Bearer {repository.token}":
            self._send(403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
            return
        if file not in repository.files:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        entry = repository.entry(file)
        common = {"X-Repo-Commit": repository.commit}
        if "lfs" in entry:
            headers = {
                "X-Linked-Etag": f'"{entry["lfs"]["sha256"]}"',
                "X-Linked-Size": str(entry["size"]),
                "Location": f"{self.hub.cdn}/cdn/{name}/resolve/{file}",
            }
            self._send(302, b"", common | headers)
        else:
            self._file(repository.files[file], fault, common | {"ETag": f'"{entry["blobId"]}"'})

    def _file(self, data: bytes, fault: Fault | None, headers: dict[str, str] | None = None) -> None:
        given = dict(headers or {}) | {"Accept-Ranges": "bytes"}
        asked = self.headers.get("Range")
        status, start = 200, 0
        if asked is not None and not (fault is not None and fault.ignore_range):
            start = int(asked.removeprefix("bytes=").split("-")[0])
            if start >= len(data):
                self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
                return
            status = 206
            given["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if fault is not None and fault.flip:
            data = bytes(byte ^ 1 for byte in data)
        self._send(status, data[start:], given, fault)

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str], fault: Fault | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault is not None and fault.cut_after_bytes >= 0:
            body = body[: fault.cut_after_bytes]
            self.close_connection = True
        try:
            for at in range(0, len(body), 1024 if fault is not None and fault.slow_s else len(body) or 1):
                self.wfile.write(body[at : at + 1024] if fault is not None and fault.slow_s else body)
                self.wfile.flush()
                if fault is not None and fault.slow_s:
                    time.sleep(fault.slow_s)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


def _tree_entry(entry: dict[str, Any]) -> dict[str, Any]:
    """A file as the tree listing has it."""
    found = {"type": "file", "path": entry["rfilename"], "size": entry["size"], "oid": entry["blobId"]}
    if "lfs" in entry:
        large = entry["lfs"]
        found["lfs"] = {"oid": large["sha256"], "size": large["size"], "pointerSize": large["pointerSize"]}
    return found


@contextmanager
def hub_server() -> Iterator[HubServer]:
    """A hub and its CDN on two ports of this machine."""
    hub = HubServer()
    handler = type("Handler", (_Handler,), {"hub": hub})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    threads = [threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True) for server in servers]
    for server, thread in zip(servers, threads, strict=True):
        server.daemon_threads = True
        thread.start()
    hub.url, hub.cdn = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    try:
        yield hub
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()


NAME = "facebook/musicgen-tiny"
WEIGHTS = random.Random(1).randbytes(300_000)
FILES = {
    "config.json": b'{"model_type": "musicgen"}',
    "generation_config.json": b"{}",
    "tokenizer.json": b'{"long": "' + b"x" * 2000 + b'"}',
    "model.safetensors": WEIGHTS,
    "README.md": b"---\nlicense: cc-by-nc-4.0\n---\n# A model\n",
    "pytorch_model.bin": b"another form of the same" * 100,
    "state_dict.bin": b"a third" * 500,
    "compression_state_dict.bin": b"a third's codec" * 500,
    "samples/long.wav": b"sound" * 1000,
    ".gitattributes": b"*.bin filter=lfs",
}
WANTED = {"config.json", "generation_config.json", "tokenizer.json", "model.safetensors", "README.md"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A hub with one model; nobody's login, cache or endpoint is seen."""
    for name in ("HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    constants = pytest.importorskip("huggingface_hub.constants", reason="needs the [hub] extra")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "theirs"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-login"))
    with hub_server() as server:
        server.add(Repository(NAME, dict(FILES)))
        yield server


def content(folder: Path) -> dict[str, bytes]:
    """The files of a folder that are seen."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}
