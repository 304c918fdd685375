"""Pulling a model repository: what is taken, where it lies, what is said; the server speaks as the hub does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import FILES, NAME, WANTED, WEIGHTS, HubServer, Repository, content, hub

from attacca.bridge import hub as hub_module
from attacca.bridge.hub import default_folder, fetch, is_repo
from attacca.bridge.hub_files import RECORD_FILE, HubError, choose, read_record, source_of
from attacca.bridge.hub_folder import PULL_FOLDER

constants = pytest.importorskip("huggingface_hub.constants", reason="needs the [hub] extra")
__all__ = ["hub"]  # a fixture


def test_the_server_is_a_hub_to_the_library_itself(hub: HubServer, tmp_path: Path) -> None:
    from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url

    metadata = get_hf_file_metadata(hf_hub_url(NAME, "model.safetensors", endpoint=hub.url))
    commit = hub.repositories[NAME].commit
    assert (metadata.commit_hash, metadata.size) == (commit, len(WEIGHTS))
    tree = HfApi(endpoint=hub.url, token=False).list_repo_tree(NAME, revision=commit)
    assert {entry.path: entry.size for entry in tree} == {name: len(data) for name, data in FILES.items()}
    place = HfApi(endpoint=hub.url, token=False).snapshot_download(NAME, local_dir=tmp_path, max_workers=1)
    assert (Path(place) / "model.safetensors").read_bytes() == WEIGHTS


def test_it_takes_what_is_needed_and_records_whence(hub: HubServer, tmp_path: Path) -> None:
    folder = fetch(NAME, tmp_path / "here", endpoint=hub.url, show=False)
    assert folder == tmp_path / "here"
    found = content(folder)
    record = read_record(folder / RECORD_FILE)
    assert record is not None
    del found[RECORD_FILE]
    assert found == {name: FILES[name] for name in WANTED}
    assert set(record.files) == WANTED
    assert record.commit == hub.repositories[NAME].commit
    assert source_of(folder) == {
        "licence": "cc-by-nc-4.0",
        "repo": NAME,
        "commit": record.commit,
        "endpoint": hub.url,
    }
    assert not (folder / PULL_FOLDER).exists()
    assert all("pytorch_model" not in path and "samples" not in path for _, path, _ in hub.asked)


def test_what_is_there_is_not_brought_again(hub: HubServer, tmp_path: Path) -> None:
    fetch(NAME, tmp_path, endpoint=hub.url, show=False)
    before = content(tmp_path)
    hub.asked.clear()
    fetch(NAME, tmp_path, endpoint=hub.url, show=False)
    assert content(tmp_path) == before
    assert [path for _, path, _ in hub.asked] == [f"/api/models/{NAME}/revision/main"]
    (tmp_path / "model.safetensors").write_bytes(WEIGHTS[:-1] + b"?")  # damaged since: brought again, it alone
    fetch(NAME, tmp_path, endpoint=hub.url, show=False)
    assert content(tmp_path) == before
    assert len(hub.requests("GET", "/cdn/")) == 1


def test_a_new_commit_replaces_the_files_and_drops_those_that_went(hub: HubServer, tmp_path: Path) -> None:
    old = hub.repositories[NAME].commit
    fetch(NAME, tmp_path, endpoint=hub.url, show=False)
    parts = {f"model-0000{n}-of-00002.safetensors": bytes([n]) * 5000 for n in (1, 2)}
    new = {name: data for name, data in FILES.items() if name != "model.safetensors"} | parts
    hub.add(Repository(NAME, new | {"model.safetensors.index.json": b"{}"}))
    with pytest.raises(HubError, match=f"{NAME} has no revision '{old}'"):
        fetch(NAME, tmp_path, endpoint=hub.url, revision=old, show=False)
    assert (tmp_path / "model.safetensors").read_bytes() == WEIGHTS
    fetch(NAME, tmp_path, endpoint=hub.url, show=False)
    wanted = (WANTED - {"model.safetensors"}) | set(parts) | {"model.safetensors.index.json", RECORD_FILE}
    assert set(content(tmp_path)) == wanted


def test_it_is_said_what_may_be_done_with_it(
    hub: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch(NAME, tmp_path / "a", endpoint=hub.url)
    out, err = capsys.readouterr()
    assert out == ""
    assert f"licence cc-by-nc-4.0: these weights are for non-commercial use only ({hub.url}/{NAME})" in err
    assert "model.safetensors" in err
    hub.repositories[NAME].licence = "mit"
    fetch(NAME, tmp_path / "b", endpoint=hub.url)
    assert "licence" not in capsys.readouterr().err
    hub.repositories[NAME].licence = None
    fetch(NAME, tmp_path / "c", endpoint=hub.url)
    assert "no licence is stated" in capsys.readouterr().err


def test_without_a_folder_it_goes_into_the_users_cache(hub: HubServer, tmp_path: Path) -> None:
    folder = fetch(NAME, endpoint=hub.url, show=False)
    assert folder == default_folder(NAME) == tmp_path / "cache" / "attacca" / "hub" / "facebook--musicgen-tiny"
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize("how", ["flag", "environment"])
def test_offline_takes_what_is_there_and_asks_nobody(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    with pytest.raises(HubError, match="nothing was pulled in"):
        fetch(NAME, tmp_path, offline=True, show=False)
    fetch(NAME, tmp_path, endpoint=hub.url, show=False)
    hub.asked.clear()
    if how == "environment":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    flag = how == "flag"
    for revision in (None, "main", hub.repositories[NAME].commit):
        assert fetch(NAME, tmp_path, endpoint=hub.url, offline=flag, revision=revision, show=False) == tmp_path
    with pytest.raises(HubError, match=r"has revision main \([0-9a-f]{12}\) of facebook/musicgen-tiny, not v2"):
        fetch(NAME, tmp_path, offline=flag, revision="v2", show=False)
    with pytest.raises(HubError, match="there is facebook/musicgen-tiny in"):
        fetch("facebook/other", tmp_path, offline=flag, show=False)
    (tmp_path / "config.json").unlink()
    with pytest.raises(HubError, match=r"damaged: config\.json cannot be read"):
        fetch(NAME, tmp_path, offline=flag, show=False)
    assert hub.asked == []


def test_a_mirror_by_environment_and_where_the_login_goes(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories[NAME].token = "hf_secret"
    with pytest.raises(HubError, match=f"{NAME} is not at {hub.url}, or is private"):
        fetch(NAME, tmp_path, endpoint=hub.url, show=False)
    fetch(NAME, tmp_path, endpoint=hub.url, token="hf_secret", show=False)
    assert [h.get("authorization") for h in hub.requests("GET", "/api/")] == [None, "Bearer hf_secret"]
    assert all("authorization" not in headers for headers in hub.requests("GET", "/cdn/"))
    assert len(hub.requests("GET", "/cdn/")) == 2  # the weights and the long tokenizer
    monkeypatch.setenv("HF_ENDPOINT", hub.url + "/")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert fetch(NAME, tmp_path / "again", show=False)


def test_a_login_that_is_stored_never_goes_to_a_mirror_on_the_command_line(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = tmp_path / "token"
    stored.write_text("hf_mine")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(stored))
    fetch(NAME, tmp_path / "here", endpoint=hub.url, show=False)
    assert not [headers for _, _, headers in hub.asked if "authorization" in headers]


@pytest.mark.parametrize("same_disk", [True, False])
def test_what_other_programs_have_pulled_is_taken_from_their_cache(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_disk: bool
) -> None:
    from huggingface_hub import hf_hub_download

    def no_link(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    if not same_disk:
        monkeypatch.setattr(hub_module.os, "link", no_link)
    theirs = Path(hf_hub_download(NAME, "model.safetensors", endpoint=hub.url, token=False))
    hub.asked.clear()
    fetch(NAME, tmp_path / "a", endpoint=hub.url, show=False)
    assert hub.requests("GET", "model.safetensors") == []
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == WEIGHTS
    damaged = theirs.resolve()
    damaged.unlink()
    damaged.write_bytes(WEIGHTS[:-1])
    fetch(NAME, tmp_path / "b", endpoint=hub.url, show=False)
    assert (tmp_path / "b" / "model.safetensors").read_bytes() == WEIGHTS
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == WEIGHTS


def test_files_of_others_are_not_overwritten(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("mine")
    with pytest.raises(HubError, match=r"config\.json is there and is none of facebook/musicgen-tiny"):
        fetch(NAME, tmp_path, endpoint=hub.url, show=False)
    assert (tmp_path / "config.json").read_text() == "mine"
    assert hub.requests("GET", "/cdn/") == []


def test_two_pulls_into_one_folder(hub: HubServer, tmp_path: Path) -> None:
    from filelock import FileLock

    fetch(NAME, tmp_path, endpoint=hub.url, show=False)
    with (
        FileLock(tmp_path / (PULL_FOLDER + ".lock")),
        pytest.raises(HubError, match="another pull is writing into"),
    ):
        fetch(NAME, tmp_path, endpoint=hub.url, show=False)


def test_without_the_library_it_says_how_to_get_it(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nsys.modules['huggingface_hub'] = None\n"
        "import importlib.util as u\nfound = u.find_spec\n"
        "u.find_spec = lambda n, *a: None if n == 'huggingface_hub' else found(n, *a)\n"
        "from attacca.bridge.hub import fetch\nfrom attacca.bridge.hub_files import HubError\n"
        "try: fetch('a/b', Path('x'))\nexcept HubError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "huggingface_hub: not installed; install with: pip install 'attacca[hub]'\n"
    assert not (tmp_path / "x").exists()


def test_which_names_are_repositories() -> None:
    assert all(map(is_repo, ("facebook/musicgen-small", "a/b", "o-1/n.v2_x")))
    wrong = ("musicgen", "a/b/c", "../b", "a/..", "/b", "a/", "a b/c", "http://x/y", "./x", "a/b--c", "-a/b")
    assert not any(map(is_repo, wrong))
    with pytest.raises(HubError, match="allowed: OWNER/NAME"):
        fetch("musicgen", show=False)
    with pytest.raises(HubError, match="endpoint is 'ftp://x', allowed: a URL"):
        fetch("a/b", endpoint="ftp://x", show=False)
    assert hub_module.PUBLIC_ENDPOINT.startswith("https://")


def test_which_files_are_chosen() -> None:
    audiocraft = {"state_dict.bin", "compression_state_dict.bin"}
    torch = {f"pytorch_model-0000{n}-of-00002.bin" for n in (1, 2)} | {"pytorch_model.bin.index.json"}
    safe = {f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)} | {"model.safetensors.index.json"}
    text = {"config.json", "spiece.model", "LICENSE"}
    other = {"flax_model.msgpack", "a/model.safetensors", "..\\config.json", "x.wav"}
    assert set(choose(text | other | audiocraft)) == text | audiocraft
    assert set(choose(text | other | audiocraft | torch)) == text | torch
    assert set(choose(text | other | audiocraft | torch | safe)) == text | safe
    assert set(choose(text | safe | {"model.safetensors"})) == text | {"model.safetensors"}
    with pytest.raises(HubError, match=r"not complete: model-00002-of-00003\.safetensors missing"):
        choose(safe - {"model-00002-of-00003.safetensors"})
    with pytest.raises(HubError, match=r"not complete: compression_state_dict\.bin missing"):
        choose({"state_dict.bin"})
    with pytest.raises(HubError, match="no weights among its 3 files"):
        choose(text)
    with pytest.raises(HubError, match="sets of 2 and 3 parts"):
        choose(safe | {"model-00001-of-00002.safetensors"})


def test_a_record_that_leads_outside_is_refused(tmp_path: Path) -> None:
    path = tmp_path / RECORD_FILE
    path.write_text("{}")
    with pytest.raises(HubError, match="is not understood"):
        read_record(path)
    fields = '"repo": "a/b", "endpoint": "", "revision": "", "commit": "", "licence": ""'
    path.write_text("{" + fields + ', "files": {"../x": {"bytes": 1, "sha256": "0"}}}')
    with pytest.raises(HubError, match="names files outside its folder"):
        read_record(path)
