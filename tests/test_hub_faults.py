"""Pulling from a hub while things go wrong: what passes is waited for, the rest is said, no half looks whole."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hub_server import NAME, WANTED, WEIGHTS, Fault, HubServer, content, hub, hub_server

from attacca.bridge import hub_folder, hub_transfer
from attacca.bridge.hub import fetch
from attacca.bridge.hub_files import RECORD_FILE, HubError, source_of
from attacca.bridge.hub_folder import PULL_FOLDER

pytest.importorskip("huggingface_hub", reason="needs the [hub] extra")
__all__ = ["hub"]  # a fixture


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were slept between tries; no one sleeps."""
    slept: list[float] = []
    monkeypatch.setattr(hub_transfer, "sleep", slept.append)
    return slept


def pull(hub: HubServer, folder: Path, **more: object) -> Path:
    return fetch(NAME, folder, endpoint=hub.url, show=False, **more)  # type: ignore[arg-type]


def is_whole(folder: Path) -> bool:
    return set(content(folder)) == WANTED | {RECORD_FILE} and (folder / "model.safetensors").read_bytes() == WEIGHTS


def looks_untouched(folder: Path) -> bool:
    """Nothing that could be taken for a checkpoint, or a part of one."""
    return content(folder) == {}


def ranges(hub: HubServer) -> list[str | None]:
    return [headers.get("range") for headers in hub.requests("GET", "/cdn/" + NAME + "/resolve/model.safetensors")]


def test_a_connection_that_is_cut_again_and_again_goes_on_where_it_was(
    hub: HubServer, tmp_path: Path, waits: list[float]
) -> None:
    hub.faults.append(Fault("/cdn/" + NAME + "/resolve/model", times=8, cut_after_bytes=30_000))
    pull(hub, tmp_path)
    assert is_whole(tmp_path)
    starts = [0 if text is None else int(text.removeprefix("bytes=").removesuffix("-")) for text in ranges(hub)]
    assert starts == [30_000 * number for number in range(9)]
    assert waits == [1.0] * 8  # each brought something: none counts as a failure in a row


def test_given_up_it_keeps_what_came_says_so_and_goes_on_next_time(
    hub: HubServer, tmp_path: Path, waits: list[float]
) -> None:
    weights = Fault("/cdn/" + NAME + "/resolve/model", cut_after_bytes=100_000)
    hub.faults += [weights, Fault(weights.where, times=5, cut_after_bytes=0)]
    with pytest.raises(HubError, match=r"broke off .* run the same command again") as error:
        pull(hub, tmp_path)
    assert "\n" not in str(error.value)
    assert waits == [1.0, 2.0, 4.0, 8.0, 10.0]
    assert looks_untouched(tmp_path)
    with pytest.raises(HubError, match=r"was not finished; missing: model\.safetensors \(100000 of 300000 bytes"):
        pull(hub, tmp_path, offline=True)
    hub.asked.clear()
    pull(hub, tmp_path)
    assert is_whole(tmp_path)
    assert [
        path for _, path, _ in hub.asked if path.endswith("config.json")
    ] == []  # what was whole is not asked again
    assert ranges(hub) == ["bytes=100000-"]


