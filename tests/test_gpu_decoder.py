"""Decoder training as on GPUs, on a CPU: shares and micro-batches add up, time ends it, memory is counted right."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

torch = pytest.importorskip("torch")

from attacca.engine.conditioning import DEFAULT_LAYOUT  # noqa: E402
from attacca.training.decoder_data import TokenSongs  # noqa: E402
from attacca.training.decoder_model import Decoder, LayoutTensors, sized  # noqa: E402
from attacca.training.decoder_train import CHECKPOINT, TrainConfig, Trainer, codebook_losses, train  # noqa: E402
from attacca.training.gpu_decoder import SharedTrainer, main, scaled_rate  # noqa: E402
from attacca.training.gpu_memory import saved_bytes, training_bytes  # noqa: E402
from attacca.training.gpu_stop import EXIT_UNFINISHED, Deadline, Stopped  # noqa: E402
from attacca.training.layout import build_layout  # noqa: E402
from attacca.training.own.distributed import World  # noqa: E402

pytestmark = pytest.mark.train
torch.set_num_threads(1)
FRAMES, BOOKS, SIZE = 120, 2, 11
RECIPE = TrainConfig(updates=4, batch=4, crop_frames=24, prefixes=(0, 8), evaluation_crops=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two songs whose codes follow each other."""
    root = tmp_path_factory.mktemp("data")
    for split in ("train", "heldout"):
        (root / "tokens" / split).mkdir(parents=True)
        (root / split).mkdir()
        for index in range(2):
            t = np.arange(FRAMES)
            codes = np.stack([(t + index) // 3 % SIZE, (t + index) // 3 * 2 % SIZE], 1)
            np.save(root / "tokens" / split / f"{index:05d}.npy", codes.astype(np.uint16))
            known = {f"{name}_known": np.ones(FRAMES, bool) for name in ("beat", "chord", "instruments", "style")}
            numbers = dict.fromkeys(("ppq", "bar_start_ppq", "bpm", "meter_num", "meter_den", "style"), t * 0 + 4)
            players = {"pitch_classes": np.zeros((FRAMES, 12), bool), "instruments": np.ones((FRAMES, 4), bool)}
            np.savez(root / split / f"{index:05d}.npz", **known, **numbers, **players)
    return root


def config(size: str = "1x64") -> object:
    rest = {"num_codebooks": BOOKS, "codebook_size": SIZE, "cond_width": DEFAULT_LAYOUT.width, "window_frames": 24}
    return sized(size, pattern="stack-delay", p=1, **rest)


def trainer(run: Path, **options: object) -> SharedTrainer:
    return SharedTrainer(config(), RECIPE, run, layout=DEFAULT_LAYOUT, **options)  # type: ignore[arg-type]


def gradients(made: Trainer, codes: np.ndarray, cond: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    made.model.zero_grad()
    losses = made.gradients(made.model, codes, cond, 8, True)
    flat = [w.grad.flatten() for w in made.model.parameters() if w.grad is not None]
    return losses.numpy(), torch.cat(flat).numpy()


def test_one_share_is_the_plain_trainer_and_parts_add_up_to_it(data: Path, tmp_path: Path) -> None:
    batch = TokenSongs(data, "train").batch(np.random.default_rng(0), 4, 24)
    plain = Trainer(config(), RECIPE, layout=DEFAULT_LAYOUT, device="cpu")  # type: ignore[arg-type]
    losses, wanted = gradients(plain, *batch)
    same, whole = gradients(trainer(tmp_path), *batch)
    np.testing.assert_array_equal(same, losses)
    np.testing.assert_array_equal(whole, wanted)
    near, parts = gradients(trainer(tmp_path, micro_batch=1), *batch)
    np.testing.assert_allclose(near, losses, atol=0.01)
    assert np.linalg.norm(parts - wanted) < 0.03 * np.linalg.norm(wanted)


class Second(World):
    """The second of two processes, whose sums are its own."""

    def average(self, tensors: list[torch.Tensor]) -> None:
        self.averaged.append(len(tensors))  # type: ignore[attr-defined]

    def clock(self) -> float:
        return 0.0


def test_a_process_computes_its_own_half(data: Path, tmp_path: Path) -> None:
    codes, cond = TokenSongs(data, "train").batch(np.random.default_rng(0), 4, 24)
    plain = Trainer(config(), RECIPE, layout=DEFAULT_LAYOUT, device="cpu")  # type: ignore[arg-type]
    us = Second(rank=1, size=2)
    object.__setattr__(us, "averaged", [])
    made = trainer(tmp_path, world=us)
    for found, wanted in zip(gradients(made, codes, cond), gradients(plain, codes[2:], cond[2:]), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert us.averaged == [len(list(made.model.parameters())), 1]  # type: ignore[attr-defined]
    made.save(tmp_path / CHECKPOINT)
    assert not (tmp_path / CHECKPOINT).exists()


def test_stopped_in_time_it_goes_on_as_if_it_had_not_been(data: Path, tmp_path: Path) -> None:
    songs, heldout = TokenSongs(data, "train"), TokenSongs(data, "heldout")
    whole = trainer(tmp_path / "whole")
    train(whole, songs, heldout, tmp_path / "whole", say=lambda text: None)
    run = tmp_path / "parts"
    run.mkdir()
    first = trainer(run)
    ticks = iter([0.0, 1.0, 9.0])
    first.deadline = Deadline(5.0, clock=lambda: next(ticks))
    with pytest.raises(Stopped):
        train(first, songs, heldout, run, say=lambda text: None)
    assert first.updates == 2
    second = trainer(run)
    second.load(run / CHECKPOINT)
    train(second, songs, heldout, run, say=lambda text: None)
    assert second.updates == 4
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, second.model.state_dict()[name])
        assert torch.equal(whole.ema[name], second.ema[name])


def test_the_command_stops_with_its_code_and_resumes(data: Path, tmp_path: Path) -> None:
    options = {"codebook_size": SIZE, "size": "1x64", "p": 1, "batch": 2, "crop_frames": 28, "updates": 2}
    with pytest.raises(typer.Exit) as stop:
        main(data, tmp_path / "run", stop_after_s=1e-6, **options)  # type: ignore[arg-type]
    assert stop.value.exit_code == EXIT_UNFINISHED
    main(data, tmp_path / "run", **options)  # type: ignore[arg-type]
    values = torch.load(tmp_path / "run" / CHECKPOINT, weights_only=True)
    assert values["updates"] == 2
    assert values["recipe"]["learning_rate"] == scaled_rate(2, 64)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(data: Path, tmp_path: Path) -> None:
    options = ["--size", "1x64", "--p", "1", "--codebook-size", str(SIZE), "--batch", "4", "--crop-frames", "28"]
    options = ["-m", "attacca.training.gpu_decoder", "--data", str(data), *options, "--updates", "4", "--to"]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    bits = []
    for name, start in (("one", []), ("two", launch)):
        subprocess.run([sys.executable, *start, *options, str(tmp_path / name)], check=True, capture_output=True)
        values = torch.load(tmp_path / name / CHECKPOINT, weights_only=True)
        assert values["updates"] == 4
        bits.append(values["history"][-1]["bits"])
    np.testing.assert_allclose(bits[0], bits[1], atol=0.02)


def test_rates_follow_batch_and_width() -> None:
    assert scaled_rate(8, 256) == 2.5e-3
    assert scaled_rate(32, 512) == 2.5e-3
    assert scaled_rate(8, 1024) == pytest.approx(6.25e-4)
    assert scaled_rate(4096, 64) == 0.01
    with pytest.raises(ValueError, match="batch is 0"):
        scaled_rate(0, 64)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"micro_batch": 3}, "multiple of 1 processes times 3"), ({"world": World(size=3)}, "3 processes")],
)
def test_a_batch_that_does_not_divide_is_refused(tmp_path: Path, options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        trainer(tmp_path, **options)


def test_memory_is_counted_as_it_is() -> None:
    """What autograd really saves at toy size, storage by storage, against the count on tensors without numbers."""
    toy = config("2x128")
    layout = build_layout(toy.make_pattern(), 24, 0, 24)  # type: ignore[attr-defined]
    tensors = LayoutTensors(layout, torch.device("cpu"), torch.bfloat16)
    model = Decoder(toy)  # type: ignore[arg-type]
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t), torch.autocast("cpu", torch.bfloat16):
        cond = torch.zeros(3, 25, DEFAULT_LAYOUT.width)
        torch.stack(codebook_losses(model, torch.zeros(3, 24, BOOKS, dtype=torch.int64), cond, tensors)).mean()
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    real = sum(storage.nbytes() for address, storage in kept.items() if address not in weights)
    counted = saved_bytes(toy, 24, 3, softmax_float32=False)  # type: ignore[arg-type]
    assert counted == pytest.approx(real, rel=0.02)
    assert saved_bytes(toy, 24, 6) == pytest.approx(2 * saved_bytes(toy, 24, 3), rel=0.2)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "frames", "crops"), [("16x1024", 448, 16), ("16x1024", 640, 8), ("6x256", 640, 64)]
)
def test_what_the_documents_advise_fits_a_large_gpu(size: str, frames: int, crops: int) -> None:
    rest = {"num_codebooks": 6, "codebook_size": 1024, "cond_width": DEFAULT_LAYOUT.width, "window_frames": frames}
    big = sized(size, pattern="stack-delay", p=3, **rest)
    assert training_bytes(big, frames, crops) < 0.8 * 139 * 2**30
