"""A lease: parts in order and beside each other, ended in time, resumed; results in parts that join to the byte."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from attacca.bridge.unpack import opened
from attacca.training import gpu_run
from attacca.training.gpu_lease import Lease, LeaseError, starter
from attacca.training.gpu_parts import PartsError, deliver, join, split, zip_folder
from attacca.training.gpu_plan import TINY, Budget, Part, plan, table
from attacca.training.gpu_stop import Deadline


@dataclass
class Machine:
    """A clock, and processes that take as long as they are said to, over all calls."""

    takes_s: dict[str, float]
    codes: dict[str, int] = field(default_factory=dict)
    now: float = 100.0
    done_s: dict[str, float] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    results: dict[str, Path] = field(default_factory=dict)
    stop_after: dict[str, float] = field(default_factory=dict)

    def start(self, command: Sequence[str], log: Path, output: Path | None) -> FakeJob:
        name = command[0]
        log.write_text(f"words of {name}")
        if "--stop-after-s" in command:
            self.stop_after[name] = float(command[-1])
        self.events.append(f"start {name}")
        return FakeJob(self, name, self.now, output)


@dataclass
class FakeJob:
    machine: Machine
    name: str
    began: float
    output: Path | None

    def wait(self, timeout_s: float) -> int | None:
        made = self.machine
        needed = made.takes_s[self.name] - made.done_s.get(self.name, 0.0)
        stops_s = made.stop_after.pop(self.name, None)
        if stops_s is not None and stops_s < needed:
            made.now = max(made.now, self.began + stops_s)
            made.done_s[self.name] = made.done_s.get(self.name, 0.0) + stops_s
            return 75
        if self.began + needed > made.now + timeout_s:
            made.now += max(0.0, timeout_s)
            return None
        made.now = max(made.now, self.began + needed)
        code = made.codes.get(self.name, 0)
        if code == 0:
            target = self.output or made.results[self.name]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(self.name)
        made.events.append(f"end {self.name}")
        return code

    def stop(self) -> None:
        self.machine.events.append(f"stop {self.name}")


def part(root: Path, name: str, ends: str = "files", **options: object) -> Part:
    return Part(name=name, command=(name,), result=root / name, minutes=1.0, ends=ends, **options)  # type: ignore[arg-type]


def lease(root: Path, parts: Sequence[Part], machine: Machine, limit_s: float = 580.0) -> Lease:
    machine.results = {p.name: p.result for p in parts}
    said: list[str] = []
    return Lease(root, parts, limit_s=limit_s, start=machine.start, clock=lambda: machine.now, say=said.append)


def test_parts_run_in_order_and_once(tmp_path: Path) -> None:
    parts = [part(tmp_path, name) for name in "abc"]
    machine = Machine(dict.fromkeys("abc", 10.0))
    assert lease(tmp_path, parts, machine).run()
    assert machine.events == ["start a", "end a", "start b", "end b", "start c", "end c"]
    assert machine.now == 130.0
    again = lease(tmp_path, parts, machine)
    assert again.run() and len(machine.events) == 6
    assert (again.unfinished(), again.left_minutes()) == ([], 0.0)
    (tmp_path / "b").unlink()
    assert lease(tmp_path, parts, machine).run()
    assert machine.events[6:] == ["start b", "end b"]


def test_a_part_beside_runs_until_it_is_awaited(tmp_path: Path) -> None:
    parts = [
        part(tmp_path, "songs", beside=True),
        part(tmp_path, "codec"),
        part(tmp_path, "tokens", awaits=("songs",)),
    ]
    machine = Machine({"songs": 50.0, "codec": 30.0, "tokens": 5.0})
    assert lease(tmp_path, parts, machine).run()
    assert machine.events == ["start songs", "start codec", "end codec", "end songs", "start tokens", "end tokens"]
    assert machine.now == 155.0


def test_training_stops_itself_in_time_and_goes_on_in_the_next_calls(tmp_path: Path) -> None:
    parts = [part(tmp_path, "train", "stops"), part(tmp_path, "after")]
    machine = Machine({"train": 250.0, "after": 1.0})
    for _ in range(3):
        began = machine.now
        finished = lease(tmp_path, parts, machine, limit_s=120.0).run()
        assert machine.now <= began + 120.0
    assert finished
    assert machine.events == ["start train"] * 3 + ["end train", "start after", "end after"]
    state = json.loads((tmp_path / "gpu_run.json").read_text())
    assert (state["train"]["seconds"], state["train"]["failures"]) == (250.0, 0)


def test_the_limit_kills_what_can_be_killed_and_begins_nothing_too_late(tmp_path: Path) -> None:
    parts = [part(tmp_path, "songs"), part(tmp_path, "export", "whole", least_s=60.0)]
    machine = Machine({"songs": 70.0, "export": 50.0})
    assert not lease(tmp_path, parts, machine, limit_s=40.0).run()
    assert machine.events == ["start songs", "stop songs"] and machine.now == 140.0
    left = lease(tmp_path, parts, machine, limit_s=100.0)
    assert left.left_minutes() == pytest.approx(20 / 60 + 1.0)
    assert not left.run()  # songs again, from its beginning in this fake, then too little for the export
    assert machine.events[2:] == ["start songs", "end songs"]
    assert lease(tmp_path, parts, machine, limit_s=100.0).run()


def test_what_runs_beside_is_ended_with_the_call(tmp_path: Path) -> None:
    parts = [part(tmp_path, "songs", beside=True), part(tmp_path, "codec", "stops")]
    machine = Machine({"songs": 1000.0, "codec": 500.0})
    assert not lease(tmp_path, parts, machine, limit_s=100.0).run()
    assert machine.events == ["start songs", "start codec", "stop songs"]


def test_a_part_that_fails_says_its_last_words(tmp_path: Path) -> None:
    parts = [part(tmp_path, "codec", "stops"), part(tmp_path, "after")]
    machine = Machine({"codec": 5.0}, codes={"codec": 1})
    with pytest.raises(LeaseError, match="codec ended with 1; its last words:\nwords of codec"):
        lease(tmp_path, parts, machine).run()


def test_a_measurement_is_given_up_after_two_failures(tmp_path: Path) -> None:
    parts = [part(tmp_path, "score", "whole", optional=True), part(tmp_path, "after")]
    machine = Machine({"score": 5.0, "after": 1.0}, codes={"score": 1})
    assert not lease(tmp_path, parts, machine).run()
    assert (tmp_path / "after").exists() and not (tmp_path / "score").exists()
    assert len(lease(tmp_path, parts, machine).unfinished()) == 1
    assert lease(tmp_path, parts, machine).run()
    assert lease(tmp_path, parts, machine).unfinished() == []
    assert machine.events.count("start score") == 2


def test_a_measurement_without_time_keeps_nothing_else_from_beginning(tmp_path: Path) -> None:
    parts = [part(tmp_path, "score", "whole", optional=True, beside=True, least_s=50.0), part(tmp_path, "train")]
    machine = Machine({"score": 45.0, "train": 30.0})
    assert not lease(tmp_path, parts, machine, limit_s=40.0).run()
    assert machine.events == ["start train", "end train"]
    assert lease(tmp_path, parts, machine, limit_s=60.0).run()


def test_another_run_in_the_folder_is_refused(tmp_path: Path) -> None:
    machine = Machine({"a": 1.0})
    lease(tmp_path, [part(tmp_path, "a")], machine)
    other = Part(name="a", command=("b",), result=tmp_path / "a", minutes=1.0, ends="files")
    with pytest.raises(LeaseError, match="choose another --root"):
        lease(tmp_path, [other], machine)


def test_output_that_is_the_result_is_there_whole_or_not(tmp_path: Path) -> None:
    parts = [part(tmp_path, "speed", "whole", to_file=True)]
    machine = Machine({"speed": 5.0})
    assert not lease(tmp_path, parts, machine, limit_s=3.0).run()
    assert not (tmp_path / "speed").exists()
    assert lease(tmp_path, parts, machine).run()
    assert (tmp_path / "speed").read_text() == "speed"


def test_real_processes_are_waited_for_and_ended_with_their_children(tmp_path: Path) -> None:
    start = starter({"PATH": "/usr/bin:/bin"})
    log, output = tmp_path / "log", tmp_path / "out"
    assert start(["-c", "print('made')"], log, output).wait(20.0) == 0
    assert output.read_text() == "made\n"
    assert start(["-c", "import sys; print('why', file=sys.stderr); sys.exit(3)"], log, None).wait(20.0) == 3
    assert log.read_text() == "why\n"
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    job = start(["-c", child], log, None)
    assert job.wait(0.1) is None
    job.stop()
    assert job.wait(5.0) is not None


def test_a_deadline_passes_once_its_seconds_are_over() -> None:
    ticks = iter([10.0, 14.9, 15.0])
    deadline = Deadline(5.0, clock=lambda: next(ticks))
    assert [deadline.passed, deadline.passed] == [False, True]
    assert not Deadline(None).passed
    with pytest.raises(ValueError, match="stop_after_s is 0"):
        Deadline(0.0)


@pytest.mark.parametrize("size", [3 * 1000, 3 * 1000 + 1, 1, 0])
def test_parts_join_to_the_byte(tmp_path: Path, size: int) -> None:
    content = hashlib.shake_256(b"x").digest(size)
    (tmp_path / "a.zip").write_bytes(content)
    split(tmp_path / "a.zip", tmp_path / "parts", part_bytes=1000)
    pieces = sorted(p for p in (tmp_path / "parts").iterdir() if p.suffix != ".json")
    assert [len(p.read_bytes()) for p in pieces] == [1000] * (size // 1000) + [size % 1000] * bool(size % 1000)
    one, two = tmp_path / "one", tmp_path / "two" / "deeper"  # they arrive in several folders
    for index, path in enumerate(sorted((tmp_path / "parts").iterdir())):
        folder = (one, two)[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / path.name)
    folders = [folder for folder in (one, two.parent) if folder.exists()]
    assert join(folders, tmp_path / "whole") == [tmp_path / "whole" / "a.zip"]
    assert (tmp_path / "whole" / "a.zip").read_bytes() == content
    assert [p.name for p in (tmp_path / "whole").iterdir()] == ["a.zip"]


def test_missing_and_damaged_parts_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(bytes(2500))
    split(tmp_path / "a.zip", tmp_path / "parts", part_bytes=1000)
    (tmp_path / "parts" / "a.zip.001").write_bytes(bytes(999) + b"x")
    with pytest.raises(PartsError, match=r"a\.zip\.001 is damaged"):
        join([tmp_path / "parts"], tmp_path / "whole")
    (tmp_path / "parts" / "a.zip.001").unlink()
    with pytest.raises(PartsError, match=r"missing a\.zip\.001"):
        join([tmp_path / "parts"], tmp_path / "whole")
    assert list((tmp_path / "whole").iterdir()) == []
    with pytest.raises(PartsError, match=r"no \*\.parts\.json"):
        join([tmp_path / "whole"], tmp_path)


def test_a_way_back_that_takes_few_files_takes_all_in_time(tmp_path: Path) -> None:
    files = []
    for index in range(5):
        files.append(tmp_path / f"f{index}")
        files[-1].write_bytes(bytes(40))
    delivered: list[str] = []
    sizes = []
    for turn in range(5):
        copied = deliver(files, set(delivered), tmp_path / f"out{turn}", files=3, total_bytes=100)
        delivered += copied
        sizes.append(len(copied))
    assert sizes == [2, 2, 1, 0, 0] and delivered == [path.name for path in files]


def test_a_zipped_folder_is_the_same_each_time_and_a_bundle_can_be_pulled_from_it(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    (folder / "deep").mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (folder / "deep" / "a").write_bytes(bytes(10))
    first = zip_folder(folder, tmp_path / "a.zip").read_bytes()
    (folder / "manifest.json").touch()
    assert zip_folder(folder, tmp_path / "a.zip").read_bytes() == first
    with opened(tmp_path / "a.zip") as source, source.open("deep/a") as file:
        assert file.read() == bytes(10)


def test_the_budget_fits_the_lease_and_grows_with_it() -> None:
    parts = plan(Path("RUN"), Budget.of(28.0), cores=16)
    assert 25.0 < sum(p.minutes for p in parts) <= 28.5
    assert table(parts).count("\n") == len(parts) + 2
    names = [p.name for p in parts]
    for p in parts:
        assert all(names.index(name) < names.index(p.name) for name in p.awaits)
    flags = dict(zip(parts[6].command, parts[6].command[1:], strict=False))
    assert parts[6].name == "ostinato" and float(flags["--minutes"]) < parts[6].minutes
    assert Budget.of(56.0).songs == 2 * Budget.of(28.0).songs
    with pytest.raises(ValueError, match="minutes_total is 1"):
        Budget.of(1.0)


@pytest.mark.parametrize("given", [[], ["--root", "r", "--out-files", "1"], ["--root", "r", "--out-mib", "8"]])
def test_a_way_back_too_narrow_for_a_part_is_refused(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        gpu_run.main(given)
    assert end.value.code == 2
    assert "--root is needed" in (said := capsys.readouterr().err) or "allowed: 2 and 16 and up" in said


def test_what_is_missing_is_said() -> None:
    good = {"torch": "2", "gpu": "G", "fluidsynth": "f", "soundfont": "s", "disk_gb": 60.0}
    assert gpu_run.lacks(good) == []
    for name, words in (("torch", "wheel"), ("gpu", "no GPU"), ("fluidsynth", ".deb"), ("soundfont", "sf2")):
        assert words in "; ".join(gpu_run.lacks({**good, name: None}))
    assert "disk: 3.0 GB" in gpu_run.lacks({**good, "disk_gb": 3.0})[0]
    assert gpu_run.lacks({**good, "gpu": None, "disk_gb": 3.0}, gpu=False) == []


@pytest.mark.train
def test_every_command_of_the_plan_is_understood(tmp_path: Path) -> None:
    """By the modules' own command lines."""
    typer = pytest.importorskip("typer")
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    import importlib

    for budget in (TINY, Budget.of(28.0)):
        for p in plan(tmp_path, budget, cores=16):
            _, module, *given = p.command
            if module == "attacca.bridge.cli":
                continue
            app = typer.Typer(add_completion=False)
            app.command()(importlib.import_module(module).main)
            stop = ["--stop-after-s", "9"] if p.ends == "stops" else []
            assert typer.main.get_command(app).make_context(module, [*given, *stop]).params


@pytest.mark.slow
@pytest.mark.train
@pytest.mark.timeout(3000)
def test_a_tiny_run_in_short_calls_ends_with_bundles_that_can_be_pulled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    from attacca.bridge.pull import pull
    from attacca.engine.bundle import verify_bundle

    root, outs = tmp_path / "run", []
    for turn in range(9):
        outs.append(tmp_path / f"out{turn}")
        limits = ["--limit-s", "120" if turn < 5 else "900", "--out", str(outs[-1]), "--out-files", "3"]
        code = gpu_run.main(["--root", str(root), "--tiny", *limits])
        assert code in (0, 75), capsys.readouterr().err
        if code == 0:
            break
    assert code == 0
    report = json.loads((outs[-1] / "results.json").read_text())
    assert all(row["finished"] for row in report["parts"].values())
    assert report["ostinato"]["quality"]["held_out"] and report["ostinato-l"]["training"][-1]["updates"] == 4
    assert gpu_run.main(["--root", str(tmp_path / "whole"), "--join", *map(str, outs)]) == 0
    for name in ("ostinato", "ostinato-l"):
        target = pull(str(tmp_path / "whole" / f"{name}.zip"), tmp_path / "models" / name, show=False)
        assert verify_bundle(target) == []