def test_what_is_left_of_another_revision_is_not_continued(
    hub: HubServer, tmp_path: Path, waits: list[float]
) -> None:
    where = "/cdn/" + NAME + "/resolve/model"
    hub.faults += [Fault(where, cut_after_bytes=1000), Fault(where, status=500, times=5)]
    with pytest.raises(HubError, match="answers with error 500"):
        pull(hub, tmp_path)
    new = bytes(reversed(WEIGHTS))
    hub.repositories[NAME].files["model.safetensors"] = new
    hub.asked.clear()
    pull(hub, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == new
    assert ranges(hub) == [None]
    assert not (tmp_path / PULL_FOLDER).exists()


def test_a_mirror_goes_on_with_what_another_began(hub: HubServer, tmp_path: Path, waits: list[float]) -> None:
    where = "/cdn/" + NAME + "/resolve/model"
    hub.faults += [Fault(where, cut_after_bytes=8000), Fault(where, status=503, times=5)]
    with pytest.raises(HubError, match="answers with error 503"):
        pull(hub, tmp_path)
    with hub_server() as mirror:
        mirror.add(hub.repositories[NAME])
        pull(mirror, tmp_path)
        assert is_whole(tmp_path)
        assert ranges(mirror) == ["bytes=8000-"]
        assert source_of(tmp_path)["endpoint"] == mirror.url


@pytest.mark.parametrize("answer", ["from the start", "less"])
def test_a_server_that_cannot_go_on_begins_anew(
    hub: HubServer, tmp_path: Path, waits: list[float], answer: str
) -> None:
    where = "/cdn/" + NAME + "/resolve/model"
    hub.faults.append(Fault(where, cut_after_bytes=70_000))
    hub.faults.append(Fault(where, ignore_range=True) if answer == "from the start" else Fault(where, status=416))
    pull(hub, tmp_path)
    assert is_whole(tmp_path)
    assert ranges(hub) == [None, "bytes=70000-"] + ([None] if answer == "less" else [])


def test_other_bytes_than_stated_are_refused(hub: HubServer, tmp_path: Path) -> None:
    for where in ("/config.json", "/cdn/" + NAME + "/resolve/model"):  # by git's id, by SHA-256
        hub.faults.append(Fault(where, flip=True))
        with pytest.raises(HubError, match=r"came with other bytes than .* thrown away"):
            pull(hub, tmp_path)
        assert looks_untouched(tmp_path)
    pull(hub, tmp_path)
    assert is_whole(tmp_path)


def test_a_part_that_was_damaged_on_the_disk_is_refused(hub: HubServer, tmp_path: Path, waits: list[float]) -> None:
    where = "/cdn/" + NAME + "/resolve/model"
    hub.faults += [Fault(where, cut_after_bytes=5000), Fault(where, cut_after_bytes=0, times=5)]
    with pytest.raises(HubError):
        pull(hub, tmp_path)
    (part,) = (tmp_path / PULL_FOLDER).glob("model.safetensors.*")
    part.write_bytes(b"?" * 5000)
    with pytest.raises(HubError, match="came with other bytes"):
        pull(hub, tmp_path)
    pull(hub, tmp_path)
    assert is_whole(tmp_path)


def test_more_bytes_than_stated_are_refused(hub: HubServer, tmp_path: Path) -> None:
    hub.faults.append(Fault("/cdn/" + NAME + "/resolve/model", body=WEIGHTS + b"?"))
    with pytest.raises(HubError, match=r"model\.safetensors: the server sends more than the 300000 bytes"):
        pull(hub, tmp_path)
    assert looks_untouched(tmp_path)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("where", ["/api/models", "/cdn/", "/resolve/"])
def test_errors_that_pass_are_waited_for(
    hub: HubServer, tmp_path: Path, waits: list[float], status: int, where: str
) -> None:
    hub.faults.append(Fault(where, times=3, status=status))
    pull(hub, tmp_path)
    assert is_whole(tmp_path)
    assert waits == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    "headers", [{"Retry-After": "7"}, {"RateLimit": '"resolvers";r=0;t=7', "RateLimit-Policy": '"w";q=9;w=300'}]
)
def test_a_limit_is_kept_to(hub: HubServer, tmp_path: Path, waits: list[float], headers: dict[str, str]) -> None:
    hub.faults.append(Fault("/cdn/", status=429, headers=headers))
    pull(hub, tmp_path)
    assert waits == [7.0]


def test_a_limit_that_is_long_is_said(hub: HubServer, tmp_path: Path, waits: list[float]) -> None:
    hub.faults.append(Fault("/api/models", status=429, headers={"Retry-After": "3600"}))
    with pytest.raises(HubError, match=r"limits how much is asked of it: run the same command again in 3600 s"):
        pull(hub, tmp_path)
    assert waits == []


def test_a_server_that_stalls_is_asked_again(
    hub: HubServer, tmp_path: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_transfer, "TIMEOUT_S", 0.25)
    hub.faults.append(Fault("/cdn/" + NAME + "/resolve/model", slow_s=0.6))
    pull(hub, tmp_path)
    assert is_whole(tmp_path)
    assert ranges(hub) == [None, "bytes=1024-"]


REFUSED = [
    (Fault("/api/", status=404), "facebook/musicgen-tiny is not at http"),
    (Fault("/api/", status=404, headers={"X-Error-Code": "RepoNotFound"}), "check the name; for a private one"),
    (Fault("/api/", status=401), "for a private one, log in with `hf auth login` or set HF_TOKEN"),
    (Fault("/cdn/", status=403), "access to facebook/musicgen-tiny refused"),
    (
        Fault("/resolve/", status=403, headers={"X-Error-Code": "GatedRepo"}),
        "is gated: accept its conditions at http",
    ),
    (Fault("/resolve/", status=404, headers={"X-Error-Code": "EntryNotFound"}), "lists a file of .* does not have"),
    (Fault("/api/", status=418), "answers with error 418"),
    (Fault("/api/", body=b"<html>Log in to this network</html>"), "does not answer as a hub does"),
    (Fault("/api/", body=b"[]"), "does not answer as a hub does"),
    (Fault("/api/", body=json.dumps({"id": NAME}).encode()), "does not say which commit 'main' of .* is"),
    (Fault("/api/", body=json.dumps({"id": NAME, "sha": "0" * 40}).encode()), "no weights among its 0 files"),
]


