"""Training of the decoder: it learns, resumes exactly, shares its work; dropout and optimiser do what they say."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import typer

torch = pytest.importorskip("torch")

from attacca.engine.conditioning import DEFAULT_LAYOUT, ConditioningLayout, full_layout, group_slices  # noqa: E402
from attacca.training.decoder_data import Dropout, TokenSongs, drop  # noqa: E402
from attacca.training.decoder_model import Decoder, sized  # noqa: E402
from attacca.training.decoder_train import (  # noqa: E402
    CHECKPOINT,
    TrainConfig,
    Trainer,
    checkpoint_layout,
    codebook_losses,
    layout_in,
    load_decoder,
    main,
    train,
)
from attacca.training.music.styles import STYLE_NAMES  # noqa: E402
from attacca.training.optimizer import Optimizer, orthogonalise  # noqa: E402

pytestmark = pytest.mark.train
FRAMES, BOOKS, SIZE, WIDTH = 200, 2, 11, DEFAULT_LAYOUT.width


def write_songs(root: Path, songs: int = 3, *, about: str = "{}") -> Path:
    """Codes follow the beat exactly (codebook 0) and the code before (codebook 1): a learnable toy."""
    for split, index in itertools.product(("train", "heldout"), range(songs)):
        (root / "tokens" / split).mkdir(parents=True, exist_ok=True)
        (root / split).mkdir(parents=True, exist_ok=True)
        t = np.arange(FRAMES)
        first = (t + index) // 3 % SIZE
        np.save(
            root / "tokens" / split / f"{index:05d}.npy", np.stack([first, first * 2 % SIZE], 1).astype(np.uint16)
        )
        known = np.ones(FRAMES, dtype=bool)
        np.savez(
            root / split / f"{index:05d}.npz",
            ppq=t / 25.0,
            bar_start_ppq=np.floor(t / 100.0) * 4.0,
            bpm=np.full(FRAMES, 120.0),
            meter_num=np.full(FRAMES, 4, np.int16),
            meter_den=np.full(FRAMES, 4, np.int16),
            pitch_classes=np.zeros((FRAMES, 12), bool),
            instruments=np.ones((FRAMES, 4), bool),
            style=np.full(FRAMES, index, np.int16),
            beat_known=known,
            chord_known=known,
            instruments_known=known,
            style_known=known,
            about=np.array(about),
        )
    return root


def make_trainer(*, layout: ConditioningLayout | None = None, **changes: object) -> Trainer:
    recipe = {"minutes": 1.0, "batch": 4, "crop_frames": 32, "prefixes": (0, 8), "evaluation_crops": 3, **changes}
    config = sized("1x64", num_codebooks=BOOKS, codebook_size=SIZE, cond_width=WIDTH, pattern="stack-delay", p=3,
                   window_frames=32)  # fmt: skip
    return Trainer(config, TrainConfig(**recipe), layout=layout, device="cpu")


def ticks(step_s: float):
    count = itertools.count()
    return lambda: next(count) * step_s


def test_learns_logs_and_resumes(tmp_path: Path) -> None:
    songs = TokenSongs(write_songs(tmp_path), "train")
    trainer = make_trainer(learning_rate=1e-2)
    before = trainer.evaluate(songs)["bits_per_frame"]
    train(trainer, songs, songs, tmp_path / "run", clock=ticks(1.0), say=lambda text: None)
    assert trainer.updates == 60
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert before == pytest.approx(BOOKS * np.log2(SIZE), abs=0.5)
    assert lines[-1]["bits_per_frame"] < before / 2
    again = make_trainer(learning_rate=1e-2)
    again.load(tmp_path / "run" / CHECKPOINT)
    assert (again.updates, again.elapsed_s, again.history) == (60, 60.0, trainer.history)
    assert again.update(songs) == trainer.update(songs)
    for one, other in zip(again.model.parameters(), trainer.model.parameters(), strict=True):
        assert torch.equal(one, other)
    exported = load_decoder(tmp_path / "run" / CHECKPOINT)
    assert exported.config == trainer.model_config and not exported.training


def test_a_number_of_updates_in_place_of_minutes_and_the_same_crops_for_every_pattern(tmp_path: Path) -> None:
    songs = TokenSongs(write_songs(tmp_path), "train")
    drawn: dict[str, list[np.ndarray]] = {}
    for pattern in ("stack-delay", "flat"):
        config = sized("1x64", num_codebooks=BOOKS, codebook_size=SIZE, cond_width=WIDTH, pattern=pattern,
                       p=3 if pattern == "stack-delay" else 1, window_frames=80)  # fmt: skip
        recipe = TrainConfig(updates=7, batch=4, crop_frames=32, prefixes=(0, 8), evaluation_crops=3)
        trainer = Trainer(config, recipe, device="cpu")
        heard = trainer.gradients
        trainer.gradients = lambda model, codes, *rest, h=heard, p=pattern: (  # type: ignore[method-assign]
            drawn.setdefault(p, []).append(codes), h(model, codes, *rest))[1]  # fmt: skip
        train(trainer, songs, songs, tmp_path / pattern, clock=ticks(1000.0), say=lambda text: None)
        assert (trainer.updates, trainer.progress) == (7, 1.0)
    np.testing.assert_array_equal(drawn["stack-delay"], drawn["flat"])


def test_other_sizes_are_refused(tmp_path: Path) -> None:
    trainer = make_trainer()
    trainer.save(tmp_path / CHECKPOINT)
    other = Trainer(sized("2x64", num_codebooks=BOOKS, codebook_size=SIZE, cond_width=WIDTH, pattern="delay", p=1,
                          window_frames=32), TrainConfig(), device="cpu")  # fmt: skip
    with pytest.raises(ValueError, match="asked for"):
        other.load(tmp_path / CHECKPOINT)


def test_helpers_give_the_gradients_of_the_whole_batch(tmp_path: Path) -> None:
    songs = TokenSongs(write_songs(tmp_path), "train")
    alone, shared = make_trainer(clip_norm=1e9), make_trainer(clip_norm=1e9, workers=2)
    try:
        for _ in range(3):
            np.testing.assert_allclose(alone.update(songs), shared.update(songs), rtol=2e-2)
        for one, other in zip(alone.model.parameters(), shared.model.parameters(), strict=True):
            moved = (one - other).detach().abs().max() / one.detach().abs().max().clamp(min=1e-3)
            assert float(moved) < 0.1
    finally:
        shared.close()


def test_a_failing_helper_is_an_error(tmp_path: Path) -> None:
    trainer = make_trainer(workers=2)
    try:
        trainer.helpers[0].start(np.zeros((2, 1)), None, 0, True)
        with pytest.raises(RuntimeError, match="gradient helper failed"):
            trainer.helpers[0].finish()
    finally:
        trainer.close()


def test_crops_carry_the_frame_before(tmp_path: Path) -> None:
    songs = TokenSongs(write_songs(tmp_path), "train")
    codes, cond = songs.crop(1, 10, 5)
    assert codes.shape == (5, BOOKS) and cond.shape == (6, WIDTH)
    np.testing.assert_array_equal(cond, songs.conditioning[1][9:15].astype(np.float32))
    first = songs.crop(1, 0, 5)[1]
    assert not first[0].any() and first[1].any()
    with pytest.raises(ValueError, match="no tokens"):
        TokenSongs(tmp_path, "nowhere")


def test_crops_at_switches_join_where_players_change(tmp_path: Path) -> None:
    root = write_songs(tmp_path)
    for path in (root / "train").glob("*.npz"):
        with np.load(path) as labels:
            values = dict(labels)
        values["instruments"][90:, 1] = False
        np.savez(path, **values)
    (root / "tokens" / "train" / "00001.level1.npy").write_bytes(
        (root / "tokens" / "train" / "00001.npy").read_bytes()
    )
    songs = TokenSongs(root, "train")
    assert len(songs.codes) == 4 and songs.switches == [(song, 90) for song in range(4)]
    players = group_slices(songs.layout)["instruments"]
    rng = np.random.default_rng(0)
    for prefix in (12, 0):
        cond = songs.batch(rng, 16, 40, prefix=prefix, at_switches=1.0)[1][:, 1:, players]
        changed = (cond[:, 1:] != cond[:, :-1]).any(2)
        assert (changed.sum(1) == 1).all()
        if prefix:
            assert (changed.argmax(1) + 1 == prefix).all()
    codes, cond = songs.batch(rng, 64, 60, prefix=12, at_switches=1.0)
    late = (codes < 0).all(2).sum(1)
    assert (late > 0).mean() == pytest.approx(0.5, abs=0.2)
    for part, players_of, count in zip(codes, cond[:, 1:, players], late, strict=True):
        assert (part[12 : 12 + count] < 0).all() and (np.delete(part, np.s_[12 : 12 + count], 0) >= 0).all()
        assert (players_of[12:] == players_of[12]).all() and (players_of[:12] != players_of[12]).any(1).all()
        heard = np.where(part < 0, ~part, part)
        begin = 90 - 12 - count
        assert any(np.array_equal(heard, song[begin : begin + 60]) for song in songs.codes)
    anywhere = songs.batch(rng, 64, 40)[1][:, 1:, players]
    assert (anywhere[:, 1:] == anywhere[:, :-1]).all((1, 2)).any()


def test_crops_from_rollouts_hear_the_take_and_learn_the_song(tmp_path: Path) -> None:
    root = write_songs(tmp_path)
    (root / "tokens" / "rollouts").mkdir()
    songs = TokenSongs(root, "train")
    length = len(songs.codes[1])
    take = (songs.codes[1][50 : length - 10] + 1) % SIZE
    np.savez(root / "tokens" / "rollouts" / "00001.npz", codes=take.astype(np.uint16), first=50)
    songs = TokenSongs(root, "train")
    ((song, first, own),) = songs.rollouts
    assert (song, first) == (1, 50) and np.array_equal(own, take[: length - 64 - 50])
    rng = np.random.default_rng(0)
    for prefix in (0, 12):
        codes, cond = songs.batch(rng, 64, 90, prefix=prefix, from_rollouts=1.0)
        heard = np.where(codes < 0, ~codes, codes)
        known = songs.conditioning[1].astype(np.float32)
        lengths = set()
        for part, marked, rows in zip(heard, codes < 0, cond, strict=True):
            tail = part[-20:]  # bars are all commanded alike: codes tell where
            starts = [s for s in range(length - 89) if np.array_equal(songs.codes[1][s + 70 : s + 90], tail)]
            (start,) = (s for s in starts if np.array_equal(known[s : s + 90], rows[1:]))
            real = (part == songs.codes[1][start : start + 90]).all(1)
            rolled = np.flatnonzero(~real)
            assert len(rolled) and np.array_equal(part[rolled], take[start + rolled - 50])
            assert (np.diff(rolled) == 1).all() and rolled[0] == max(50 - start, 0)
            assert np.array_equal(np.flatnonzero(marked.all(1)), np.arange(prefix, rolled[-1] + 1))
            assert np.array_equal(marked.all(1), marked.any(1)) and not marked[rolled[-1] + 1 :].any()
            assert rolled[-1] < 60
            lengths.add(len(rolled))
        assert len(lengths) > 10
    short = songs.batch(rng, 64, 15, prefix=3, from_rollouts=1.0)[0]
    assert ((short < 0).all(2).sum(1) <= 7).all() and (short[:, 10:] >= 0).all()
    assert (songs.batch(rng, 64, 90, prefix=12)[0] >= 0).all()


def test_what_is_heard_late_is_not_learned(tmp_path: Path) -> None:
    trainer = make_trainer()
    layout = trainer.layouts.get(8, True)
    codes = torch.randint(0, SIZE, (2, 32, BOOKS))
    cond = torch.randn(2, 33, WIDTH)
    marked = codes.clone()
    marked[:, 8:20] = ~marked[:, 8:20]
    other = marked.clone()
    other[:, 24] = (codes[:, 24] + 1) % SIZE
    whole, part, changed = (
        [float(loss.detach()) for loss in codebook_losses(trainer.model, given, cond, layout)]
        for given in (codes, marked, other)
    )
    outputs = trainer.model.forward_layout(codes, cond, layout)
    for k, (rows, times) in enumerate(zip(layout.target_rows, layout.target_timesteps, strict=True)):
        learned = times >= 20
        logits = trainer.model.logits(outputs[:, rows][:, learned], k).float().flatten(0, 1)
        wanted = torch.nn.functional.cross_entropy(logits, codes[:, times[learned], k].flatten())
        assert part[k] == pytest.approx(float(wanted), rel=1e-5) and part[k] != whole[k] != changed[k]


def test_a_run_begins_at_the_weights_of_another_pattern(tmp_path: Path) -> None:
    songs = TokenSongs(write_songs(tmp_path), "train")
    taught = make_trainer(learning_rate=1e-2, updates=40)
    train(taught, songs, songs, tmp_path / "run", say=lambda text: None)
    config = sized("1x64", num_codebooks=BOOKS, codebook_size=SIZE, cond_width=WIDTH, pattern="stack-delay", p=1,
                   window_frames=32)  # fmt: skip
    fresh, goes_on = (Trainer(config, taught.config, device="cpu") for _ in range(2))
    goes_on.begin_at(tmp_path / "run" / CHECKPOINT)
    assert goes_on.updates == 0
    for name, weight in goes_on.model.state_dict().items():
        assert torch.equal(weight, taught.ema[name]) and torch.equal(goes_on.ema[name], taught.ema[name])
    assert goes_on.evaluate(songs)["bits_per_frame"] < 0.8 * fresh.evaluate(songs)["bits_per_frame"]


def test_styles_are_named_where_the_songs_composer_is_known(tmp_path: Path) -> None:
    named = TokenSongs(write_songs(tmp_path / "v1", about='{"composer": "v1"}'), "train").layout
    assert (named.styles, named.groups) == (STYLE_NAMES, DEFAULT_LAYOUT.groups)
    assert TokenSongs(write_songs(tmp_path / "other"), "train").layout == DEFAULT_LAYOUT
    few = full_layout(8)
    songs = TokenSongs(tmp_path / "v1", "train", layout=few)
    assert songs.layout == few and songs.crop(0, 3, 5)[1].shape == (6, few.width)


def test_a_checkpoint_remembers_its_conditioning_and_an_old_one_is_known_by_its_width(tmp_path: Path) -> None:
    songs = TokenSongs(write_songs(tmp_path, about='{"composer": "v1"}'), "train")
    trainer = make_trainer(layout=songs.layout)
    trainer.save(tmp_path / CHECKPOINT)
    assert layout_in(tmp_path / CHECKPOINT) == songs.layout
    values = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    del values["conditioning"]
    assert checkpoint_layout(values) == DEFAULT_LAYOUT
    assert checkpoint_layout({"config": {"cond_width": 43}}) == full_layout(8)
    with pytest.raises(ValueError, match="layout has 43 columns, the decoder 51"):
        make_trainer(layout=full_layout(8))


def test_the_command_goes_on_with_a_checkpoint_of_fewer_styles(tmp_path: Path) -> None:
    data, run = write_songs(tmp_path), tmp_path / "run"
    config = sized("1x64", num_codebooks=BOOKS, codebook_size=SIZE, cond_width=43, pattern="delay", p=1,
                   window_frames=35)  # fmt: skip
    recipe = TrainConfig(updates=2, batch=1, crop_frames=35, prefixes=(0,))
    run.mkdir()
    Trainer(config, recipe, device="cpu").save(run / CHECKPOINT)
    arguments = {"data": data, "run": run, "size": "1x64", "pattern": "delay", "codebook-size": SIZE, "updates": 2,
                 "batch": 1, "crop-frames": 35, "workers": 1}  # fmt: skip
    app = typer.Typer()
    app.command()(main)
    app([part for name, value in arguments.items() for part in (f"--{name}", str(value))], standalone_mode=False)
    assert layout_in(run / CHECKPOINT) == full_layout(8)
    assert torch.load(run / CHECKPOINT, weights_only=True)["updates"] == 2


def test_dropout_drops_what_it_says() -> None:
    rng = np.random.default_rng(0)
    cond = np.ones((2000, 9, WIDTH), dtype=np.float32)
    shares = {"everything": 0.1, "group": 0.2, "group_in_prefix": 0.3, "instruments_in_prefix": 0.6, "bos": 0.0}
    dropped = drop(cond, 4, Dropout(**shares), rng, DEFAULT_LAYOUT)
    assert (cond == 1.0).all()
    for name, columns in group_slices(DEFAULT_LAYOUT).items():
        late, early = dropped[:, 5:, columns], dropped[:, :5, columns]
        assert (late == late[:, :1, :1]).all() and (early == early[:, :1, :1]).all()
        assert np.mean(late[:, 0, 0] == 0) == pytest.approx(1 - 0.9 * 0.8, abs=0.04), name
        kept = 0.4 if name == "instruments" else 0.7
        assert np.mean(early[:, 0, 0] == 0) == pytest.approx(1 - 0.9 * 0.8 * kept, abs=0.04), name
    beat, tempo = (dropped[:, :, group_slices(DEFAULT_LAYOUT)[name].start] for name in ("beat", "tempo"))
    np.testing.assert_array_equal(beat, tempo)
    bos = drop(cond, 0, Dropout(everything=0, group=0, group_in_prefix=0, instruments_in_prefix=0, bos=1.0), rng,
               DEFAULT_LAYOUT)  # fmt: skip
    assert not bos[:, 0].any() and bos[:, 1:].all()


def test_orthogonalise() -> None:
    torch.manual_seed(0)
    for shape in ((40, 24), (24, 40)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)).float())
        assert float(values.min()) > 0.5 and float(values.max()) < 1.4


def test_every_weight_is_optimised_once() -> None:
    model = Decoder(make_trainer().model_config)
    for muon in (True, False):
        optimizer = Optimizer(model, lr=0.1, weight_decay=0.0, muon=muon)
        held = [weight for part in optimizer.parts for group in part.param_groups for weight in group["params"]]
        assert {id(weight) for weight in held} == {id(weight) for weight in model.parameters()}
        assert len(held) == len(list(model.parameters()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"minutes": 0.0}, "minutes"),
        ({"updates": -1}, "updates"),
        ({"learning_rate": 2.0}, "learning_rate"),
        ({"workers": 3, "batch": 4}, "workers"),
        ({"prefixes": (224,)}, "prefixes"),
    ],
)
def test_bad_recipes_are_named(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(**changes)