@pytest.mark.parametrize(("fault", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_what_does_not_pass_is_said_at_once(
    hub: HubServer, tmp_path: Path, waits: list[float], fault: Fault, said: str
) -> None:
    hub.faults.append(Fault(**vars(fault)))
    with pytest.raises(HubError, match=said) as error:
        pull(hub, tmp_path)
    assert "\n" not in str(error.value)
    assert waits == []
    assert looks_untouched(tmp_path)


def test_a_hub_that_states_no_hashes_is_not_trusted(hub: HubServer, tmp_path: Path) -> None:
    bare = {"id": NAME, "sha": "0" * 40, "siblings": [{"rfilename": "model.safetensors"}]}
    hub.faults.append(Fault("/api/", body=json.dumps(bare).encode()))
    with pytest.raises(HubError, match=r"does not state size and hash of model\.safetensors"):
        pull(hub, tmp_path)


def test_gated_and_missing_repositories(hub: HubServer, tmp_path: Path) -> None:
    repository = hub.repositories[NAME]
    repository.gated, repository.token = True, "hf_yes"
    with pytest.raises(HubError, match=f"is gated: accept its conditions at {hub.url}/{NAME}"):
        pull(hub, tmp_path)
    pull(hub, tmp_path, token="hf_yes")
    assert is_whole(tmp_path)
    with pytest.raises(HubError, match="facebook/nothing is not at"):
        fetch("facebook/nothing", tmp_path / "n", endpoint=hub.url, show=False)
    with pytest.raises(HubError, match="has no revision 'v9'"):
        pull(hub, tmp_path, revision="v9")


def test_nobody_is_there(tmp_path: Path, waits: list[float]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(HubError, match=f"cannot reach {url}.*--offline.*--endpoint"):
            fetch(NAME, tmp_path, endpoint=url, show=False)
    assert len(waits) == 5


def test_too_little_room_is_said_before_anything_comes(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = hub_folder.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(hub_folder.shutil, "disk_usage", lambda _: usage._replace(free=67_200_000))
    with pytest.raises(HubError, match=r"has 67 MB free, needed: 67 MB; make room"):
        pull(hub, tmp_path)
    assert hub.requests("GET", "/resolve/") == []
    assert looks_untouched(tmp_path)
    monkeypatch.setattr(hub_folder.shutil, "disk_usage", lambda _: usage._replace(free=67_500_000))
    pull(hub, tmp_path)
    assert is_whole(tmp_path)


def test_a_disk_that_fills_up_meanwhile(hub: HubServer, tmp_path: Path, waits: list[float]) -> None:
    part = (
        tmp_path
        / PULL_FOLDER
        / f"model.safetensors.{hub.repositories[NAME].entry('model.safetensors')['lfs']['sha256'][:16]}"
    )
    part.parent.mkdir()
    part.symlink_to("/dev/full")
    with pytest.raises(
        HubError, match=r"the disk of .* is full; make room and run the same command again: it goes on"
    ):
        pull(hub, tmp_path)
    assert looks_untouched(tmp_path)
    part.unlink()
    pull(hub, tmp_path)
    assert is_whole(tmp_path)


def test_a_folder_that_cannot_be(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HubError, match=r"file.* cannot be written: Not a directory"):
        pull(hub, tmp_path / "file" / "below")


@pytest.mark.parametrize("moves", range(len(WANTED) + 1))
def test_stopped_while_the_files_move_to_their_places(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    replace, left = os.replace, [moves]

    def replace_some(source: Path, target: Path) -> None:
        if PULL_FOLDER not in str(target):
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
        replace(source, target)

    monkeypatch.setattr(hub_folder.os, "replace", replace_some)
    with pytest.raises(KeyboardInterrupt):
        pull(hub, tmp_path)
    assert len(content(tmp_path)) == moves
    assert not (tmp_path / RECORD_FILE).exists()
    with pytest.raises(HubError, match="was not finished"):
        pull(hub, tmp_path, offline=True)
    monkeypatch.setattr(hub_folder.os, "replace", replace)
    hub.asked.clear()
    pull(hub, tmp_path)
    assert is_whole(tmp_path)
    assert hub.requests("GET", "/resolve/") == []  # all had come before


def test_ctrl_c_leaves_what_came_and_the_same_command_goes_on(hub: HubServer, tmp_path: Path) -> None:
    hub.faults.append(Fault("/cdn/" + NAME + "/resolve/model", slow_s=0.02))
    code = (
        "import signal\nfrom pathlib import Path\nfrom attacca.bridge.hub import fetch\n"
        # Tests may run in a shell's background, where SIGINT is ignored and Python leaves it so.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"fetch({NAME!r}, Path('here'), endpoint={hub.url!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60.0
    while not any(path.stat().st_size >= 5000 for path in (tmp_path / "here").glob(".attacca-pull/model.*")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60.0)
    assert process.returncode != 0
    assert "stopped; what has come is in here/.attacca-pull: the same command goes on" in told
    assert looks_untouched(tmp_path / "here")
    hub.faults.clear()
    hub.asked.clear()
    pull(hub, tmp_path / "here")
    assert is_whole(tmp_path / "here")
    (asked,) = ranges(hub)
    assert asked is not None
    assert int(asked.removeprefix("bytes=").removesuffix("-")) >= 5000
